"""What a coordinator's owner wants to read as it happens: machines that come, fall silent and go.

One line of log for each change of a node's state. Told by the engine after each turn; decides nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from planetmesh.logs import NEWS
from planetmesh.mesh.state import MeshState
from planetmesh.model.ids import NodeId
from planetmesh.model.node import NodeState

log = logging.getLogger(f"{NEWS}.nodes")


class NodeNews:
    """Remembers how each node stood, so that a change is told once."""

    def __init__(self) -> None:
        self._known: dict[NodeId, tuple[str, NodeState]] = {}

    def start_with(self, state: MeshState) -> None:
        """What the disk says is no news."""
        self._known = {node_id: (live.node.name, live.node.state) for node_id, live in state.nodes.items()}

    def tell(self, state: MeshState, changed: Iterable[NodeId]) -> None:
        for node_id in changed:
            live = state.nodes.get(node_id)
            known = self._known.get(node_id)
            if live is None:
                self._known.pop(node_id, None)
                if known is not None:
                    log.info("node.forgotten", extra={"node": known[0]})
                continue
            self._known[node_id] = (live.node.name, live.node.state)
            if known is None or known[1] is not live.node.state:
                _say(live.node.name, live.node.state, is_new=known is None)


def _say(name: str, state: NodeState, *, is_new: bool) -> None:
    if is_new and state is NodeState.OFFLINE:
        return  # paired a moment ago; it has not called yet
    level = logging.WARNING if state is NodeState.OFFLINE else logging.INFO
    log.log(level, "node.%s", state.lower(), extra={"node": name})
