"""The last stragglers of a job run a second time on machines that idle; the first result counts.

Only where nothing else could use the machine: the job has no task left to place, and nothing that waits in
the queue may run there. A task that may run only once never has a twin.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from planetmesh.mesh import fitness, score
from planetmesh.mesh.holdings import missing_bytes
from planetmesh.mesh.live_job import LiveJob, Signature
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Task, TaskState, Terms

TWINS_MOST = 16
"""That one tick starts."""
LOOKED_AT_MOST = 2000
"""Tasks that one tick looks at."""
LINES_MOST = 64
"""With more lines than this in the queue some of it is taken to fit everywhere."""


class Twin(msgspec.Struct, frozen=True):
    """Run this task there too."""

    job_id: JobId
    index: int
    node_id: NodeId
    terms: Terms


def twins(state: MeshState, now_steady: float) -> Iterator[Twin]:
    """Second attempts that are worth it now. Each must be applied before the next is asked for."""
    if len(state.queue) > LINES_MOST:
        return
    idle = _Idle(state, now_steady)
    looked_at = found = 0
    for live in list(state.jobs.values()):
        longest = _longest(state, live)
        if longest is None:
            continue
        for task in list(live.tasks.values()):
            looked_at += 1
            if looked_at > LOOKED_AT_MOST or found >= TWINS_MOST:
                return
            if not _lags(state, task, now_steady - longest * task.width):
                continue
            node = idle.node_for(live, task)
            if node is not None:
                found += 1
                missing = missing_bytes(node, state.holdings.wanted(live, task))
                terms = score.terms(node, state.settings.weights, missing)
                yield Twin(task.job_id, task.index, node.node.id, terms)


def _longest(state: MeshState, live: LiveJob) -> float | None:
    """How long an input of this job may take before it lags; None if nothing of the job may run twice."""
    spec, settings = live.job.spec, state.settings
    if spec.at_most_once or not spec.duplicates or live.is_held or live.mean_seconds is None:
        return None
    if live.untouched or live.counts.queued or settings.straggler_factor <= 0:
        return None
    if live.job.max_running is not None:
        twins_now = sum(task.twin_node is not None for task in live.tasks.values())
        if live.in_hands + twins_now >= live.job.max_running:
            return None
    return max(settings.straggler_factor * live.mean_seconds, settings.straggler_least_seconds)


def _lags(state: MeshState, task: Task, since: float) -> bool:
    if task.state is not TaskState.RUNNING or task.twin_node is not None or task.node_id is None:
        return False
    return state.nodes[task.node_id].held[task.key][1] <= since


class _Idle:
    """Nodes with a free slot that nobody waits for, found once for all jobs of a signature."""

    def __init__(self, state: MeshState, now_steady: float) -> None:
        self.state = state
        self.now_steady = now_steady
        self._found: dict[Signature, list[LiveNode]] = {}

    def node_for(self, live: LiveJob, task: Task) -> LiveNode | None:
        """The cheapest that has not failed the task."""
        idle = self._found.get(live.signature)
        if idle is None:
            idle = self._found[live.signature] = self._find(live.signature)
        fit = [
            node
            for node in idle
            if node.node.id != task.node_id
            and node.node.id not in task.excluded
            and fitness.has_slot(node, live.signature[0], self.now_steady)
        ]
        weights, wanted = self.state.settings.weights, self.state.holdings.wanted(live, task)
        return min(
            fit,
            key=lambda node: (score.cost(node, weights, missing_bytes(node, wanted)), node.node.id),
            default=None,
        )

    def _find(self, signature: Signature) -> list[LiveNode]:
        """Where something that waits may run is not ours to double work on."""
        room = self.state.room
        wanted = {node_id for waits in {key[1] for key in self.state.queue} for node_id in room.fit(waits)}
        return [
            node
            for node_id, node in room.fit(signature).items()
            if node_id not in wanted
            and fitness.is_trusted(node, signature[4])
            and fitness.has_slot(node, signature[0], self.now_steady)
        ]
