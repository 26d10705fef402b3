"""The drawings of docs/states.md, made from the tables that the code moves by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from planetmesh.mesh.lifecycle import MOVES, NODE_MOVES, PHASE_MOVES, Cause, Phase
from planetmesh.model.job import (
    ENDED,
    JOB_ENDED,
    JOB_RULES,
    Counts,
    JobState,
    TaskState,
    job_state,
)
from planetmesh.model.node import NodeState

Arrows = Mapping[tuple[StrEnum, StrEnum], Sequence[str]]


def drawings() -> dict[str, str]:
    """By the name of the place in the page."""
    return {
        "task": _draw(_arrows_of(MOVES), TaskState, first=TaskState.QUEUED, last=ENDED),
        "job": _draw(_job_arrows(), JobState, first=JobState.QUEUED, last=JOB_ENDED),
        "job rules": _rules(),
        "node": _draw(_arrows_of(NODE_MOVES), NodeState, first=NodeState.OFFLINE),
        "phase": _draw(_arrows_of(PHASE_MOVES), Phase, first=Phase.GOOD),
    }


def _draw(arrows: Arrows, states: Iterable[StrEnum], *, first: StrEnum, last: Iterable[StrEnum] = ()) -> str:
    """A state diagram: one arrow for all causes between two states, in the order of the states."""
    order, ends = list(states), set(last)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first.name}"]
    for before, after in sorted(arrows, key=lambda pair: (order.index(pair[0]), order.index(pair[1]))):
        lines.append(f"    {before.name} --> {after.name}: {', '.join(arrows[before, after])}")
    lines += [f"    {state.name} --> [*]" for state in order if state in ends]
    return "\n".join([*lines, "```"])


def _arrows_of(moves: Mapping[Any, StrEnum]) -> Arrows:
    arrows: dict[tuple[StrEnum, StrEnum], list[str]] = {}
    for (before, cause), after in moves.items():
        arrows.setdefault((before, after), []).append(cause.value)
    return arrows


def _job_arrows() -> Arrows:
    """What the moves of its tasks do to a job: every life of a job of two tasks, from its first moment on."""
    found: dict[tuple[StrEnum, StrEnum], set[Cause]] = {}
    for partial in (False, True):
        start = Life((TaskState.QUEUED, TaskState.QUEUED), partial, is_cancelled=False)
        seen, ahead = {start}, [start]
        while ahead:
            life = ahead.pop()
            for cause, after in life.moves():
                if after.state is not life.state:
                    found.setdefault((life.state, after.state), set()).add(cause)
                if after not in seen:
                    seen.add(after)
                    ahead.append(after)
    return {arrow: [cause.value for cause in Cause if cause in causes] for arrow, causes in found.items()}


class Life(NamedTuple):
    """A job at some moment."""

    tasks: tuple[TaskState, ...]
    is_partial: bool
    is_cancelled: bool

    @property
    def state(self) -> JobState:
        counts = Counts(**{state.value.lower(): self.tasks.count(state) for state in TaskState})
        return job_state(counts, partial=self.is_partial, cancelled=self.is_cancelled)

    def moves(self) -> Iterator[tuple[Cause, Life]]:
        """What may happen to one of its tasks; a cancel of the job and a retry are of all that they meet."""
        for (before, cause), after in MOVES.items():
            if cause is Cause.ASKED_AGAIN:
                yield cause, self._replace(tasks=self._all(lambda task: task is TaskState.FAILED, after))
                continue
            for place, task in enumerate(self.tasks):
                if task is before:
                    yield cause, self._replace(tasks=(*self.tasks[:place], after, *self.tasks[place + 1 :]))
        if not ENDED.issuperset(self.tasks):
            cancelled = self._all(lambda task: task not in ENDED, TaskState.CANCELLED)
            yield Cause.CANCELLED, self._replace(tasks=cancelled, is_cancelled=True)

    def _all(self, meant: Callable[[TaskState], bool], after: TaskState) -> tuple[TaskState, ...]:
        return tuple(after if meant(task) else task for task in self.tasks)


def _rules() -> str:
    lines = ["| state | the first of these that holds |", "|---|---|"]
    lines += [f"| {rule.state} | {rule.when} |" for rule in JOB_RULES]
    return "\n".join(lines)
