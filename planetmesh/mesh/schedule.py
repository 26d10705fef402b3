"""Which task goes where: priority first, then submitters by what they use, then jobs in turn.

Each task goes to the node with the lowest cost.

A pass is a generator: the engine applies each placement before it asks for the next, so the state
itself is the tally. All tasks of a line may go to the same nodes, so when its first job finds no room
the line is done: a placement costs a heap step, whatever the queue's length, and nobody is overtaken
by his equals. Free slots are given away first; backlog behind busy slots only where nobody of the
same or a higher priority waits for a slot, or short tasks would keep the others out for ever.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterator

import msgspec

from planetmesh.mesh import chunks, fitness, score
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import LineKey, MeshState
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Terms
from planetmesh.model.resources import NOTHING, Resources

STARVED_SECONDS = 30.0
"""A line that got nothing for so long has a node kept free for it: small tasks would otherwise take
each slot that comes free before a large one fits."""
STARVED_MOST = 8
"""Lines that are helped so at the same time."""


class Placement(msgspec.Struct, frozen=True):
    """Run this task there, and why there."""

    job_id: JobId
    index: int
    node_id: NodeId
    terms: Terms
    width: int = 1
    """How many inputs it takes, where the scheduler cuts the chunks."""


class _Pass(msgspec.Struct):
    """What the lines of one pass have to know of each other."""

    state: MeshState
    now_steady: float
    kept: dict[NodeId, LineKey]
    """Nodes kept free for a line that starves."""
    spoken_for: set[NodeId]
    """Nodes that get no backlog: somebody waits for a slot there."""
    offered: Resources
    """By all nodes that are connected."""

    def share(self, submitter: str) -> float:
        """The part of the mesh that one submitter uses, by the resource of which that is most."""
        used, offered = self.state.in_use.get(submitter, NOTHING), self.offered
        return max(
            used.cpu_millis / max(1, offered.cpu_millis),
            used.memory_bytes / max(1, offered.memory_bytes),
            used.gpus / max(1, offered.gpus),
        )


def placements(
    state: MeshState, now_steady: float, may_go_on: Callable[[], bool]
) -> Generator[Placement, None, bool]:
    """Placements until nothing more fits or `may_go_on` says no. Each must be applied before the next.

    A pass that was cut short (it returns False) is carried on by the next one: lines that had no luck are
    not asked again before all others were.
    """
    offered = NOTHING
    for live in state.nodes.values():
        if live.connected:
            offered = offered + live.offer
    around = _Pass(state, now_steady, _keep_free(state, now_steady), set(), offered)
    by_priority: dict[int, list[LineKey]] = {}
    for key in state.queue:
        if key not in state.asked:
            by_priority.setdefault(key[0], []).append(key)
    for priority in sorted(by_priority, reverse=True):
        boards = [_Board(around, key) for key in by_priority[priority]]
        if not (yield from _take_turns(boards, _Board.next_slot, may_go_on)):
            return False
        for board in boards:
            board.claim()
        if not (yield from _take_turns(boards, _Board.next_backlog, may_go_on)):
            return False
    state.asked.clear()
    return True


def _take_turns(
    boards: list[_Board], ask: Callable[[_Board], Placement | None], may_go_on: Callable[[], bool]
) -> Generator[Placement, None, bool]:
    """Ask the line of the submitter who uses least, and of those whose first job had its turn longest ago.

    Goes on until none has luck; False if cut short. Shares and turns only rise meanwhile, so a line's
    place in the heap is put right when it comes up.
    """
    turns = [(board.turn, number, board) for number, board in enumerate(boards) if board.line]
    heapq.heapify(turns)
    while turns:
        turn, number, board = turns[0]
        if not board.line:  # its last job reached its `max_running` by a placement out of another line
            heapq.heappop(turns)
            continue
        if turn != board.turn:
            heapq.heapreplace(turns, (board.turn, number, board))
            continue
        placement = ask(board)
        if placement is None:
            heapq.heappop(turns)
        else:
            yield placement
        if not may_go_on():
            return not turns
    return True


class _Board:
    """One line of jobs and the nodes that fit them, cheapest on top."""

    def __init__(self, around: _Pass, key: LineKey) -> None:
        self.around = around
        self.state = around.state
        self.key = key
        self.line = self.state.queue[key]
        self._fit: list[LiveNode] | None = None
        self._nodes: list[tuple[float, NodeId]] = []
        self._slot_count: int | None = None

    @property
    def turn(self) -> tuple[float, int]:
        return (self.around.share(self.key[3]), self.line[next(iter(self.line))])

    @property
    def first(self) -> LiveJob:
        return self.state.jobs[next(iter(self.line))]

    def next_slot(self) -> Placement | None:
        """Give the first job's next task to a node with a free slot."""
        if self._fit is None:
            self._nodes = self._ranked(self._find_fit())
        job = self.first
        requests, now, kind = job.job.spec.requests, self.around.now_steady, job.kind
        chosen = self._cheapest(
            lambda live: fitness.has_slot(live, requests, now) and fitness.may_try(live, kind)
        )
        if chosen is not None:
            self.state.blocked_since.pop(self.key, None)
            return self._placed(job, chosen)
        self.state.asked.add(self.key)
        if self._fit:
            self.state.blocked_since.setdefault(self.key, now)
        return None

    def claim(self) -> None:
        """If the first job waits for a slot and may not stand behind others, nobody stands in its way."""
        if self.line and not fitness.may_stand_in_backlog(self.first, self.state.settings):
            self.around.spoken_for.update(live.node.id for live in self._fit or ())

    def next_backlog(self) -> Placement | None:
        """Let the first job's next task wait at a node behind short ones."""
        job, settings = self.first, self.state.settings
        if not fitness.may_stand_in_backlog(job, settings):
            self.claim()
            return None
        if not self._nodes:
            self._nodes = self._ranked(self._fit or ())
        jobs, now = self.state.jobs, self.around.now_steady
        spoken_for = self.around.spoken_for
        chosen = self._cheapest(
            lambda live: (
                live.node.id not in spoken_for
                and fitness.is_trusted(live, job.kind)
                and fitness.has_backlog_room(live, job, jobs, settings, now)
            )
        )
        return None if chosen is None else self._placed(job, chosen)

    def _placed(self, job: LiveJob, chosen: LiveNode) -> Placement:
        task = job.next_for(self.key[2])
        assert task is not None
        settings = self.state.settings
        why = score.terms(chosen, settings.weights)
        width = task.width
        if job.is_auto and task.index not in job.tasks:
            width = chunks.width(job, chosen, self._slots(job), settings)
        return Placement(job.job.id, task.index, chosen.node.id, why, width)

    def _slots(self, job: LiveJob) -> int:
        """How many tasks of the job could run at a time."""
        if self._slot_count is None:
            requests = job.job.spec.requests
            self._slot_count = sum(requests.how_often_in(live.offer) for live in self._fit or ())
        return self._slot_count

    def _find_fit(self) -> list[LiveNode]:
        """Another machine first: those that failed the tasks count only if no other could run them."""
        _priority, signature, excluded, _submitter = self.key
        fit = [live for live in self.state.nodes.values() if fitness.objection(signature, live) is None]
        untried = [live for live in fit if live.node.id not in excluded]
        self._fit = [live for live in untried or fit if self._is_free_to_take(live)]
        return self._fit

    def _is_free_to_take(self, live: LiveNode) -> bool:
        """Not kept for another line, unless for one of less priority."""
        other = self.around.kept.get(live.node.id)
        return other is None or other == self.key or other[0] < self.key[0]

    def _ranked(
        self, fit: Iterator[LiveNode] | list[LiveNode] | tuple[LiveNode, ...]
    ) -> list[tuple[float, NodeId]]:
        weights = self.state.settings.weights
        nodes = [(score.terms(live, weights).cost, live.node.id) for live in fit]
        heapq.heapify(nodes)
        return nodes

    def _cheapest(self, has_room: Callable[[LiveNode], bool]) -> LiveNode | None:
        """Costs only rise during a pass, so a node's place in the heap is put right when it comes up."""
        weights = self.state.settings.weights
        while self._nodes:
            cost, node_id = self._nodes[0]
            live = self.state.nodes[node_id]
            if not has_room(live):
                heapq.heappop(self._nodes)
                continue
            present = score.terms(live, weights).cost
            if present <= cost:
                return live
            heapq.heapreplace(self._nodes, (present, node_id))
        return None


def _keep_free(state: MeshState, now_steady: float) -> dict[NodeId, LineKey]:
    """For each line that starves, the node that will soonest have room for it: the one with least in hand."""
    starved = [
        (-key[0], since, key)
        for key, since in state.blocked_since.items()
        if now_steady - since >= STARVED_SECONDS
    ]
    kept: dict[NodeId, LineKey] = {}
    for _priority, _since, key in heapq.nsmallest(STARVED_MOST, starved, key=lambda each: each[:2]):
        _, signature, excluded, _submitter = key
        fit = [
            live
            for live in state.nodes.values()
            if live.node.id not in kept and fitness.objection(signature, live) is None
        ]
        untried = [live for live in fit if live.node.id not in excluded]
        least = min(untried or fit, key=lambda live: (score.queue(live), live.node.id), default=None)
        if least is not None:
            kept[least.node.id] = key
    return kept


def untried_node_exists(state: MeshState, job: LiveJob, excluded: tuple[NodeId, ...]) -> bool:
    """Is there a node that could run the job's tasks and is not among `excluded`?"""
    return any(
        live.node.id not in excluded and fitness.objection(job.signature, live) is None
        for live in state.nodes.values()
    )
