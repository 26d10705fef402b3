"""One bad machine must not eat the queue: quarantine of a node for one kind of job, and how it heals.

A node that fails a kind of job quickly, several times in a row, while the same jobs do well elsewhere, gets
no more of that kind until a cool-down is over; then one task as a probe, whose end says whether it is trusted
again. A failure that nobody does better is the job's own, and no machine is blamed for it; nor is the second
machine on which one task fails, or whose neighbours fail now too, or that is given what had failed for good
before: the few bad inputs that are left of a job would put all of them away.
"""

from __future__ import annotations

from itertools import islice

from planetmesh.mesh.lifecycle import Phase, PhaseCause
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.live_node import LiveNode, Record
from planetmesh.mesh.state import MeshState
from planetmesh.model.ids import NodeId, TaskKey
from planetmesh.model.job import Task
from planetmesh.model.node import Confined

JOBS_MOST = 16
"""Failed jobs that a streak remembers."""
LONGER = 3.0
"""A task that runs so many times longer elsewhere than it took to fail here is going well there."""
LOOKED_AT_MOST = 256
"""Of a job's tasks that run for longest, so many are compared with one that failed."""


def on_good(
    state: MeshState, live: LiveJob, node: LiveNode, key: TaskKey, now_steady: float
) -> list[LiveNode]:
    """An attempt ended well: the node is trusted, and those that failed the same job are compared with it.

    Gives the nodes whose standing changed.
    """
    changed = []
    record = node.records.get(live.kind)
    if record is not None:
        if record.phase is not Phase.GOOD and (record.phase is not Phase.PROBING or record.probe == key):
            changed.append(node)
            _heal(record, PhaseCause.DID_WELL)
        if record.phase is Phase.GOOD:
            record.streak, record.shown_elsewhere = 0, False
            record.failed_jobs.clear()
    for node_id in sorted(live.blamed - {node.node.id}):
        live.blamed.discard(node_id)
        other = state.nodes.get(node_id)
        theirs = other.records.get(live.kind) if other else None
        if other is None or theirs is None or live.job.id not in theirs.failed_jobs:
            continue
        theirs.shown_elsewhere = True
        if _confine_if_due(state, theirs, now_steady):
            changed.append(other)
    return changed


def on_bad(
    state: MeshState,
    live: LiveJob,
    node: LiveNode,
    key: TaskKey,
    *,
    seconds: float,
    error: str,
    now_steady: float,
) -> list[LiveNode]:
    """An attempt failed by itself after so long. Gives the nodes whose standing changed."""
    if key[1] in live.again or _failed_elsewhere(live.tasks[key[1]], node):
        return []
    record = node.record(live.kind)
    if record.phase is Phase.PROBING and record.probe == key:
        record.reason = error
        _confine(state, record, PhaseCause.FAILED_AGAIN, now_steady)
        return [node]
    if seconds > state.settings.quick_failure_seconds:
        record.streak = 0
        return []
    record.streak += 1
    record.reason = error
    if len(record.failed_jobs) < JOBS_MOST:
        record.failed_jobs.add(live.job.id)
        live.blamed.add(node.node.id)
    if record.streak >= state.settings.quarantine_failures:
        record.shown_elsewhere |= _does_better_elsewhere(state, live, node, seconds, now_steady)
    return [node] if _confine_if_due(state, record, now_steady) else []


def _failed_elsewhere(task: Task, node: LiveNode) -> bool:
    return task.failures > 0 and any(node_id != node.node.id for node_id in task.excluded)


def _does_better_elsewhere(
    state: MeshState, live: LiveJob, node: LiveNode, seconds: float, now_steady: float
) -> bool:
    """Did this job end well on another node, or does it run there much longer than it took to fail here?"""
    if any(node_id != node.node.id and _does_well(state, node_id, live.kind) for node_id in live.good_nodes):
        return True
    latest = now_steady - max(1.0, LONGER * seconds)
    for (_index, node_id), since in islice(live.runs.items(), LOOKED_AT_MOST):
        if since > latest:
            break
        if node_id != node.node.id and _does_well(state, node_id, live.kind):
            return True
    return False


def _does_well(state: MeshState, node_id: NodeId, kind: str) -> bool:
    """Nothing speaks against the node: it can be what another one is compared with."""
    node = state.nodes.get(node_id)
    record = node.records.get(kind) if node else None
    return node is not None and (record is None or (record.phase is Phase.GOOD and not record.streak))


def _confine_if_due(state: MeshState, record: Record, now_steady: float) -> bool:
    due = record.streak >= state.settings.quarantine_failures and record.shown_elsewhere
    if not due or record.phase is not Phase.GOOD:
        return False
    _confine(state, record, PhaseCause.BLAMED, now_steady)
    return True


def _confine(state: MeshState, record: Record, cause: PhaseCause, now_steady: float) -> None:
    record.move(cause)
    settings = state.settings
    doubled = 2 * record.cool_seconds or settings.quarantine_seconds
    record.cool_seconds = min(doubled, settings.quarantine_longest_seconds)
    record.cool_until = now_steady + record.cool_seconds


def _heal(record: Record, cause: PhaseCause) -> None:
    record.move(cause)
    record.cool_seconds = record.cool_until = 0.0


def on_tick(state: MeshState, now_steady: float) -> list[LiveNode]:
    """Nodes whose cool-down is over: they may show with one task that they are well again."""
    changed = []
    for node in state.nodes.values():
        for record in node.records.values():
            if record.phase is Phase.COOLING and record.cool_until <= now_steady:
                record.move(PhaseCause.COOLED_DOWN)
                changed.append(node)
    return changed


def lift(node: LiveNode) -> bool:
    """An operator says that it is well again; False if nothing was held against it."""
    confined = [record for record in node.records.values() if record.phase is not Phase.GOOD]
    for record in confined:
        _heal(record, PhaseCause.LIFTED)
        record.streak, record.shown_elsewhere = 0, False
        record.failed_jobs.clear()
    return bool(confined)


def confined(node: LiveNode) -> tuple[Confined, ...]:
    """What is held against a node, for its row."""
    return tuple(
        Confined(kind, record.reason, record.cool_seconds)
        for kind, record in node.records.items()
        if record.phase is not Phase.GOOD
    )


def restore(node: LiveNode, now_steady: float) -> None:
    """After a start of the coordinator: cool-downs begin anew."""
    for each in node.node.confined:
        record = node.record(each.kind)
        record.move(PhaseCause.REMEMBERED)
        record.reason = each.reason
        record.cool_seconds, record.cool_until = each.cool_seconds, now_steady + each.cool_seconds
