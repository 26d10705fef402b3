"""A job's tasks counted by the machine that they are or were on. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from planetmesh.dashboard.plain import BAD, BUSY, DIM, GOOD, cell, parse_time
from planetmesh.dashboard.rows import Column
from planetmesh.model.job import TaskState
from planetmesh.wire.api import TaskView


class Tally(msgspec.Struct):
    """Of one machine; an empty name: tasks that are on none."""

    node: str
    completed: int = 0
    failed: int = 0
    live: int = 0
    seconds: float = 0.0
    """Of its completed tasks together."""
    error: str = ""
    """What went wrong last."""


def tally_of(tasks: Iterable[TaskView]) -> list[Tally]:
    """One for each machine, that with the most failures first."""
    found: dict[str, Tally] = {}
    for task in tasks:
        tally = found.setdefault(task.node or "", Tally(task.node or ""))
        if task.status is TaskState.COMPLETED:
            tally.completed += 1
            tally.seconds += _seconds(task)
        elif task.status is TaskState.FAILED:
            tally.failed += 1
        elif task.status is not TaskState.CANCELLED:
            tally.live += 1
        tally.error = task.last_error or tally.error
    return sorted(found.values(), key=lambda each: (-each.failed, -each.completed, each.node))


def _seconds(task: TaskView) -> float:
    begun, ended = parse_time(task.started_at), parse_time(task.finished_at)
    return max(0.0, (ended - begun).total_seconds()) if begun and ended else 0.0


TALLIES: tuple[Column[Tally], ...] = (
    Column("NODE", lambda each, _: cell(each.node or "on none"), 12, lambda each, _: each.node, most=28),
    Column("DONE", lambda each, _: cell(str(each.completed), GOOD if each.completed else DIM), 7,
           lambda each, _: each.completed, right=True, falls=True),
    Column("FAILED", lambda each, _: cell(str(each.failed), BAD if each.failed else DIM), 6,
           lambda each, _: each.failed, right=True, falls=True),
    Column("NOW", lambda each, _: cell(str(each.live), BUSY if each.live else DIM), 5,
           lambda each, _: each.live, right=True, falls=True),
    Column("EACH", lambda each, _: cell(_each(each)), 8, lambda each, _: each.seconds, right=True, drop=2),
    Column("LAST ERROR", lambda each, _: cell(each.error, BAD), 16, lambda each, _: each.error, most=120,
           drop=1),
)  # fmt: skip


def _each(tally: Tally) -> str:
    return f"{tally.seconds / tally.completed:.1f}s" if tally.completed else "-"
