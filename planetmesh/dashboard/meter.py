"""How much ends each second, and how quickly each job goes on. Pure: the time comes in."""

from __future__ import annotations

from collections import deque

from planetmesh.client.pace import Rate
from planetmesh.model.ids import JobId
from planetmesh.wire.api import JobView, TaskCounts

SECONDS_KEPT = 240
"""As far back as the widest chart goes."""


def ended_of(counts: TaskCounts) -> int:
    return counts.completed + counts.failed + counts.cancelled


class Meter:
    """Ends of tasks by the second. `now` counts seconds and never goes back."""

    def __init__(self) -> None:
        self._done: deque[float] = deque([0.0] * SECONDS_KEPT, SECONDS_KEPT)
        self._failed: deque[float] = deque([0.0] * SECONDS_KEPT, SECONDS_KEPT)
        self._second: int | None = None
        self._began: int | None = None

    @property
    def watched_seconds(self) -> int:
        """Whole seconds since the first count or look."""
        return 0 if self._second is None or self._began is None else self._second - self._began

    def count(self, now: float, done: int, failed: int) -> None:
        self._turn(now)
        self._done[-1] += max(0, done)
        self._failed[-1] += max(0, failed)

    def series(self, now: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Completed and failed tasks of each second, the newest last."""
        self._turn(now)
        return tuple(self._done), tuple(self._failed)

    def _turn(self, now: float) -> None:
        second = int(now)
        self._began = second if self._began is None else self._began
        passed = 0 if self._second is None else min(SECONDS_KEPT, max(0, second - self._second))
        self._second = second if self._second is None else max(second, self._second)
        for _each in range(passed):
            self._done.append(0.0)
            self._failed.append(0.0)


class Paces:
    """The rate of each job that goes on."""

    def __init__(self) -> None:
        self._rates: dict[JobId, Rate] = {}

    def measure(self, now: float, job: JobView) -> None:
        rate = self._rates.get(job.id)
        if rate is None:
            rate = self._rates[job.id] = Rate()
        rate.measure(now, ended_of(job.tasks))

    def forget(self, job_id: JobId) -> None:
        self._rates.pop(job_id, None)

    def per_second(self) -> dict[JobId, float]:
        """Only of those whose rate can be told."""
        return {job_id: rate.value for job_id, rate in self._rates.items() if rate.value}
