"""How jobs, tasks and nodes look in a table and as a sheet."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from planetmesh.cli.output import Column, Shape
from planetmesh.client.pace import show_seconds
from planetmesh.model.job import JobState, TaskState
from planetmesh.model.node import NodeState
from planetmesh.model.resources import show_resources, show_size
from planetmesh.wire.api import JobView, NodeView, TaskCode, TaskView

_COLOURS = {
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
    JobState.PARTIALLY_COMPLETED: "yellow",
    JobState.RUNNING: "cyan",
    JobState.CANCELLED: "yellow",
    NodeState.HEALTHY: "green",
    NodeState.SUSPECT: "yellow",
    NodeState.OFFLINE: "red",
    TaskState.RETRYING: "yellow",
    TaskState.ASSIGNED: "cyan",
}

MINUTE_SECONDS = 60


def colour(state: str) -> str:
    """A terminal's colour for a state's word."""
    return next((name for known, name in _COLOURS.items() if known.value == state), "")


def parse_time(text: str | None) -> datetime | None:
    """A time of the API; None for none, or for what is no time."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def show_time(text: str | None) -> str:
    """In this machine's zone, for people."""
    at = parse_time(text)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else "-"


def show_brief_time(text: str | None) -> str:
    """The time of today, the day of this year, else the date."""
    at, now = parse_time(text), datetime.now(UTC).astimezone()
    if at is None:
        return "-"
    at = at.astimezone()
    return at.strftime("%H:%M" if at.date() == now.date() else "%m-%d" if at.year == now.year else "%Y-%m-%d")


def show_between(start: str | None, end: str | None) -> str:
    """How long from one time to another, or until now."""
    begun = parse_time(start)
    if begun is None:
        return "-"
    seconds = max(0.0, ((parse_time(end) or datetime.now(UTC)) - begun).total_seconds())
    return _show_length(seconds)


def _show_length(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds < MINUTE_SECONDS else show_seconds(seconds)


def show_exit(code: int | None) -> str:
    """An exit code, for people."""
    return "-" if code is None else str(code)


def noun_of(job: JobView, number: int = 2) -> str:
    """What a job's counters count: tasks, or inputs where chunks are cut as they are placed."""
    noun = "input" if job.counts_inputs else "task"
    return noun if number == 1 else f"{noun}s"


def show_tasks(job: JobView) -> str:
    """`120/200, 3 failed`: what a cancellation dropped was not done."""
    counts = job.tasks
    done = counts.completed + counts.failed
    noun = " inputs" if job.counts_inputs else ""
    return f"{done}/{counts.total}{noun}" + (f", {counts.failed} failed" if counts.failed else "")


JOBS = Shape[JobView](
    (
        Column("JOB", lambda job: job.id),
        Column("NAME", lambda job: job.name or "-", drop=3, most=30),
        Column("STATUS", lambda job: job.status, style=lambda job: colour(job.status)),
        Column("TASKS", show_tasks, right=True, drop=1),
        Column(
            "CREATED",
            lambda job: show_time(job.created_at),
            brief=lambda job: show_brief_time(job.created_at),
            drop=4,
        ),
        Column("TIME", lambda job: show_between(job.started_at, job.completed_at), right=True, drop=2),
    ),
    key=lambda job: job.id,
    empty="There are no jobs yet. Try: planetmesh run hostname",
)

TASKS = Shape[TaskView](
    (
        Column("TASK", lambda task: str(task.index), right=True),
        Column("STATUS", lambda task: task.status, style=lambda task: colour(task.status)),
        Column("NODE", lambda task: task.node or "-", most=40),
        Column("ATTEMPTS", lambda task: str(task.attempts), right=True, drop=4),
        Column("EXIT", lambda task: show_exit(task.exit_code), right=True, drop=2),
        Column("TIME", lambda task: show_between(task.started_at, task.finished_at), right=True, drop=3),
        Column("INPUT", lambda task: task.payload if task.payload is not None else "-", drop=1, most=40),
        Column("ERROR", lambda task: task.last_error or "", long=True),
    ),
    key=lambda task: task.id,
    empty="There are no such tasks.",
)


TASKS_WITH_FILES = Shape[TaskView](
    (
        *TASKS.columns[:-2],
        Column("FILES", lambda task: show_files(task) or "-", right=True, drop=2),
        *TASKS.columns[-2:],
    ),
    key=TASKS.key,
    empty=TASKS.empty,
)


def show_files(task: TaskView) -> str:
    """`3, 1.2 MiB`: what it brought back."""
    return f"{task.files}, {show_size(task.files_bytes)}" if task.files else ""


def codes_of(job_id: str) -> Shape[TaskCode]:
    """How the tasks of one job ended."""
    return Shape(
        (
            Column("TASK", lambda code: str(code.index), right=True),
            Column("STATUS", lambda code: code.status, style=lambda code: colour(code.status)),
            Column("EXIT", lambda code: show_exit(code.exit_code), right=True),
            Column("NODE", lambda code: code.node or "-", drop=2, most=40),
            Column("ATTEMPTS", lambda code: str(code.attempts), right=True, drop=4),
            Column("TIME", lambda code: _show_length(code.seconds), right=True, drop=3),
            Column("INPUT", lambda code: code.input if code.input is not None else "-", drop=1, most=40),
            Column("ERROR", lambda code: code.error or "", long=True),
        ),
        key=lambda code: f"{job_id}/{code.index}",
    )


class CodeCount(NamedTuple):
    """How many tasks ended so."""

    status: TaskState
    exit_code: int | None
    tasks: int


CODE_COUNTS = Shape[CodeCount](
    (
        Column("STATUS", lambda each: each.status, style=lambda each: colour(each.status)),
        Column("EXIT", lambda each: show_exit(each.exit_code), right=True),
        Column("TASKS", lambda each: str(each.tasks), right=True),
    ),
    key=lambda each: show_exit(each.exit_code),
)


def reason_of(task: TaskView) -> str:
    """`on desk: exit code 3`: where the task last was, and what is known of its failure."""
    if not task.node:
        return task.last_error or task.status
    reason = (task.last_error or task.status).removeprefix(f"{task.node}: ")
    # The node stands in front already.
    reason = re.sub(rf" on {re.escape(task.node)}(?=\.| \()", "", reason, count=1)
    return f"on {task.node}: {reason}"


def node_word(node: NodeView) -> str:
    """The state; of one that is well but drained that, as in the dashboard."""
    return "draining" if node.draining and node.state is NodeState.HEALTHY else node.state


NODES = Shape[NodeView](
    (
        Column("NAME", lambda node: node.name, most=40),
        Column("STATE", node_word, style=lambda node: colour(node.state)),
        Column("CPUS", lambda node: f"{node.offer_cpus or node.cpus:g}", right=True, drop=4),
        Column(
            "MEMORY", lambda node: show_size(node.offer_memory_bytes or node.memory_bytes), right=True, drop=6
        ),
        Column("GPUS", lambda node: str(len(node.gpus) or "-"), right=True, drop=7),
        Column("RUNNING", lambda node: str(node.running), right=True, drop=1),
        Column("LOAD", lambda node: "-" if node.load is None else f"{node.load:.0%}", right=True, drop=2),
        Column(
            "RTT", lambda node: "-" if node.rtt_ms is None else f"{node.rtt_ms:.1f} ms", right=True, drop=5
        ),
        Column("SANDBOX", lambda node: node.sandbox.tier, drop=8, most=30),
        Column("TAGS", lambda node: ",".join(node.tags) or "-", drop=3, most=80),
        Column("NOTE", lambda node: node.note, long=True),
    ),
    key=lambda node: node.name,
    empty="There are no nodes yet. On each machine: planetmesh up",
)


def job_sheet(job: JobView, command: str) -> list[tuple[str, str]]:
    """All that is known of one job."""
    counts = job.tasks
    states = ("queued", "assigned", "running", "retrying", "completed", "failed", "cancelled")
    parts = [f"{getattr(counts, state)} {state}" for state in states if getattr(counts, state)]
    lines = [
        ("id", job.id),
        ("name", job.name),
        ("type", job.type),
        ("command", command),
        ("status", job.status),
        (noun_of(job), f"{counts.total}: {', '.join(parts)}"),
        ("priority", str(job.priority) if job.priority else ""),
        ("asks for", _requests(job)),
        ("submitter", job.submitter_name or job.submitter),
        ("created", show_time(job.created_at)),
        ("started", show_time(job.started_at)),
        ("ended", show_time(job.completed_at)),
        ("time", show_between(job.started_at, job.completed_at)),
        ("waiting", job.waiting),
        ("error", job.error),
        ("cancelled", job.cancel_reason),
    ]
    return [(title, text) for title, text in lines if text not in {"", "-"}]


def task_sheet(task: TaskView) -> list[tuple[str, str]]:
    """All that is known of one task."""
    lines = [
        ("id", task.id),
        ("status", task.status),
        ("input", task.payload or ""),
        ("node", task.node or ""),
        ("attempts", str(task.attempts)),
        ("exit code", "" if task.exit_code is None else str(task.exit_code)),
        ("started", show_time(task.started_at)),
        ("ended", show_time(task.finished_at)),
        ("time", show_between(task.started_at, task.finished_at)),
        ("files", show_files(task)),
        ("error", task.last_error or ""),
    ]
    return [(title, text) for title, text in lines if text not in {"", "-"}]


def _requests(job: JobView) -> str:
    if job.spec is None:
        return ""
    wants = job.spec.requests
    return ", ".join([show_resources(wants), *(f"tag {tag}" for tag in job.spec.tags)])
