"""The coordinator's tables: frozen records in mutable dictionaries, and `check()` over all of them.

Only `reactor` and `nodes` change these; everybody else looks. Ended tasks and jobs leave the
tables (the store has them), so the state stays as small as the work in hand.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator

from planetmesh.model.ids import JobId, NodeId, TaskKey
from planetmesh.model.job import ENDED, ON_NODE, Counts, Job, JobState, Task, TaskState, job_state
from planetmesh.model.node import Node, NodeLoad, NodeState
from planetmesh.model.resources import NOTHING, Resources
from planetmesh.settings import Settings

Signature = tuple[Resources, tuple[str, ...], NodeId | None, str]


class LiveJob:
    """A job that has not ended, with the tasks of it that have a record and have not ended."""

    __slots__ = ("counts", "first_error", "job", "mean_seconds", "next_index", "ready", "tasks", "total")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.total = job.spec.inputs.count
        self.counts = Counts(queued=self.total)
        self.next_index = 0
        """The first task that was never placed; all from here on are QUEUED without a record."""
        self.ready: list[int] = []
        """Heap of the indexes of QUEUED tasks that do have a record."""
        self.tasks: dict[int, Task] = {}
        self.mean_seconds: float | None = None
        """Decayed mean of how long one attempt took; None until one ended well."""
        self.first_error = ""

    @property
    def state(self) -> JobState:
        return job_state(
            self.counts, partial=self.job.spec.partial, cancelled=self.job.cancelled_at is not None
        )

    @property
    def signature(self) -> Signature:
        """Jobs of one signature fit the same nodes, so a pass looks at nodes once for all of them."""
        spec = self.job.spec
        return (spec.requests, spec.tags, spec.node, spec.type)

    @property
    def capped(self) -> bool:
        most = self.job.spec.max_running
        return most is not None and self.counts.assigned + self.counts.running >= most

    def task(self, index: int) -> Task | None:
        """The record of a live task; a fresh one if it was never placed; None if it ended or never was."""
        task = self.tasks.get(index)
        if task is None and self.next_index <= index < self.total:
            return Task(self.job.id, index)
        return task

    def peek(self) -> Task | None:
        """The task to place next, or nothing."""
        while self.ready:
            task = self.tasks.get(self.ready[0])
            if task is not None and task.state is TaskState.QUEUED:
                return task
            heapq.heappop(self.ready)
        return Task(self.job.id, self.next_index) if self.next_index < self.total else None

    def candidates(self, most: int) -> Iterator[Task]:
        """The next tasks to place: the first that was placed before, then others, then a fresh one."""
        first = self.peek()
        if first is None:
            return
        yield first
        for index in heapq.nsmallest(most, self.ready)[1:]:
            task = self.tasks.get(index)
            if task is not None and task.state is TaskState.QUEUED:
                yield task
        if self.ready and self.next_index < self.total:
            yield Task(self.job.id, self.next_index)

    def put(self, task: Task) -> None:
        """Store a changed record and keep the counters and the ready heap true."""
        before = self.tasks.get(task.index)
        old = before.state if before else TaskState.QUEUED
        self.counts.move(old, task.state)
        if task.index >= self.next_index:
            self.ready += range(self.next_index, task.index)
            for index in range(self.next_index, task.index):
                self.tasks[index] = Task(self.job.id, index)
            self.next_index = task.index + 1
        if task.state in ENDED:
            self.tasks.pop(task.index, None)
            return
        self.tasks[task.index] = task
        if task.state is TaskState.QUEUED and old is not TaskState.QUEUED:
            heapq.heappush(self.ready, task.index)


class LiveNode:
    """A node, its link and what it has in hand."""

    __slots__ = (
        "held",
        "held_by_job",
        "last_heard",
        "load",
        "node",
        "opened",
        "prefill_after",
        "rtt_seconds",
        "session",
        "used",
    )

    def __init__(self, node: Node, last_heard: float) -> None:
        self.node = node
        self.session: int | None = None
        """Number of the present link; None while there is none."""
        self.last_heard = last_heard
        """Steady time of its last word."""
        self.load = NodeLoad()
        self.rtt_seconds: float | None = None
        self.held: dict[TaskKey, tuple[Resources, float]] = {}
        """Tasks ASSIGNED to it or RUNNING on it: what each asked for and since when (steady)."""
        self.held_by_job: dict[JobId, int] = {}
        self.used = NOTHING
        self.prefill_after = 0.0
        """Steady time until which it gets no backlog, since some was just pulled back."""
        self.opened: set[JobId] = set()
        """Jobs whose details this link was given."""

    @property
    def offer(self) -> Resources:
        return self.node.info.offer if self.node.info else NOTHING

    @property
    def connected(self) -> bool:
        return self.session is not None

    def hold(self, key: TaskKey, requests: Resources, now_steady: float) -> None:
        self.held[key] = (requests, now_steady)
        self.held_by_job[key[0]] = self.held_by_job.get(key[0], 0) + 1
        self.used = self.used + requests

    def release(self, key: TaskKey) -> None:
        held = self.held.pop(key, None)
        if held is None:
            return
        self.used = self.used - held[0]
        left = self.held_by_job[key[0]] - 1
        if left:
            self.held_by_job[key[0]] = left
        else:
            del self.held_by_job[key[0]]


class MeshState:
    """All that the coordinator knows and decides from."""

    def __init__(self, settings: Settings, spread: Callable[[], float]) -> None:
        self.settings = settings
        self.spread = spread
        """Draws 0..1 from a seeded generator: decisions are repeatable in tests."""
        self.jobs: dict[JobId, LiveJob] = {}
        self.nodes: dict[NodeId, LiveNode] = {}
        self.queue: dict[int, dict[Signature, deque[JobId]]] = {}
        """Jobs with something to place, by priority, then signature, in turn."""
        self.queued_jobs: set[JobId] = set()
        self.backoffs: list[tuple[float, JobId, int]] = []
        """Heap of (retry_at, job, index); entries may be out of date and are then skipped."""

    def enqueue(self, live: LiveJob) -> None:
        """See that a job with something to place is in the queue, once."""
        if live.job.id in self.queued_jobs or live.peek() is None:
            return
        self.queued_jobs.add(live.job.id)
        ranks = self.queue.setdefault(live.job.spec.priority, {})
        ranks.setdefault(live.signature, deque()).append(live.job.id)

    def waiting(self) -> bool:
        return bool(self.queued_jobs)

    def held_tasks(self) -> Iterator[tuple[LiveNode, TaskKey]]:
        for live in self.nodes.values():
            for key in live.held:
                yield live, key


def check(state: MeshState) -> None:
    """Compare all tables with each other; AssertionError names the first contradiction."""
    for job_id, live in state.jobs.items():
        _check_job(state, job_id, live)
    for node_id, node in state.nodes.items():
        assert node.node.id == node_id
        total = NOTHING
        by_job: dict[JobId, int] = {}
        for (job_id, index), (requests, _since) in node.held.items():
            total = total + requests
            by_job[job_id] = by_job.get(job_id, 0) + 1
            task = state.jobs[job_id].tasks[index]
            assert task.state in ON_NODE, f"{node.node.name} holds {task}"
            assert task.node_id == node_id, f"{node.node.name} holds a task of {task.node_id}"
        assert by_job == node.held_by_job
        assert total == node.used, f"{node.node.name} uses {node.used}, its tasks {total}"
        assert not (node.connected and node.node.state is NodeState.OFFLINE), f"{node.node.name} is linked"
    listed = [job_id for ranks in state.queue.values() for line in ranks.values() for job_id in line]
    assert len(listed) == len(set(listed)), "a job stands in the queue twice"
    assert set(listed) == state.queued_jobs


def _check_job(state: MeshState, job_id: JobId, live: LiveJob) -> None:
    counts, seen = live.counts, Counts()
    seen.queued = live.total - live.next_index
    for index, task in live.tasks.items():
        assert task.index == index < live.next_index
        setattr(seen, task.state.value.lower(), getattr(seen, task.state.value.lower()) + 1)
        if task.state in ON_NODE:
            holder = state.nodes.get(task.node_id) if task.node_id else None
            assert holder is not None, f"{task} is on no known node"
            assert task.key in holder.held, f"{task} is not in its node's hands"
        if task.state is TaskState.QUEUED:
            assert index in live.ready, f"{task} would never be placed"
        if task.state is TaskState.RETRYING:
            assert (task.retry_at, job_id, index) in state.backoffs, f"{task} would never be retried"
    seen.completed, seen.failed, seen.cancelled = counts.completed, counts.failed, counts.cancelled
    assert seen == counts, f"job {job_id} counts {counts}, its tasks {seen}"
    assert counts.total == live.total
    assert counts.live, f"job {job_id} has ended but is still in the table"
    if counts.queued:
        assert job_id in state.queued_jobs, f"job {job_id} waits outside the queue"
