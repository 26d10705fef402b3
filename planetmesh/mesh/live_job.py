"""A job that has not ended, as the reactor and the scheduler see it: counters, lines, live tasks.

Only `reactor` and its neighbours change it, by `MeshState.put`, so that the queue stays true.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from planetmesh.model.blob import large_files
from planetmesh.model.ids import NodeId
from planetmesh.model.job import ENDED, ON_NODE, Counts, Job, JobState, Task, TaskState, job_state
from planetmesh.model.resources import Resources

Signature = tuple[Resources, tuple[str, ...], NodeId | None, str, str]
"""What decides which nodes fit a job: requests, tags, wanted node, type, kind."""


class LiveJob:
    """A job that has not ended, with the tasks of it that have a record and have not ended."""

    __slots__ = (
        "again",
        "ahead",
        "begun",
        "blamed",
        "counts",
        "first_error",
        "good_nodes",
        "job",
        "large_files",
        "lines",
        "mean_seconds",
        "next_index",
        "ready",
        "runs",
        "signature",
        "tasks",
        "total",
    )

    def __init__(self, job: Job) -> None:
        self.job = job
        self.total = job.spec.task_count
        self.counts = Counts(queued=self.total)
        self.next_index = 0
        """The first task that was never touched; all from here on are QUEUED without a record."""
        self.ahead: set[int] = set()
        """Except these beyond it, which were cancelled before their turn came."""
        self.again: set[int] = set()
        """Tasks that had FAILED, with all their attempts, before somebody asked for more."""
        self.ready: dict[tuple[NodeId, ...], OrderedDict[int, None]] = {}
        """QUEUED tasks that do have a record, oldest first, by the nodes that failed them."""
        self.lines: set[tuple[NodeId, ...]] = set()
        """Exclusions with which it stands in the queue; kept by `MeshState.line_up`."""
        self.tasks: dict[int, Task] = {}
        self.mean_seconds: float | None = None
        """Decayed mean of how long one attempt took for each index; None until one ended well."""
        self.first_error = ""
        self.good_nodes: set[NodeId] = set()
        """Nodes that ended some of its tasks well."""
        self.blamed: set[NodeId] = set()
        """Nodes that failed it quickly: few, so that a good end need not ask all nodes."""
        self.runs: OrderedDict[tuple[int, NodeId], float] = OrderedDict()
        """Its tasks that run, where, and since when (steady), longest first; kept by `MeshState`."""
        self.begun: dict[int, float] = {}
        """`begun_at` of each live task that has one, oldest first."""
        spec = job.spec
        kind = job.kind or spec.type
        self.signature: Signature = (spec.requests, spec.tags, spec.node, spec.type, kind)
        """Jobs of one signature fit the same nodes, so a pass looks at nodes once for all of them."""
        self.large_files = large_files(spec.files)
        """Those that each of its tasks needs."""

    @property
    def state(self) -> JobState:
        return job_state(
            self.counts, partial=self.job.spec.partial, cancelled=self.job.cancelled_at is not None
        )

    @property
    def kind(self) -> str:
        return self.signature[4]

    @property
    def is_auto(self) -> bool:
        """Its tasks are cut when they are placed, as large as suits the node."""
        return self.job.spec.is_auto

    @property
    def is_held(self) -> bool:
        """Nothing of it may be placed: it is paused, or other jobs come first."""
        return self.job.paused_at is not None or bool(self.job.waits)

    @property
    def capped(self) -> bool:
        most = self.job.max_running
        return most is not None and self.in_hands >= most

    @property
    def in_hands(self) -> int:
        """How many of its tasks machines have."""
        if not self.is_auto:
            return self.counts.assigned + self.counts.running
        return sum(task.state in ON_NODE for task in self.tasks.values())

    @property
    def task_seconds(self) -> float | None:
        """How long one of its tasks takes, if that is known and the same for all."""
        return None if self.is_auto else self.mean_seconds

    @property
    def untouched(self) -> int:
        """How many tasks have never been touched."""
        return self.total - self.next_index - len(self.ahead)

    def task(self, index: int) -> Task | None:
        """The record of a live task; a fresh one if it was never touched; None if it ended or never was."""
        task = self.tasks.get(index)
        if task is not None:
            return task
        if self.next_index <= index < self.total and index not in self.ahead:
            return Task(self.job.id, index)
        if self.is_auto:
            inside = (each for each in self.tasks.values() if each.index <= index < each.index + each.width)
            return next(inside, None)
        return None

    def fresh_run(self, most: int) -> int:
        """How many tasks that were never touched follow each other from the next one on, at most so many."""
        end = min(self.next_index + most, self.total)
        stops = [index for index in self.ahead if index < end]
        return min(stops, default=end) - self.next_index

    def next_for(self, excluded: tuple[NodeId, ...]) -> Task | None:
        """The task to place next of those that failed on the given nodes; fresh ones failed on none."""
        line = self.ready.get(excluded)
        if line:
            return self.tasks[next(iter(line))]
        if not excluded and self.next_index < self.total:
            return Task(self.job.id, self.next_index)
        return None

    def placeable(self) -> Iterator[tuple[NodeId, ...]]:
        """The exclusions of which there is something to place."""
        if self.next_index < self.total and () not in self.ready:
            yield ()
        yield from self.ready

    def put(self, task: Task) -> None:
        """Store a changed record and keep counters and lines true."""
        before = self.tasks.get(task.index)
        self.counts.move(before.state if before else TaskState.QUEUED, task.state, task.width)
        if before is None:
            self._touch(task.index, task.width)
        elif before.state is TaskState.QUEUED:
            self._unready(before)
        if task.state in ENDED:
            self.tasks.pop(task.index, None)
            self.begun.pop(task.index, None)
        else:
            self.adopt(task)

    def adopt(self, task: Task) -> None:
        """Take in a live record that the counters already know (after a restart)."""
        self.tasks[task.index] = task
        if task.begun_at is not None:
            self.begun.setdefault(task.index, task.begun_at)
        if task.state is TaskState.QUEUED:
            self.ready.setdefault(task.excluded, OrderedDict())[task.index] = None

    def end_untouched(self, state: TaskState) -> None:
        """Count all tasks that were never touched as CANCELLED or FAILED; they get no record."""
        self.counts.move(TaskState.QUEUED, state, self.untouched)
        self.next_index = self.total
        self.ahead.clear()

    def _touch(self, index: int, width: int) -> None:
        if index > self.next_index:
            self.ahead.add(index)
        elif index == self.next_index:
            self.next_index += width
            while self.next_index in self.ahead:
                self.ahead.remove(self.next_index)
                self.next_index += 1

    def _unready(self, task: Task) -> None:
        line = self.ready[task.excluded]
        del line[task.index]
        if not line:
            del self.ready[task.excluded]
