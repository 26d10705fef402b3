"""After an attempt that did not succeed: again, how late, or give up. The only retry rules for tasks.

Failures (exit code, time-out, staging) and losses (the node went away) are counted apart: a task
that fails uses up its attempts, a task that was on several machines when they died is the culprit.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from planetmesh.model.job import JobSpec, Outcome, Task
from planetmesh.settings import Settings


class Again(msgspec.Struct, frozen=True):
    """Try once more after this long."""

    delay_seconds: float


class GiveUp(msgspec.Struct, frozen=True):
    """The task has FAILED; `reason` completes its error."""

    reason: str


Decision = Again | GiveUp


def decide(
    task: Task, spec: JobSpec, outcome: Outcome, settings: Settings, spread: Callable[[], float]
) -> Decision:
    """What to do with `task`, whose counters already include this end."""
    if spec.at_most_once and outcome is not Outcome.INPUTS:
        return GiveUp("it may have run, and this job's tasks run at most once")
    if outcome is Outcome.LOST:
        if task.losses >= settings.max_node_losses:
            return GiveUp(f"what it ran on went away {task.losses} times")
        return Again(back_off(task.losses, settings, spread()))
    if outcome is Outcome.INPUTS:
        return GiveUp("")
    if task.failures >= spec.max_attempts:
        return GiveUp("" if spec.max_attempts == 1 else f"no attempts left of {spec.max_attempts}")
    return Again(back_off(task.failures, settings, spread()))


def back_off(times: int, settings: Settings, drawn: float) -> float:
    """Seconds to wait after the given number of bad ends; `drawn` is 0..1 and spreads them."""
    doubled = settings.retry_first_seconds * 2.0 ** min(times - 1, 30)
    return min(doubled, settings.retry_longest_seconds) * (1 + settings.retry_spread * (2 * drawn - 1))
