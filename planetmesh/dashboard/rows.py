"""Nodes, jobs and tasks as rows: what each column shows, how it is sorted, how wide it is. Pure.

Columns have fixed widths, so nothing jumps while numbers change; on a narrow screen whole columns go, the
highest `drop` first. What is typed behind `/` filters rows by `matches`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, TypeVar

from planetmesh.client.pace import show_left, show_rate
from planetmesh.dashboard.meter import ended_of
from planetmesh.dashboard.plain import (
    BAD,
    BUSY,
    DIM,
    GOOD,
    WARN,
    Cell,
    bar,
    cell,
    plain,
    seconds_since,
    show_ago,
    show_between,
    spark,
    state_cell,
)
from planetmesh.dashboard.snapshot import Snapshot, is_over
from planetmesh.model.job import JobState
from planetmesh.model.node import NodeState
from planetmesh.model.resources import show_size
from planetmesh.wire.api import JobView, NodeView, TaskView

GAP = 2
LOAD_HIGH, LOAD_FULL = 0.7, 0.95
RELIABLE, UNRELIABLE = 0.95, 0.7
SPARK_WIDTH = 12

T = TypeVar("T")


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column."""

    title: str
    show: Callable[[T, Snapshot], Cell]
    width: int
    """At least so wide."""
    key: Callable[[T, Snapshot], Any]
    """What rows are sorted by."""
    most: int = 0
    """May grow to this where there is room; 0: it stays as it is."""
    drop: int = 0
    """Where there is too little room the highest goes first; 0 stays."""
    right: bool = False
    falls: bool = False
    """Sorted by it, the greatest comes first."""


def lay_out(columns: Sequence[Column[T]], width: int) -> list[tuple[Column[T], int]]:
    """The columns that fit, with their widths; what is left goes to what may grow, most to what may most."""
    kept = list(columns)
    while _total(kept) > width and any(each.drop for each in kept):
        kept.remove(max(kept, key=lambda each: each.drop))
    widths = {id(each): each.width for each in kept}
    for _ in range(width - _total(kept)):
        hungry = [each for each in kept if widths[id(each)] < each.most]
        if not hungry:
            break
        next_one = min(
            hungry, key=lambda each: (widths[id(each)] - each.width + 1) / (each.most - each.width)
        )
        widths[id(next_one)] += 1
    return [(each, widths[id(each)]) for each in kept]


def _total(columns: Sequence[Column[T]]) -> int:
    return sum(each.width for each in columns) + GAP * max(0, len(columns) - 1)


# Nodes


def node_state(node: NodeView) -> Cell:
    """`HEALTHY`, or `HEALTHY, draining`."""
    return (*state_cell(node.state), (", draining", WARN)) if node.draining else state_cell(node.state)


def _state(node: NodeView) -> Cell:
    """In a narrow column "HEALTHY …" would hide the one thing that matters."""
    is_well = node.state is NodeState.HEALTHY
    return (("draining", WARN),) if node.draining and is_well else state_cell(node.state)


def share_tone(share: float) -> str:
    return BAD if share >= LOAD_FULL else WARN if share >= LOAD_HIGH else GOOD


def _load(node: NodeView, _snapshot: Snapshot) -> Cell:
    if node.load is None:
        return cell("-", DIM)
    return (*bar(node.load, 6, share_tone(node.load)), (f"{node.load:>5.0%}", ""))


def memory_share(node: NodeView) -> float | None:
    """How much of its memory is in use."""
    if node.memory_free_bytes is None or not node.memory_bytes:
        return None
    return max(0.0, 1 - node.memory_free_bytes / node.memory_bytes)


def _memory(node: NodeView, _snapshot: Snapshot) -> Cell:
    share = memory_share(node)
    size = show_size(node.memory_bytes).replace(".0 ", " ") if node.memory_bytes else "-"
    return cell(size, DIM) if share is None else ((f"{share:>4.0%}", share_tone(share)), (f" of {size}", DIM))


def _gpus(node: NodeView, _snapshot: Snapshot) -> Cell:
    if not node.gpus:
        return cell("-", DIM)
    count = f"{len(node.gpus)}× " if len(node.gpus) > 1 else ""
    return cell(count + node.gpus[0].name)


def _running(node: NodeView, _snapshot: Snapshot) -> Cell:
    ahead = ((f"+{node.backlog}", DIM),) if node.backlog else ()
    return ((str(node.running), BUSY if node.running else DIM), *ahead)


def _rtt(node: NodeView, _snapshot: Snapshot) -> Cell:
    return cell("-", DIM) if node.rtt_ms is None else cell(f"{node.rtt_ms:.1f}ms")


def reliability(node: NodeView) -> Cell:
    tone = BAD if node.reliability < UNRELIABLE else WARN if node.reliability < RELIABLE else ""
    return cell(f"{node.reliability:.0%}", tone)


def _seen(node: NodeView, snapshot: Snapshot) -> Cell:
    seconds = seconds_since(node.last_heartbeat_at, snapshot.at)
    return cell(show_ago(seconds), WARN if seconds is None or seconds > 10 else DIM)


def _activity(node: NodeView, snapshot: Snapshot) -> Cell:
    return ((spark(snapshot.loads.get(node.id, ()), SPARK_WIDTH, 1.0), BUSY),)


def _sandbox(node: NodeView, _snapshot: Snapshot) -> Cell:
    return cell(node.sandbox.tier, "" if node.sandbox.proven else WARN)


NODES: tuple[Column[NodeView], ...] = (
    Column("NAME", lambda node, _: cell(node.name), 12, lambda node, _: node.name.casefold(), most=28),
    Column("STATE", lambda node, _: _state(node), 9, lambda node, _: node.state, most=16),
    Column("RUN", _running, 5, lambda node, _: node.running, right=True, falls=True),
    Column("LOAD", _load, 11, lambda node, _: node.load or 0.0, falls=True, drop=1),
    Column("MEMORY", _memory, 16, lambda node, _: memory_share(node) or 0.0, falls=True, drop=8),
    Column("GPU", _gpus, 6, lambda node, _: len(node.gpus), most=24, falls=True, drop=7),
    Column("RTT", _rtt, 7, lambda node, _: node.rtt_ms or 0.0, right=True, falls=True, drop=3),
    Column("REL", lambda node, _: reliability(node), 4, lambda node, _: node.reliability, right=True, drop=5),
    Column("SEEN", _seen, 5, lambda node, _: node.last_heartbeat_at or "", right=True, drop=2),
    Column("ACTIVITY", _activity, SPARK_WIDTH, lambda node, _: node.load or 0.0, falls=True, drop=9),
    Column("SANDBOX", _sandbox, 13, lambda node, _: node.sandbox.tier, drop=10),
    Column(
        "TAGS", lambda node, _: cell(",".join(node.tags), DIM), 10, lambda node, _: node.tags, most=40, drop=6
    ),
)


def node_matches(node: NodeView, words: str) -> bool:
    draining = "draining" if node.draining else ""
    return _has(words, node.name, node.state, node.hostname, node.id, draining, *node.tags)


# Jobs


def job_name(job: JobView, most: int = 200) -> str:
    """What it is called; one without a name by its id, which is what one types."""
    return plain(job.name, most) or job.id


def _job_name(job: JobView, _snapshot: Snapshot) -> Cell:
    return cell(job_name(job), "" if job.name else DIM)


def job_status(job: JobView) -> Cell:
    if job.paused and not is_over(job):
        return (*state_cell(job.status), (" paused", WARN))
    return state_cell(job.status)


def done_of(job: JobView) -> int:
    """What was done, well or badly: what was dropped by a cancellation was not."""
    return job.tasks.completed + job.tasks.failed


def job_share(job: JobView) -> float:
    return done_of(job) / job.tasks.total if job.tasks.total else 1.0


def job_tone(job: JobView) -> str:
    if job.tasks.failed:
        return BAD
    if job.status is JobState.CANCELLED:
        return WARN
    return GOOD if is_over(job) else BUSY


def _progress(job: JobView, _snapshot: Snapshot) -> Cell:
    share = job_share(job)
    return (*bar(share, 7, job_tone(job)), (f"{int(share * 100):>4}%", ""))


def _done(job: JobView, _snapshot: Snapshot) -> Cell:
    return cell(f"{_brief(done_of(job))}/{_brief(job.tasks.total)}")


def _brief(count: int) -> str:
    """Five letters at most, never more than there are: a number that is cut off would be another number."""
    if count < 100_000:
        return str(count)
    return f"{count // 1000}k" if count < 1_000_000 else f"{count // 100_000 / 10:.1f}M"


def _failed(job: JobView, _snapshot: Snapshot) -> Cell:
    return cell(str(job.tasks.failed), BAD) if job.tasks.failed else cell("-", DIM)


def pace_of(job: JobView, snapshot: Snapshot) -> float:
    return 0.0 if is_over(job) else snapshot.paces.get(job.id, 0.0)


def _rate(job: JobView, snapshot: Snapshot) -> Cell:
    pace = pace_of(job, snapshot)
    return cell(show_rate(pace)) if pace else cell("-", DIM)


def seconds_left(job: JobView, snapshot: Snapshot) -> float | None:
    """Nothing if it cannot be told, as where none of its tasks runs."""
    pace = pace_of(job, snapshot)
    left = job.tasks.total - ended_of(job.tasks)
    moves = job.tasks.running or job.tasks.assigned
    return left / pace if pace and left and moves else None


def time_left(job: JobView, snapshot: Snapshot) -> str:
    """`0:06`; nothing if it cannot be told."""
    seconds = seconds_left(job, snapshot)
    return "" if seconds is None else show_left(seconds)


def _by_time_left(job: JobView, snapshot: Snapshot) -> float:
    seconds = seconds_left(job, snapshot)
    return inf if seconds is None else seconds


def _left(job: JobView, snapshot: Snapshot) -> Cell:
    shown = time_left(job, snapshot)
    return cell(shown) if shown else cell("-", DIM)


def _age(job: JobView, snapshot: Snapshot) -> Cell:
    return cell(show_ago(seconds_since(job.created_at, snapshot.at)), DIM)


def _time(job: JobView, snapshot: Snapshot) -> Cell:
    return cell(show_between(job.started_at, job.completed_at, snapshot.at) or "-")


_ORDER = {state: number for number, state in enumerate(("RUNNING", "QUEUED", "FAILED"))}

JOBS: tuple[Column[JobView], ...] = (
    Column("AGE", _age, 4, lambda job, _: (job.created_at, job.id), right=True, falls=True, drop=5),
    Column("JOB", lambda job, _: cell(job.id), 10, lambda job, _: job.id, drop=8),
    Column("NAME", _job_name, 13, lambda job, _: job_name(job).casefold(), most=40),
    Column("STATUS", lambda job, _: job_status(job), 9, lambda job, _: _ORDER.get(job.status, 9), most=19),
    Column("PROGRESS", _progress, 12, lambda job, _: job_share(job), falls=True, drop=1),
    Column(
        "DONE", _done, 11, lambda job, _: done_of(job), right=True, falls=True, drop=4
    ),
    Column("FAILED", _failed, 6, lambda job, _: job.tasks.failed, right=True, falls=True, drop=2),
    Column("RATE", _rate, 7, pace_of, right=True, falls=True, drop=7),
    Column("LEFT", _left, 7, _by_time_left, right=True, drop=3),
    Column("TIME", _time, 8, lambda job, _: job.started_at or "", right=True, drop=9),
    Column("PRIO", lambda job, _: cell(str(job.priority), "" if job.priority else DIM), 5,
           lambda job, _: job.priority, right=True, falls=True, drop=10),
    Column("TYPE", lambda job, _: cell(job.type, DIM), 8, lambda job, _: job.type, most=14, drop=11),
)  # fmt: skip


def job_matches(job: JobView, words: str) -> bool:
    paused = "paused" if job.paused else ""
    return _has(words, job.id, job.name, job.status, job.type, job.submitter, paused)


# Tasks

TASKS: tuple[Column[TaskView], ...] = (
    Column("TASK", lambda task, _: cell(str(task.index)), 7, lambda task, _: task.index, right=True),
    Column("STATUS", lambda task, _: state_cell(task.status), 9, lambda task, _: task.status),
    Column("NODE", lambda task, _: cell(task.node or "-", "" if task.node else DIM), 10,
           lambda task, _: task.node or "", most=16),
    Column("ATTEMPTS", lambda task, _: cell(str(task.attempts), WARN if task.attempts > 1 else DIM), 8,
           lambda task, _: task.attempts, right=True, falls=True, drop=5),
    Column("EXIT", lambda task, _: cell("-" if task.exit_code is None else str(task.exit_code),
                                        BAD if task.exit_code else DIM), 4,
           lambda task, _: task.exit_code or 0, right=True, falls=True, drop=3),
    Column("TIME", lambda task, snap: cell(show_between(task.started_at, task.finished_at, snap.at) or "-"),
           8, lambda task, _: task.started_at or "", right=True, drop=4),
    Column("INPUT", lambda task, _: cell(task.payload or "", DIM), 10, lambda task, _: task.payload or "",
           most=24, drop=6),
    Column("ERROR", lambda task, _: cell(task.last_error or "", BAD), 12,
           lambda task, _: task.last_error or "", most=120, drop=1),
)  # fmt: skip


def task_matches(task: TaskView, words: str) -> bool:
    texts = (task.node, task.payload, task.last_error)
    return _has(words, str(task.index), task.status, *(text or "" for text in texts))


# Filter and sort


def _has(words: str, *texts: str) -> bool:
    """Each of the words stands in one of the texts."""
    folded = [plain(text).casefold() for text in texts]
    return all(any(word in text for text in folded) for word in words.casefold().split())


def arrange(
    things: Sequence[T],
    snapshot: Snapshot,
    column: Column[T] | None,
    *,
    turned: bool = False,
    words: str = "",
    matches: Callable[[T, str], bool] | None = None,
) -> list[T]:
    """What is left of them after the filter, sorted by a column; without one in the order they have."""
    found = [thing for thing in things if not words or matches is None or matches(thing, words)]
    if column is not None:
        key = column.key
        found.sort(key=lambda thing: key(thing, snapshot), reverse=column.falls is not turned)
    elif turned:
        found.reverse()
    return found
