"""Sheets of words: the mesh at a glance, one node, one job, one task, why something is as it is. Pure.

Each function gives lines of cells; a widget colours and wraps them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from planetmesh.client.pace import show_rate
from planetmesh.dashboard.alarms import Alarm
from planetmesh.dashboard.plain import (
    BAD,
    BUSY,
    DIM,
    SENTENCE_MOST_LETTERS,
    STATE_TONES,
    STRONG,
    WARN,
    Cell,
    bar,
    cell,
    count_of,
    plain,
    seconds_since,
    show_ago,
    show_between,
    show_clock,
    state_cell,
)
from planetmesh.dashboard.rows import (
    done_of,
    job_name,
    job_share,
    job_status,
    job_tone,
    memory_share,
    node_state,
    pace_of,
    reliability,
    time_left,
)
from planetmesh.dashboard.snapshot import Snapshot, is_over
from planetmesh.model.job import JobState
from planetmesh.model.node import NodeState
from planetmesh.model.resources import show_size
from planetmesh.wire.api import AttemptView, Explanation, FindingView, JobView, NodeView, TaskView

NAME_WIDTH = 22
BAR_LEAST, BAR_MOST = 4, 24
COUNTED = ("queued", "assigned", "running", "retrying", "completed", "failed", "cancelled")


def pairs(lines: Iterable[tuple[str, Cell]], width: int = 0) -> list[Cell]:
    """A title and what belongs to it, one a line; empty ones are left out."""
    shown = [(title, what) for title, what in lines if any(text for text, _tone in what)]
    width = max([width, *(len(title) for title, _what in shown)])
    return [((f"{title:<{width}}  ", DIM), *what) for title, what in shown]


# The overview


def mesh_lines(snapshot: Snapshot) -> list[Cell]:
    status = snapshot.status
    if status is None:
        return [cell("not reached yet", DIM)]
    queue = count_of(snapshot.queued, "task")
    return [
        (*cell(status.mesh, STRONG, NAME_WIDTH), (f"  {plain(status.mesh_id[:8])}", DIM)),
        cell(status.fingerprint),
        *pairs(
            (
                ("you are", cell(status.role, WARN if snapshot.is_viewer else "")),
                ("version", cell(status.version)),
                ("queue", ((queue, BUSY if snapshot.queued else DIM),)),
            )
        ),
    ]


def node_count_lines(snapshot: Snapshot) -> list[Cell]:
    counts = Counter(node.state for node in snapshot.nodes)
    draining = sum(node.draining for node in snapshot.nodes)
    cpus = sum(node.offer_cpus for node in snapshot.nodes if node.state is NodeState.HEALTHY)
    # One letter less than elsewhere: at 80 columns the last of them has no more room.
    lines = [_counted(counts[state], state, 4) for state in NodeState]
    lines.append(((f"{draining:>4} ", WARN if draining else DIM), ("draining", DIM)))
    lines.append(((f"{cpus:>4g} ", ""), ("CPU offered" if cpus == 1 else "CPUs offered", DIM)))
    noun = "task running" if snapshot.running == 1 else "tasks running"
    lines.append(((f"{snapshot.running:>4} ", BUSY if snapshot.running else DIM), (noun, DIM)))
    return lines


def job_count_lines(snapshot: Snapshot) -> list[Cell]:
    return [_counted(snapshot.job_counts.get(state, 0), state) for state in JobState]


def _counted(count: int, state: str, digits: int = 5) -> Cell:
    tone = STATE_TONES.get(state, "") if count else DIM
    return ((f"{count:>{digits}} ", tone), (state, tone))


def active_lines(snapshot: Snapshot, width: int, most: int) -> list[Cell]:
    """Jobs that go on, the newest first, with how far they are."""
    active = [job for job in snapshot.jobs if not is_over(job)]
    active.sort(key=lambda job: not job.tasks.running)
    if not active:
        return [cell("Nothing runs. Press s to submit a job, or try: planetmesh run hostname", DIM)]
    lines = [_active(job, snapshot, width) for job in active[:most]]
    if len(active) > most:
        lines[-1] = cell(f"… and {len(active) - most + 1} more: press 3", DIM)
    return lines


def _active(job: JobView, snapshot: Snapshot, width: int) -> Cell:
    """In one line: what has no room goes, the rate first; the bar gets what is left."""
    name = job_name(job, NAME_WIDTH - 1)
    rate, left = pace_of(job, snapshot), time_left(job, snapshot)
    share = f" {int(job_share(job) * 100):>3}%  {done_of(job)}/{job.tasks.total}"
    parts = [(f"  {job.tasks.failed} failed", BAD)] if job.tasks.failed else []
    parts += [("  paused", WARN)] if job.paused else []
    parts += [(f"  {left} left", DIM)] if left else []
    parts += [(f"  {show_rate(rate)}", DIM)] if rate else []
    room = width - NAME_WIDTH - len(share)
    while parts and room - sum(len(text) for text, _ in parts) < BAR_LEAST:
        parts.pop()
    bar_width = max(BAR_LEAST, min(BAR_MOST, room - sum(len(text) for text, _ in parts)))
    shown_name = (name.ljust(NAME_WIDTH), "" if job.name else DIM)
    return (shown_name, *bar(job_share(job), bar_width, job_tone(job)), (share, ""), *parts)


def alarm_lines(alarms: Sequence[Alarm], most: int) -> list[Cell]:
    if not alarms:
        return [cell("All is well.", DIM)]
    lines: list[Cell] = []
    for alarm in alarms[:most]:
        then = ((f"  → {plain(alarm.command)}", BUSY),) if alarm.command else ()
        lines.append((("● ", alarm.tone), (plain(alarm.sentence, SENTENCE_MOST_LETTERS), ""), *then))
    if len(alarms) > most:
        lines.append(cell(f"… and {len(alarms) - most} more", DIM))
    return lines


# One thing


def node_lines(node: NodeView, snapshot: Snapshot) -> list[Cell]:
    """A node in a few lines, the most telling first."""
    memory = memory_share(node)
    used = "" if memory is None else f"{memory:.0%} of {show_size(node.memory_bytes)} memory"
    load = "" if node.load is None else f"load {node.load:.0%}"
    gpus = ", ".join(f"{gpu.name} ({show_size(gpu.memory_bytes)})" for gpu in node.gpus)
    seen = show_ago(seconds_since(node.last_heartbeat_at, snapshot.at))
    system = " ".join(each for each in (node.hostname, node.os, node.arch, node.version) if each)
    facts = [each for each in (f"{node.offer_cpus:g} of {node.cpus} CPUs", load, used, gpus) if each]
    proven = "proven" if node.sandbox.proven else "not proven"
    head = (
        (f"{plain(node.name)}  ", STRONG),
        *node_state(node),
        (f"  seen {seen}  ", DIM),
        *reliability(node),
    )
    lines: list[Cell] = [(*head, (" reliable", DIM)), cell(" · ".join(facts))]
    lines.append(cell(f"{system} · sandbox {node.sandbox.tier}, {proven} · tags {', '.join(node.tags)}", DIM))
    if node.note:
        lines.append(cell(node.note, WARN, SENTENCE_MOST_LETTERS))
    return lines


def counts_cell(job: JobView) -> Cell:
    """`3 failed, 2 running, 5 completed`: only what is there."""
    parts: list[tuple[str, str]] = []
    for word in COUNTED:
        count = getattr(job.tasks, word)
        if count:
            parts += [(", " if parts else "", DIM), (f"{count} {word}", STATE_TONES.get(word.upper(), ""))]
    return tuple(parts)


def job_lines(job: JobView, snapshot: Snapshot, command: str = "") -> list[Cell]:
    """A job in a few lines."""
    rate, left = pace_of(job, snapshot), time_left(job, snapshot)
    took = show_between(job.started_at, job.completed_at, snapshot.at)
    facts = [
        f"priority {job.priority}" if job.priority else "",
        f"took {took}" if took and is_over(job) else f"going on for {took}" if took else "",
        show_rate(rate) if rate else "",
        f"{left} left" if left else "",
        f"handed in {show_clock(job.created_at)}",
    ]
    share = job_share(job)
    noun = "inputs" if job.counts_inputs else "tasks"
    lines: list[Cell] = [
        ((f"{job_name(job)}  ", STRONG), *job_status(job), *(((f"  {job.id}", DIM),) if job.name else ())),
        (
            *bar(share, 10, job_tone(job)),
            (f" {int(share * 100)}%  {done_of(job)}/{job.tasks.total} {noun}: ", ""),
            *counts_cell(job),
        ),
        cell(" · ".join(each for each in facts if each), DIM),
    ]
    if command:
        lines.append((("$ ", DIM), (plain(command, 300), "")))
    for text, tone in ((job.waiting, WARN), (job.error, BAD), (job.cancel_reason, WARN)):
        if text:
            lines.append(cell(text, tone, SENTENCE_MOST_LETTERS))
    return lines


def task_lines(task: TaskView, snapshot: Snapshot) -> list[Cell]:
    took = show_between(task.started_at, task.finished_at, snapshot.at)
    where = f" on {plain(task.node, 60)}" if task.node else ""
    code = "" if task.exit_code is None else f"exit {task.exit_code}"
    attempts = count_of(task.attempts, "attempt") if task.attempts else ""
    facts = " · ".join(each for each in (code, attempts, f"took {took}" if took else "") if each)
    lines: list[Cell] = [
        ((f"task {task.index}{where}  ", STRONG), *state_cell(task.status), (f"  {facts}", DIM))
    ]
    if task.payload:
        lines.append((("input ", DIM), (plain(task.payload, 300), "")))
    if task.last_error:
        lines.append(cell(task.last_error, BAD, SENTENCE_MOST_LETTERS))
    return lines


# Why


def explanation_lines(found: Explanation) -> list[Cell]:
    """Like `planetmesh explain`: how it stands, its attempts, the reasons with the next command each."""
    lines: list[Cell] = [
        (
            (f"{plain(found.subject)} is ", ""),
            *state_cell(found.status),
            (f": {plain(found.summary, SENTENCE_MOST_LETTERS)}.", ""),
        )
    ]
    lines += [_attempt(attempt) for attempt in found.attempts]
    for finding in found.findings:
        lines += _finding(finding)
    return lines


def _attempt(attempt: AttemptView) -> Cell:
    where = f" on {plain(attempt.node)}" if attempt.node else ""
    said = f": {plain(attempt.error, SENTENCE_MOST_LETTERS)}" if attempt.error else "."
    return ((f"  attempt {attempt.attempt}{where} ended as {plain(attempt.outcome)}{said}", DIM),)


def _finding(finding: FindingView) -> list[Cell]:
    about = ((f"{plain(finding.about)}: ", STRONG),) if finding.about else ()
    lines: list[Cell] = [(("  ", ""), *about, (plain(finding.sentence, SENTENCE_MOST_LETTERS), ""))]
    if finding.hint:
        lines.append(((f"      → {plain(finding.hint)}", BUSY),))
    return lines
