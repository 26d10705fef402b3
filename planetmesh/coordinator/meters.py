"""What the engine measures of itself: for `/metrics`, and for whoever measures a coordinator.

Counters since the start and the last few samples of each; noting one costs about a microsecond.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable

from planetmesh.mesh import effects as fx
from planetmesh.mesh.state import MeshState
from planetmesh.model.ids import NodeId
from planetmesh.model.job import JobState, Outcome, Task, TaskState, job_state

KEPT = 4096
"""Samples kept of each: seconds to minutes of a busy coordinator."""
WORK_SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Bounds for what the engine itself does: a tenth of a millisecond to seconds."""
TASK_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)
"""Bounds for what people wait for: a moment to a day."""


class Samples:
    """One thing that is measured again and again, in seconds."""

    __slots__ = ("_last", "below", "bounds", "count", "most", "total")

    def __init__(self, bounds: tuple[float, ...] = WORK_SECONDS) -> None:
        self.bounds = bounds
        self.below = [0] * (len(bounds) + 1)
        """How many fell between two bounds; the last is for those above all of them."""
        self.count = 0
        self.total = 0.0
        self.most = 0.0
        """The longest ever."""
        self._last: deque[float] = deque(maxlen=KEPT)

    def note(self, seconds: float) -> None:
        self.below[bisect_left(self.bounds, seconds)] += 1
        self.count += 1
        self.total += seconds
        self.most = max(self.most, seconds)
        self._last.append(seconds)

    def newest(self, most: int) -> list[float]:
        """So many at most, in the order in which they came."""
        kept = list(self._last)
        return kept[max(0, len(kept) - most) :]


class Meters:
    """Owned by the engine; everybody else looks."""

    def __init__(self) -> None:
        self.happenings = 0
        """Taken out of the inbox."""
        self.placed = 0
        """Decisions of the scheduler."""
        self.placements: Counter[NodeId] = Counter()
        """The same by node."""
        self.waits = Samples()
        """From the moment the oldest happening of a turn was posted until the turn began."""
        self.turns = Samples()
        """Whole turns, with the wait for the disk."""
        self.passes = Samples()
        """Of the scheduler, with the changes that each placement makes."""
        self.commits = Samples()
        self.lags = Samples()
        """How much later than asked for the event loop came back to a timer."""
        self.jobs_submitted = 0
        self.jobs_ended: Counter[JobState] = Counter()
        self.tasks_ended: Counter[TaskState] = Counter()
        """Those that were given to a node at least once, or were cancelled by name."""
        self.attempts_failed: Counter[Outcome] = Counter()
        """Attempts that did not become their task's accepted end."""
        self.retries = 0
        """Times that a task was put back to be tried again."""
        self.job_seconds = Samples(TASK_SECONDS)
        """From a job's submit to its end."""
        self.task_waits = Samples(TASK_SECONDS)
        """From a job's submit to the start of the accepted attempt of each of its tasks."""
        self.task_seconds = Samples(TASK_SECONDS)
        """Of accepted attempts."""

    def forget(self, nodes: Iterable[NodeId]) -> None:
        """Nodes come and go; what is kept of each must not pile up."""
        for node_id in nodes:
            self.placements.pop(node_id, None)

    def note_turn(
        self,
        state: MeshState,
        tasks: Iterable[Task],
        outcomes: Iterable[Outcome],
        new_jobs: int,
        job_ends: Iterable[fx.JobEnded],
        now_wall: float,
    ) -> None:
        """What one turn let out; `outcomes` are those of attempts that were no accepted end."""
        self.jobs_submitted += new_jobs
        self.attempts_failed.update(outcomes)
        submitted = {}
        for ended in job_ends:
            job = ended.job
            submitted[job.id] = job.created_at
            is_cancelled = job.cancelled_at is not None
            self.jobs_ended[job_state(ended.counts, partial=job.spec.partial, cancelled=is_cancelled)] += 1
            self.job_seconds.note(max(0.0, now_wall - job.created_at))
        for task in tasks:
            if task.state is TaskState.RETRYING:
                self.retries += 1
            if not task.ended:
                continue
            self.tasks_ended[task.state] += task.width
            if task.started_at is None or task.finished_at is None:
                continue
            self.task_seconds.note(max(0.0, task.finished_at - task.started_at))
            live = state.jobs.get(task.job_id)
            created_at = live.job.created_at if live is not None else submitted.get(task.job_id)
            if created_at is not None:
                self.task_waits.note(max(0.0, task.started_at - created_at))
