"""What a coordinator's owner wants to read as it happens: machines that come, fall silent and go.

One line of log for each change of a node's state. Told by the engine after each turn; decides nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from planetmesh.logs import NEWS
from planetmesh.mesh.lifecycle import NodeCause
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState
from planetmesh.model.ids import NodeId
from planetmesh.model.node import Node, NodeState

log = logging.getLogger(f"{NEWS}.nodes")

WHY_OFFLINE = {
    NodeCause.LEFT: "stopped",
    NodeCause.SILENT_TOO_LONG: "silent",
    NodeCause.THROWN_OUT: "revoked",
}


class NodeNews:
    """Remembers how each node stood, so that a change is told once."""

    def __init__(self) -> None:
        self._known: dict[NodeId, _Standing] = {}

    def start_with(self, state: MeshState) -> None:
        """What the disk says is no news."""
        self._known = {node_id: _standing(live.node) for node_id, live in state.nodes.items()}

    def tell(self, state: MeshState, changed: Iterable[NodeId]) -> None:
        for node_id in changed:
            live = state.nodes.get(node_id)
            known = self._known.get(node_id)
            if live is None:
                self._known.pop(node_id, None)
                if known is not None:
                    log.info("node.forgotten", extra={"node": known.name, "node_id": node_id})
                continue
            now = self._known[node_id] = _standing(live.node)
            if known is None or known.state is not now.state:
                _say_state(live, is_new=known is None)
            if known is not None and known != now:
                _say_rest(node_id, known, now)


class _Standing(msgspec.Struct, frozen=True):
    """What is told of a node when it changes."""

    name: str
    state: NodeState
    draining: bool
    confined: tuple[str, ...]


def _standing(node: Node) -> _Standing:
    return _Standing(node.name, node.state, node.draining, tuple(each.kind for each in node.confined))


def _say_state(live: LiveNode, *, is_new: bool) -> None:
    fields = {"node": live.node.name, "node_id": live.node.id}
    match live.node.state:
        case NodeState.HEALTHY:
            log.info("node.healthy", extra=fields)
        case NodeState.SUSPECT:
            log.info("node.suspect", extra=fields)
        case NodeState.OFFLINE if not is_new:  # a new one has not called yet
            # Who stops a machine in order need not be warned that it stopped.
            level = logging.INFO if live.offline_by is NodeCause.LEFT else logging.WARNING
            reason = WHY_OFFLINE[live.offline_by] if live.offline_by else ""
            log.log(level, "node.offline", extra={**fields, "reason": reason})


def _say_rest(node_id: NodeId, before: _Standing, now: _Standing) -> None:
    fields = {"node": now.name, "node_id": node_id}
    if before.name != now.name:
        log.info("node.renamed", extra={**fields, "before": before.name})
    if before.draining != now.draining:
        log.info("node.draining" if now.draining else "node.resumed", extra=fields)
    for kind in sorted({*now.confined} - {*before.confined}):
        log.warning("node.quarantined", extra={**fields, "kind": kind})
    for kind in sorted({*before.confined} - {*now.confined}):
        log.info("node.quarantine_over", extra={**fields, "kind": kind})
