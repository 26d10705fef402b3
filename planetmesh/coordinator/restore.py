"""The store's records → the mesh's state, after a start (or after the disk had refused a write).

The store gives RETRYING tasks back as QUEUED: back-offs end with the process that counted them.
"""

from __future__ import annotations

from collections.abc import Callable

from planetmesh.mesh import limits, quarantine
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.job import ON_NODE, Task
from planetmesh.settings import Settings
from planetmesh.store.restore import RestoredJob, Snapshot


def restore(snapshot: Snapshot, settings: Settings, spread: Callable[[], float], now: Moment) -> MeshState:
    """Nobody is connected yet. Nodes get the grace time to come back with what they still run."""
    state = MeshState(settings, spread)
    last_heard = now.steady + settings.restart_grace_seconds - settings.offline_after_seconds
    for node in snapshot.nodes:
        live = state.nodes[node.id] = LiveNode(node, max(now.steady, last_heard))
        live.restore_learned(snapshot.learned.get(node.id, ()))
        quarantine.restore(live, now.steady)
    for record in snapshot.jobs:
        _take_job(state, record, now)
    return state


def _take_job(state: MeshState, record: RestoredJob, now: Moment) -> None:
    live = LiveJob(record.job)
    live.counts = record.counts
    live.next_index = record.next_index
    live.first_error = record.first_error
    for task in record.tasks:
        _take_task(state, live, task, now)
    limits.restore(live, now.steady)
    state.add_job(live)
    if not live.counts.live:
        state.lingering[record.job.id] = now.steady


def _take_task(state: MeshState, live: LiveJob, task: Task, now: Moment) -> None:
    live.adopt(task)
    if task.state in ON_NODE:
        for node_id in (task.node_id, task.twin_node):
            if node_id is not None:
                state.hold(live, state.nodes[node_id], task.index, now.steady)
