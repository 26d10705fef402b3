"""Which task goes where: priority first, then jobs in turn, each to the node with the lowest cost.

A pass is a generator: the engine applies each placement before it asks for the next, so the state
itself is the tally. Nodes are looked at once a pass for all jobs of one signature; then a
placement costs a heap step, whatever the queue's length. Jobs and nodes without room are left.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from planetmesh.mesh import fitness, score
from planetmesh.mesh.state import LiveJob, LiveNode, MeshState, Signature
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Task

LOOK_AHEAD = 8
"""Tasks of one job that are tried when those before them wait for a machine they have not failed on."""


class Placement(msgspec.Struct, frozen=True):
    """Run this task there, and why there."""

    job_id: JobId
    index: int
    node_id: NodeId
    terms: score.Terms


def placements(state: MeshState, now_steady: float, may_go_on: Callable[[], bool]) -> Iterator[Placement]:
    """Placements until nothing more fits or `may_go_on` says no. Each must be applied before the next."""
    for priority in sorted(state.queue, reverse=True):
        boards = [
            _Board(state, signature, line, now_steady) for signature, line in state.queue[priority].items()
        ]
        while boards:
            for board in tuple(boards):
                if not may_go_on():
                    return
                placement = board.next_placement()
                if placement is None:
                    boards.remove(board)
                else:
                    yield placement
    _sweep(state)


class _Board:
    """One signature's jobs in line and the nodes that fit them, cheapest on top."""

    def __init__(self, state: MeshState, signature: Signature, line: deque[JobId], now_steady: float) -> None:
        self.state = state
        self.line = line
        self.now_steady = now_steady
        self.turns_left = len(line)
        """Jobs that may still be asked before a whole round went by without a placement."""
        weights = state.settings.weights
        self.fit = [live for live in state.nodes.values() if fitness.objection(signature, live) is None]
        self.nodes = [(score.terms(live, weights).cost, live.node.id) for live in self.fit]
        heapq.heapify(self.nodes)

    def next_placement(self) -> Placement | None:
        while self.line and self.turns_left > 0 and self.nodes:
            job_id = self.line[0]
            live = self.state.jobs.get(job_id)
            if live is None or live.peek() is None:
                self.line.popleft()
                self.state.queued_jobs.discard(job_id)
                self.turns_left -= 1
                continue
            self.line.rotate(-1)
            placement = None if live.capped else self._place_one(live)
            if placement is not None:
                self.turns_left = len(self.line)
                return placement
            self.turns_left -= 1
        return None

    def _place_one(self, job: LiveJob) -> Placement | None:
        """The first of the job's next tasks that some node takes; a barred one does not bar the rest."""
        for task in job.candidates(LOOK_AHEAD):
            chosen = self._choose(job, task)
            if chosen is not None:
                why = score.terms(chosen, self.state.settings.weights)
                return Placement(job.job.id, task.index, chosen.node.id, why)
            if not task.excluded:
                return None
        return None

    def _choose(self, job: LiveJob, task: Task) -> LiveNode | None:
        if task.excluded:
            return self._choose_elsewhere(job, task)
        while self.nodes:
            cost, node_id = self.nodes[0]
            live = self.state.nodes[node_id]
            if not self._has_room(live, job):
                heapq.heappop(self.nodes)
                continue
            present = score.terms(live, self.state.settings.weights).cost
            if present > cost:
                heapq.heapreplace(self.nodes, (present, node_id))
                continue
            return live
        return None

    def _choose_elsewhere(self, job: LiveJob, task: Task) -> LiveNode | None:
        """Another machine first: the ones it failed on count only if no other could ever run it."""
        untried = [live for live in self.fit if live.node.id not in task.excluded]
        free = [live for live in untried or self.fit if self._has_room(live, job)]
        weights = self.state.settings.weights
        return min(free, key=lambda live: score.terms(live, weights).cost, default=None)

    def _has_room(self, live: LiveNode, job: LiveJob) -> bool:
        return fitness.has_room(live, job, self.state.jobs, self.state.settings, self.now_steady)


def _sweep(state: MeshState) -> None:
    """Forget lines that have become empty, so that a pass costs nothing for them."""
    for priority in list(state.queue):
        ranks = state.queue[priority]
        for signature in [signature for signature, line in ranks.items() if not line]:
            del ranks[signature]
        if not ranks:
            del state.queue[priority]


def untried_node_exists(state: MeshState, job: LiveJob, excluded: tuple[NodeId, ...]) -> bool:
    """Is there a node that could run the job's tasks and is not among `excluded`?"""
    return any(
        live.node.id not in excluded and fitness.objection(job.signature, live) is None
        for live in state.nodes.values()
    )
