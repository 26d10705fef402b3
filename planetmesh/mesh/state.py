"""The coordinator's tables: frozen records in mutable dictionaries, and `check()` over all of them.

Only `reactor` and `nodes` change these; everybody else looks. Ended tasks and jobs leave the
tables (the store has them), so the state stays as small as the work in hand.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from planetmesh.model.ids import JobId, NodeId, TaskKey
from planetmesh.model.job import ENDED, ON_NODE, Counts, Job, JobState, Task, TaskState, job_state
from planetmesh.model.node import Node, NodeLoad, NodeState
from planetmesh.model.resources import NOTHING, Resources
from planetmesh.settings import Settings

Signature = tuple[Resources, tuple[str, ...], NodeId | None, str]
"""What decides which nodes fit a job: requests, tags, wanted node, type."""
LineKey = tuple[int, Signature, tuple[NodeId, ...]]
"""Priority, signature, and the nodes that failed the tasks: all tasks of a line may go to the same nodes."""
Line = OrderedDict[JobId, int]
"""Jobs in turn, the one that was served longest ago first; each with the number of its last turn."""


class LiveJob:
    """A job that has not ended, with the tasks of it that have a record and have not ended."""

    __slots__ = (
        "ahead",
        "counts",
        "first_error",
        "job",
        "lines",
        "mean_seconds",
        "next_index",
        "ready",
        "signature",
        "tasks",
        "total",
    )

    def __init__(self, job: Job) -> None:
        self.job = job
        self.total = job.spec.inputs.count
        self.counts = Counts(queued=self.total)
        self.next_index = 0
        """The first task that was never touched; all from here on are QUEUED without a record."""
        self.ahead: set[int] = set()
        """Except these beyond it, which were cancelled before their turn came."""
        self.ready: dict[tuple[NodeId, ...], OrderedDict[int, None]] = {}
        """QUEUED tasks that do have a record, oldest first, by the nodes that failed them."""
        self.lines: set[tuple[NodeId, ...]] = set()
        """Exclusions with which it stands in the queue; kept by `MeshState.line_up`."""
        self.tasks: dict[int, Task] = {}
        self.mean_seconds: float | None = None
        """Decayed mean of how long one attempt took; None until one ended well."""
        self.first_error = ""
        spec = job.spec
        self.signature: Signature = (spec.requests, spec.tags, spec.node, spec.type)
        """Jobs of one signature fit the same nodes, so a pass looks at nodes once for all of them."""

    @property
    def state(self) -> JobState:
        return job_state(
            self.counts, partial=self.job.spec.partial, cancelled=self.job.cancelled_at is not None
        )

    @property
    def capped(self) -> bool:
        most = self.job.spec.max_running
        return most is not None and self.counts.assigned + self.counts.running >= most

    @property
    def untouched(self) -> int:
        """How many tasks have never been touched."""
        return self.total - self.next_index - len(self.ahead)

    def task(self, index: int) -> Task | None:
        """The record of a live task; a fresh one if it was never touched; None if it ended or never was."""
        task = self.tasks.get(index)
        if task is None and self.next_index <= index < self.total and index not in self.ahead:
            return Task(self.job.id, index)
        return task

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
        self.counts.move(before.state if before else TaskState.QUEUED, task.state)
        if before is None:
            self._touch(task.index)
        elif before.state is TaskState.QUEUED:
            self._unready(before)
        if task.state in ENDED:
            self.tasks.pop(task.index, None)
        else:
            self.adopt(task)

    def adopt(self, task: Task) -> None:
        """Take in a live record that the counters already know (after a restart)."""
        self.tasks[task.index] = task
        if task.state is TaskState.QUEUED:
            self.ready.setdefault(task.excluded, OrderedDict())[task.index] = None

    def cancel_untouched(self) -> None:
        """Count all tasks that were never touched as CANCELLED; they get no record."""
        self.counts.cancelled += self.untouched
        self.counts.queued -= self.untouched
        self.next_index = self.total
        self.ahead.clear()

    def _touch(self, index: int) -> None:
        if index > self.next_index:
            self.ahead.add(index)
        elif index == self.next_index:
            self.next_index += 1
            while self.next_index in self.ahead:
                self.ahead.remove(self.next_index)
                self.next_index += 1

    def _unready(self, task: Task) -> None:
        line = self.ready[task.excluded]
        del line[task.index]
        if not line:
            del self.ready[task.excluded]


class LiveNode:
    """A node, its link and what it has in hand."""

    __slots__ = (
        "carried",
        "held",
        "held_by_job",
        "last_heard",
        "load",
        "node",
        "opened",
        "prefill_after",
        "recalled",
        "resting_until",
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
        self.carried: set[JobId] = set()
        """Jobs that the agent still had when it said hello: it must be told of their end too."""
        self.recalled: set[TaskKey] = set()
        """Tasks in hand that it was asked to give back."""
        self.resting_until = 0.0
        """Steady time until which it gets nothing, since it gave work back without being asked."""

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
        self.recalled.discard(key)
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
        self.queue: dict[LineKey, Line] = {}
        """Jobs with something to place, in lines. A job stands in one line for each set of exclusions."""
        self.turn = 0
        """Number of the last turn that was given."""
        self.blocked_since: dict[LineKey, float] = {}
        """Lines that got no node when they were asked last, and the steady time of the first such pass."""
        self.asked: set[LineKey] = set()
        """Lines that had no luck in passes that were cut short; the next pass begins with the others."""
        self.backoffs: list[tuple[float, JobId, int]] = []
        """Heap of (retry_at, job, index); entries may be out of date and are then skipped."""

    def put(self, live: LiveJob, task: Task) -> None:
        """Store a changed record of a task."""
        live.put(task)
        self.line_up(live)

    def line_up(self, live: LiveJob) -> None:
        """See that the job stands in the lines that it should, and in no other. Called after each change."""
        wanted = set() if live.capped else set(live.placeable())
        for excluded in live.lines - wanted:
            key = self.line_key(live, excluded)
            del self.queue[key][live.job.id]
            if not self.queue[key]:
                del self.queue[key]
                self.blocked_since.pop(key, None)
                self.asked.discard(key)
        for excluded in wanted - live.lines:
            line = self.queue.setdefault(self.line_key(live, excluded), OrderedDict())
            line[live.job.id] = self._next_turn()
        live.lines = wanted

    def end_turn(self, live: LiveJob, excluded: tuple[NodeId, ...]) -> None:
        """A task of the job was placed out of this line: the others come first now."""
        if excluded in live.lines:
            line = self.queue[self.line_key(live, excluded)]
            line[live.job.id] = self._next_turn()
            line.move_to_end(live.job.id)

    def line_key(self, live: LiveJob, excluded: tuple[NodeId, ...]) -> LineKey:
        return (live.job.spec.priority, live.signature, excluded)

    def _next_turn(self) -> int:
        self.turn += 1
        return self.turn

    def waiting(self) -> bool:
        return bool(self.queue)


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
    _check_queue(state)


def _check_queue(state: MeshState) -> None:
    for (priority, signature, excluded), line in state.queue.items():
        assert line, "an empty line was left behind"
        assert list(line.values()) == sorted(set(line.values())), "a line is out of order"
        for job_id in line:
            live = state.jobs[job_id]
            assert (live.job.spec.priority, live.signature) == (priority, signature)
            assert excluded in live.lines
    for job_id, live in state.jobs.items():
        wanted = set() if live.capped else set(live.placeable())
        assert live.lines == wanted, f"job {job_id} stands in {live.lines} and should in {wanted}"
        assert all(job_id in state.queue[state.line_key(live, excluded)] for excluded in wanted)
    assert state.blocked_since.keys() <= state.queue.keys()


def _check_job(state: MeshState, job_id: JobId, live: LiveJob) -> None:
    counts, seen = live.counts, Counts()
    seen.queued = live.untouched
    assert all(live.next_index < index < live.total for index in live.ahead)
    for index, task in live.tasks.items():
        assert task.index == index < live.total
        assert index < live.next_index or index in live.ahead
        setattr(seen, task.state.value.lower(), getattr(seen, task.state.value.lower()) + 1)
        if task.state in ON_NODE:
            holder = state.nodes.get(task.node_id) if task.node_id else None
            assert holder is not None, f"{task} is on no known node"
            assert task.key in holder.held, f"{task} is not in its node's hands"
        if task.state is TaskState.QUEUED:
            assert index in live.ready[task.excluded], f"{task} would never be placed"
        if task.state is TaskState.RETRYING:
            assert (task.retry_at, job_id, index) in state.backoffs, f"{task} would never be retried"
    seen.completed, seen.failed, seen.cancelled = counts.completed, counts.failed, counts.cancelled
    assert seen == counts, f"job {job_id} counts {counts}, its tasks {seen}"
    assert counts.total == live.total
    assert counts.live, f"job {job_id} has ended but is still in the table"
    listed = sum(len(line) for line in live.ready.values())
    assert counts.queued == listed + live.untouched, f"job {job_id}: {listed} tasks are ready"
