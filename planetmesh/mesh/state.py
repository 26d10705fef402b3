"""The coordinator's tables: frozen records in mutable dictionaries, and `check()` over all of them.

Only `reactor` and `nodes` change these; everybody else looks. Ended tasks and jobs leave the
tables (the store has them), so the state stays as small as the work in hand.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from planetmesh.mesh import fitness
from planetmesh.mesh.holdings import Holdings
from planetmesh.mesh.lifecycle import Phase
from planetmesh.mesh.live_job import LiveJob, Signature
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.room import Ranking, Room
from planetmesh.model.ids import JobId, NodeId, TaskKey
from planetmesh.model.job import ON_NODE, Counts, Task, TaskState
from planetmesh.model.node import NodeState
from planetmesh.model.resources import NOTHING, Resources
from planetmesh.settings import Settings

LineKey = tuple[int, Signature, tuple[NodeId, ...], str]
"""Priority, signature, the nodes that failed the tasks, submitter: all tasks of a line may go to the same
nodes, and take the same turn among the submitters."""
Line = OrderedDict[JobId, int]
"""Jobs in turn, the one that was served longest ago first; each with the number of its last turn."""


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
        self.room = Room(self.nodes)
        """Told of each change by which nodes may gain room, and by which others may fit."""
        self.holdings = Holdings()
        """Which nodes hold which large blobs."""
        self.slots: dict[LineKey, Ranking] = {}
        """Where each line may find a free slot; which was made longest ago comes first."""
        self.backlogs: dict[LineKey, Ranking] = {}
        """The same for room behind busy slots."""
        self.kept: dict[NodeId, LineKey] = {}
        """Nodes kept free for a line that starves."""
        self.kept_at = 0.0, 0
        """Steady time and era of the room at which all of these were chosen anew."""
        self.backoffs: list[tuple[float, JobId, int]] = []
        """Heap of (retry_at, job, index); entries may be out of date and are then skipped."""
        self.in_use: dict[str, Resources] = {}
        """What the tasks of each submitter take up on all nodes together."""
        self.dependents: dict[JobId, set[JobId]] = {}
        """Live jobs that wait for this one."""
        self.lingering: dict[JobId, float] = {}
        """Jobs whose tasks have all ended and which stay open for more inputs; since when (steady)."""
        self.limited: set[JobId] = set()
        """Jobs that have a time limit which the coordinator keeps."""
        self.learned: set[NodeId] = set()
        """Nodes of which times were learned since that was last written down; the engine clears it."""

    def add_job(self, live: LiveJob) -> None:
        """Take a job into the tables."""
        job = live.job
        self.jobs[job.id] = live
        for after in job.waits:
            self.dependents.setdefault(after.job, set()).add(job.id)
        if _is_limited(live):
            self.limited.add(job.id)
        self.line_up(live)

    def remove_job(self, live: LiveJob) -> None:
        """Nothing of it is live any more. Who waits for it stays in `dependents` for the caller to settle."""
        job_id = live.job.id
        self.leave_lines(live)
        del self.jobs[job_id]
        self.limited.discard(job_id)
        for after in live.job.waits:
            self.forget_dependent(after.job, job_id)

    def forget_dependent(self, job_id: JobId, dependent: JobId) -> None:
        """`dependent` does not wait for the job any more."""
        waiting = self.dependents.get(job_id, set())
        waiting.discard(dependent)
        if not waiting:
            self.dependents.pop(job_id, None)

    def hold(self, live: LiveJob, node: LiveNode, index: int, now_steady: float) -> None:
        """A task is in this node's hands from now on."""
        requests, submitter = live.job.spec.requests, live.job.submitter
        if node.hold((live.job.id, index), live.kind, requests, now_steady):
            self.room.refit()
        if live.tasks[index].state is TaskState.RUNNING:
            self._runs(live, node, index, now_steady)
        self._count_in_use(submitter, self.in_use.get(submitter, NOTHING) + requests)

    def touch(self, live: LiveJob, node: LiveNode, index: int, now_steady: float) -> None:
        """The node runs the task since now, if it has it in hand."""
        if (live.job.id, index) in node.held:
            node.touch((live.job.id, index), now_steady)
            self._runs(live, node, index, now_steady)

    def _runs(self, live: LiveJob, node: LiveNode, index: int, now_steady: float) -> None:
        live.runs[index, node.node.id] = now_steady
        live.runs.move_to_end((index, node.node.id))

    def release(self, node_id: NodeId, key: TaskKey) -> None:
        """It is not any more, if it was."""
        node = self.nodes[node_id]
        held = node.held.get(key)
        if held is None:
            return
        live = self.jobs[key[0]]
        if node.release(key, live.kind):
            self.room.refit()
        self.room.more_room(node_id)
        live.runs.pop((key[1], node_id), None)
        submitter = live.job.submitter
        self._count_in_use(submitter, self.in_use.get(submitter, NOTHING) - held[0])

    def _count_in_use(self, submitter: str, amount: Resources) -> None:
        if amount == NOTHING:
            self.in_use.pop(submitter, None)
        else:
            self.in_use[submitter] = amount

    def put(self, live: LiveJob, task: Task) -> None:
        """Store a changed record of a task."""
        live.put(task)
        self.line_up(live)

    def line_up(self, live: LiveJob) -> None:
        """See that the job stands in the lines that it should, and in no other. Called after each change."""
        wanted = wanted_lines(live)
        for excluded in live.lines - wanted:
            self._leave_line(live, excluded)
        for excluded in wanted - live.lines:
            line = self.queue.setdefault(self.line_key(live, excluded), OrderedDict())
            line[live.job.id] = self._next_turn()
        live.lines = wanted

    def leave_lines(self, live: LiveJob) -> None:
        """Out of all lines; `line_up` puts it at the end of those it belongs to."""
        for excluded in live.lines:
            self._leave_line(live, excluded)
        live.lines = set()

    def _leave_line(self, live: LiveJob, excluded: tuple[NodeId, ...]) -> None:
        key = self.line_key(live, excluded)
        del self.queue[key][live.job.id]
        if not self.queue[key]:
            del self.queue[key]
            self.blocked_since.pop(key, None)
            self.asked.discard(key)
            self.slots.pop(key, None)
            self.backlogs.pop(key, None)

    def end_turn(self, live: LiveJob, excluded: tuple[NodeId, ...]) -> None:
        """A task of the job was placed out of this line: the others come first now."""
        if excluded in live.lines:
            line = self.queue[self.line_key(live, excluded)]
            line[live.job.id] = self._next_turn()
            line.move_to_end(live.job.id)

    def line_key(self, live: LiveJob, excluded: tuple[NodeId, ...]) -> LineKey:
        return (live.job.priority, live.signature, excluded, live.job.submitter)

    def _next_turn(self) -> int:
        self.turn += 1
        return self.turn

    def waiting(self) -> bool:
        return bool(self.queue)


def wanted_lines(live: LiveJob) -> set[tuple[NodeId, ...]]:
    """The exclusions with which a job should stand in the queue."""
    return set() if live.is_held or live.capped else set(live.placeable())


def check(state: MeshState) -> None:
    """Compare all tables with each other; AssertionError names the first contradiction."""
    in_use: dict[str, Resources] = {}
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
            submitter = state.jobs[job_id].job.submitter
            in_use[submitter] = in_use.get(submitter, NOTHING) + requests
            assert task.state in ON_NODE, f"{node.node.name} holds {task}"
            assert node_id in (task.node_id, task.twin_node), (
                f"{node.node.name} holds a task of {task.node_id}"
            )
        assert by_job == node.held_by_job
        assert total == node.used, f"{node.node.name} uses {node.used}, its tasks {total}"
        assert not (node.connected and node.node.state is NodeState.OFFLINE), f"{node.node.name} is linked"
        for kind, record in node.records.items():
            probes = record.probe is not None and record.probe in node.held
            assert probes == (record.phase is Phase.PROBING), f"{node.node.name} probes {kind}: {record}"
    assert {name: used for name, used in in_use.items() if used != NOTHING} == state.in_use
    state.holdings.check(state.nodes)
    _check_queue(state)
    _check_room(state)


def _check_queue(state: MeshState) -> None:
    for (priority, signature, excluded, submitter), line in state.queue.items():
        assert line, "an empty line was left behind"
        assert list(line.values()) == sorted(set(line.values())), "a line is out of order"
        for job_id in line:
            live = state.jobs[job_id]
            assert (live.job.priority, live.signature, live.job.submitter) == (priority, signature, submitter)
            assert excluded in live.lines
    for job_id, live in state.jobs.items():
        wanted = wanted_lines(live)
        assert live.lines == wanted, f"job {job_id} stands in {live.lines} and should in {wanted}"
        assert all(job_id in state.queue[state.line_key(live, excluded)] for excluded in wanted)
    assert state.blocked_since.keys() <= state.queue.keys()


def _check_room(state: MeshState) -> None:
    """No line overlooks a node that has a slot for it."""
    state.room.check()
    resting = {node_id for _until, node_id in state.room.rests}
    assert state.slots.keys() <= state.queue.keys()
    assert state.backlogs.keys() <= state.queue.keys()
    for key, ranking in state.slots.items():
        if ranking.is_void or ranking.seen is None:
            continue
        known = {node_id for _cost, node_id in ranking.nodes} | set(state.room.gained_since(ranking.seen))
        for node_id, live in state.nodes.items():
            if node_id in known or node_id in resting or node_id in state.kept or not ranking.fits(node_id):
                continue
            has_slot = fitness.has_slot(live, key[1][0], float("inf")) and fitness.may_try(live, key[1][4])
            assert not has_slot, f"{live.node.name} has a slot and is not asked"


def _check_job(state: MeshState, job_id: JobId, live: LiveJob) -> None:
    counts, seen = live.counts, Counts()
    seen.queued, listed = live.untouched, 0
    assert all(live.next_index < index < live.total for index in live.ahead)
    assert (job_id in state.limited) == _is_limited(live)
    begun = {index: task.begun_at for index, task in live.tasks.items() if task.begun_at is not None}
    assert live.begun == begun
    assert [begun[index] for index in live.begun] == sorted(begun.values())
    assert all(job_id in state.dependents[after.job] for after in live.job.waits)
    assert all(after.job in state.jobs for after in live.job.waits), f"job {job_id} waits for ever"
    for index, task in live.tasks.items():
        assert task.index == index < live.total
        assert index < live.next_index or index in live.ahead
        seen.move(TaskState.CANCELLED, task.state, task.width)
        _check_holders(state, task)
        if task.state is TaskState.QUEUED:
            assert index in live.ready[task.excluded], f"{task} would never be placed"
            listed += task.width
        if task.state is TaskState.RETRYING:
            assert (task.retry_at, job_id, index) in state.backoffs, f"{task} would never be retried"
    seen.completed, seen.failed, seen.cancelled = counts.completed, counts.failed, counts.cancelled
    assert seen == counts, f"job {job_id} counts {counts}, its tasks {seen}"
    assert counts.total == live.total
    assert counts.live or job_id in state.lingering, f"job {job_id} has ended but is still in the table"
    assert list(live.runs.values()) == sorted(live.runs.values())
    for index, node_id in live.runs:
        assert (job_id, index) in state.nodes[node_id].held, f"{job_id}/{index} is not in hand and runs"
    assert sum(len(line) for line in live.ready.values()) <= listed
    assert counts.queued == listed + live.untouched, f"job {job_id}: {listed} tasks are ready"


def _is_limited(live: LiveJob) -> bool:
    limits = live.job.spec.limits
    return limits.queue_seconds is not None or limits.total_seconds is not None


def _check_holders(state: MeshState, task: Task) -> None:
    """A task in hand is in the hands of its node, and of its second one if it has two; no other has it."""
    meant = {task.node_id, task.twin_node} - {None} if task.state in ON_NODE else set()
    assert task.state not in ON_NODE or task.node_id is not None, f"{task} is on no node"
    assert task.twin_node is None or task.state in ON_NODE, f"{task} has a twin and does not run"
    assert task.twin_node != task.node_id or task.twin_node is None, f"{task} runs twice on one node"
    for node_id in meant:
        holder = state.nodes.get(node_id) if node_id else None
        assert holder is not None, f"{task} is on no known node"
        assert task.key in holder.held, f"{task} is not in its node's hands"
