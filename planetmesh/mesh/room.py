"""Which nodes may have room: what a pass remembers, so that it need not ask all nodes each time.

A node that had no room for a line has none before something changes. What can give it room is counted
here: work that leaves it (`more_room`), a rest that is over (`rest`), and all that decides which nodes fit
at all (`refit`), after which everybody looks at all nodes anew.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Mapping

from planetmesh.mesh import fitness, score
from planetmesh.mesh.live_job import Signature
from planetmesh.mesh.live_node import LiveNode
from planetmesh.model.ids import NodeId
from planetmesh.model.resources import NOTHING, Resources
from planetmesh.settings import Weights

Nodes = Mapping[NodeId, LiveNode]


class Room:
    """Numbers the changes of nodes by which they may gain room."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.era = 0
        """Number of the last change after which other nodes may fit: older knowledge is void."""
        self.number = 0
        """Of the last gain of room."""
        self.gains: OrderedDict[NodeId, int] = OrderedDict()
        """Each node's last gain of room, oldest first."""
        self.rests: list[tuple[float, NodeId]] = []
        """Heap of the steady times at which rests of nodes are over."""
        self._fit: dict[Signature, dict[NodeId, LiveNode]] = {}
        self._slots: dict[Signature, int] = {}
        self._offered: Resources | None = None

    def refit(self) -> None:
        """A node came, went or changed in what it offers, its tags, its state or how far it is trusted."""
        self.era += 1
        self._fit.clear()
        self._slots.clear()
        self._offered = None

    def more_room(self, node_id: NodeId) -> None:
        """This node may have room where it had none."""
        self.number += 1
        self.gains[node_id] = self.number
        self.gains.move_to_end(node_id)

    def rest(self, node_id: NodeId, until: float) -> None:
        """The node gets nothing, or no backlog, before this steady time."""
        heapq.heappush(self.rests, (until, node_id))

    def wake(self, now_steady: float) -> None:
        """Count rests that are over."""
        while self.rests and self.rests[0][0] <= now_steady:
            _until, node_id = heapq.heappop(self.rests)
            if node_id in self.nodes:
                self.more_room(node_id)

    def gained_since(self, number: int) -> list[NodeId]:
        """Nodes that gained room after the gain of this number."""
        found = []
        for node_id, last in reversed(self.gains.items()):
            if last <= number:
                break
            found.append(node_id)
        return found

    def forget(self, node_id: NodeId) -> None:
        """The node is no longer in the table."""
        self.gains.pop(node_id, None)
        self.refit()

    def fit(self, signature: Signature) -> dict[NodeId, LiveNode]:
        """Nodes that could run such tasks, whether they have room or not."""
        found = self._fit.get(signature)
        if found is None:
            found = self._fit[signature] = {
                node_id: live
                for node_id, live in self.nodes.items()
                if fitness.objection(signature, live) is None
            }
        return found

    def slots(self, signature: Signature) -> int:
        """How many such tasks could run at a time."""
        found = self._slots.get(signature)
        if found is None:
            fit = self.fit(signature).values()
            found = self._slots[signature] = sum(signature[0].how_often_in(live.offer) for live in fit)
        return found

    @property
    def offered(self) -> Resources:
        """By all nodes that are connected."""
        if self._offered is None:
            self._offered = NOTHING
            for live in self.nodes.values():
                if live.connected:
                    self._offered += live.offer
        return self._offered

    def doubt(self, signature: Signature) -> None:
        """Ask anew which nodes fit."""
        self._fit.pop(signature, None)
        self._slots.pop(signature, None)

    def check(self) -> None:
        """Compare what is remembered with the nodes; AssertionError names the first contradiction."""
        for signature, found in self._fit.items():
            fit = {node_id for node_id, live in self.nodes.items() if not fitness.objection(signature, live)}
            assert found.keys() == fit, f"nodes changed unseen for {signature}: {found.keys() ^ fit}"
            assert all(self.nodes[node_id] is live for node_id, live in found.items())
        assert list(self.gains.values()) == sorted(self.gains.values())
        assert self.gains.keys() <= self.nodes.keys()


class Ranking:
    """Nodes that may have room for a line, cheapest on top; no other had any when it was asked last."""

    def __init__(
        self, room: Room, signature: Signature, excluded: tuple[NodeId, ...], now_steady: float
    ) -> None:
        self.room = room
        self.signature = signature
        self.made_at = now_steady
        fit = room.fit(signature)
        tried = fit.keys() & set(excluded)
        self.barred = tried if len(tried) < len(fit) else set[NodeId]()
        """Nodes that failed the tasks: they count only if no other could run them."""
        self.nodes: list[tuple[float, NodeId]] = []
        """Heap by cost. A node that gained room twice is in it twice."""
        self.seen: int | None = None
        """Number of the last gain of room that was looked at; None before the first look, at all nodes."""
        self._era = room.era

    @property
    def is_void(self) -> bool:
        """All nodes must be looked at anew."""
        return self._era != self.room.era or len(self.nodes) > 2 * len(self.room.nodes)

    def fits(self, node_id: NodeId) -> bool:
        return node_id in self.room.fit(self.signature) and node_id not in self.barred

    def cheapest(self, has_room: Callable[[LiveNode], bool], weights: Weights) -> LiveNode | None:
        """The cheapest node that fits and has room; one that has none is asked again when it gained some.

        Costs rise with what a node is given, so its place in the heap is put right when it comes up.
        """
        self._catch_up(has_room, weights)
        while self.nodes:
            cost, node_id = self.nodes[0]
            live = self.room.nodes[node_id]
            if not has_room(live):
                heapq.heappop(self.nodes)
                continue
            present = score.cost(live, weights)
            if present <= cost:
                return live
            heapq.heapreplace(self.nodes, (present, node_id))
        return None

    def _catch_up(self, has_room: Callable[[LiveNode], bool], weights: Weights) -> None:
        room = self.room
        if self.seen is None:
            fit = room.fit(self.signature)
            self.nodes = [
                (score.cost(live, weights), node_id)
                for node_id, live in fit.items()
                if node_id not in self.barred and has_room(live)
            ]
            heapq.heapify(self.nodes)
        elif self.seen != room.number:
            for node_id in room.gained_since(self.seen):
                live = room.nodes[node_id]
                if self.fits(node_id) and has_room(live):
                    heapq.heappush(self.nodes, (score.cost(live, weights), node_id))
        self.seen = room.number
