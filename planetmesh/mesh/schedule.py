"""Which task goes where: priority first, then submitters by what they use, then jobs in turn.

Each task goes to the node with the lowest cost. That is the same node for all tasks of a line, but for those
with large files: there the nodes that hold some of them are compared with it, and no other can be cheaper.

A pass is a generator: the engine applies each placement before it asks for the next, so the state
itself is the tally. All tasks of a line may go to the same nodes, so when its first job finds no room
the line is done: a placement costs a heap step, whatever the queue's length, and nobody is overtaken
by his equals. Free slots are given away first; backlog behind busy slots only where nobody of the
same or a higher priority waits for a slot, or short tasks would keep the others out for ever.

A line asks all nodes once, and from then on those that gained room since (`room`), so a full mesh costs a
turn what changed in it. Free slots are never missed by that; backlog may come a moment late where a line
could stand behind others that it could not stand behind before. All nodes are asked again now and then.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator

import msgspec

from planetmesh.mesh import chunks, fitness, score
from planetmesh.mesh.holdings import Sizes, missing_bytes
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.room import Ranking
from planetmesh.mesh.state import LineKey, MeshState
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Terms
from planetmesh.model.resources import NOTHING, Resources

STARVED_SECONDS = 30.0
"""A line that got nothing for so long has a node kept free for it: small tasks would otherwise take
each slot that comes free before a large one fits."""
STARVED_MOST = 8
"""Lines that are helped so at the same time."""
LOOK_AGAIN_SECONDS = 1.0
"""A line that knows the nodes for longer asks all of them again, one line in each pass."""


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
    claims: set[LineKey]
    """Lines that wait for a slot: no node that fits them gets backlog."""
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

    def is_spoken_for(self, live: LiveNode) -> bool:
        """Does another line wait for a slot that this node could give it?"""
        state, node_id = self.state, live.node.id
        for key in self.claims:
            ranking = state.slots.get(key)
            if ranking is not None and ranking.fits(node_id) and _is_free_to_take(state, key, live):
                return True
        return False


def placements(
    state: MeshState, now_steady: float, may_go_on: Callable[[], bool]
) -> Generator[Placement, None, bool]:
    """Placements until nothing more fits or `may_go_on` says no. Each must be applied before the next.

    A pass that was cut short (it returns False) is carried on by the next one: lines that had no luck are
    not asked again before all others were.
    """
    state.room.wake(now_steady)
    _keep_free(state, now_steady)
    _look_again(state, now_steady)
    around = _Pass(state, now_steady, set(), state.room.offered)
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
    """One line of jobs in one pass."""

    def __init__(self, around: _Pass, key: LineKey) -> None:
        self.around = around
        self.state = around.state
        self.key = key
        self.line = self.state.queue[key]

    @property
    def turn(self) -> tuple[float, int]:
        return (self.around.share(self.key[3]), self.line[next(iter(self.line))])

    @property
    def first(self) -> LiveJob:
        return self.state.jobs[next(iter(self.line))]

    def next_slot(self) -> Placement | None:
        """Give the first job's next task to a node with a free slot."""
        state, key, now = self.state, self.key, self.around.now_steady
        signature = key[1]
        requests, kind = signature[0], signature[4]
        placement = self._placement(
            self.first,
            self._ranking(state.slots),
            lambda live: (
                fitness.has_slot(live, requests, now)
                and fitness.may_try(live, kind)
                and _is_free_to_take(state, key, live)
            ),
        )
        if placement is not None:
            state.blocked_since.pop(key, None)
            return placement
        state.asked.add(key)
        if state.room.fit(signature):
            state.blocked_since.setdefault(key, now)
        return None

    def claim(self) -> None:
        """If the first job waits for a slot and may not stand behind others, nobody stands in its way."""
        if self.line and not fitness.may_stand_in_backlog(self.first, self.state.settings):
            self._ranking(self.state.slots)
            self.around.claims.add(self.key)

    def next_backlog(self) -> Placement | None:
        """Let the first job's next task wait at a node behind short ones."""
        job, state, settings = self.first, self.state, self.state.settings
        if not fitness.may_stand_in_backlog(job, settings):
            self.claim()
            return None
        around = self.around
        return self._placement(
            job,
            self._ranking(state.backlogs),
            lambda live: (
                fitness.has_backlog_room(live, job, state.jobs, settings, around.now_steady)
                and fitness.is_trusted(live, job.kind)
                and _is_free_to_take(state, self.key, live)
                and not around.is_spoken_for(live)
            ),
        )

    def _placement(
        self, job: LiveJob, ranking: Ranking, has_room: Callable[[LiveNode], bool]
    ) -> Placement | None:
        """The job's next task on the node where it costs least."""
        settings, holdings = self.state.settings, self.state.holdings
        chosen = ranking.cheapest(has_room, settings.weights)
        if chosen is None:
            return None
        task = job.next_for(self.key[2])
        assert task is not None
        wanted = holdings.wanted(job, task)
        if missing_bytes(chosen, wanted):
            chosen = self._with_holders(chosen, wanted, ranking, has_room)
        why = score.terms(chosen, settings.weights, missing_bytes(chosen, wanted))
        width = task.width
        if job.is_auto and task.index not in job.tasks:
            width = chunks.width(job, chosen, self.state.room.slots(job.signature), settings)
        return Placement(job.job.id, task.index, chosen.node.id, why, width)

    def _with_holders(
        self, cheapest: LiveNode, wanted: Sizes, ranking: Ranking, has_room: Callable[[LiveNode], bool]
    ) -> LiveNode:
        """The cheapest, or one that holds some of the files and is cheaper for that.

        To all nodes that hold nothing the files add the same, so the cheapest of those is known.
        """
        weights = self.state.settings.weights
        best = cheapest
        least = score.cost(cheapest, weights, missing_bytes(cheapest, wanted))
        for node_id in self.state.holdings.holders(wanted):
            live = self.state.nodes[node_id]
            cost = score.cost(live, weights, missing_bytes(live, wanted))
            if cost < least and ranking.fits(node_id) and has_room(live):
                best, least = live, cost
        return best

    def _ranking(self, known: dict[LineKey, Ranking]) -> Ranking:
        """What the line knows of the nodes. One that was made anew goes to the end."""
        ranking = known.get(self.key)
        if ranking is None or ranking.is_void:
            known.pop(self.key, None)
            _priority, signature, excluded, _submitter = self.key
            ranking = known[self.key] = Ranking(self.state.room, signature, excluded, self.around.now_steady)
        return ranking


def _is_free_to_take(state: MeshState, key: LineKey, live: LiveNode) -> bool:
    """Not kept for another line, unless for one of less priority."""
    other = state.kept.get(live.node.id)
    return other is None or other == key or other[0] < key[0]


def _look_again(state: MeshState, now_steady: float) -> None:
    """Let the line that has not asked all nodes for longest do so, and doubt what it knows of them."""
    for known in (state.slots, state.backlogs):
        for key, ranking in known.items():
            if now_steady - ranking.made_at >= LOOK_AGAIN_SECONDS:
                del known[key]
                state.room.doubt(key[1])
            break


def _keep_free(state: MeshState, now_steady: float) -> None:
    """For each line that starves, the node that will soonest have room for it: the one with least in hand.

    It stays that node for a while; one that is no longer kept has room for others.
    """
    starved = [
        (-key[0], since, key)
        for key, since in state.blocked_since.items()
        if now_steady - since >= STARVED_SECONDS
    ]
    keys = [key for *_rank, key in heapq.nsmallest(STARVED_MOST, starved, key=lambda each: each[:2])]
    chosen_at, era = state.kept_at
    before, kept = state.kept, dict[NodeId, LineKey]()
    if era == state.room.era and now_steady - chosen_at < LOOK_AGAIN_SECONDS:
        kept = {node_id: key for node_id, key in before.items() if key in keys}
    else:
        state.kept_at = now_steady, state.room.era
    for key in keys:
        if key in kept.values():
            continue
        _, signature, excluded, _submitter = key
        fit = [live for node_id, live in state.room.fit(signature).items() if node_id not in kept]
        untried = [live for live in fit if live.node.id not in excluded]
        least = min(untried or fit, key=lambda live: (score.queue(live), live.node.id), default=None)
        if least is not None:
            kept[least.node.id] = key
    state.kept = kept
    for node_id, key in before.items():
        if kept.get(node_id) != key and node_id in state.nodes:
            state.room.more_room(node_id)


def untried_node_exists(state: MeshState, job: LiveJob, excluded: tuple[NodeId, ...]) -> bool:
    """Is there a node that could run the job's tasks and is not among `excluded`?"""
    return any(node_id not in excluded for node_id in state.room.fit(job.signature))
