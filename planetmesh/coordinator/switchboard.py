"""Which link belongs to which node: the engine posts messages here, links send them."""

from __future__ import annotations

from typing import Protocol

from planetmesh.model.ids import NodeId
from planetmesh.wire.agent import ToAgent


class Outgoing(Protocol):
    """What a link offers to the engine; both calls return at once."""

    session: int

    def send(self, messages: list[ToAgent]) -> None: ...

    def hang_up(self, code: str, reason: str) -> None: ...


class Switchboard:
    """Links by session from their first byte, by node once their hello was accepted."""

    def __init__(self) -> None:
        self._by_session: dict[int, Outgoing] = {}
        self._by_node: dict[NodeId, Outgoing] = {}
        self._last_session = 0

    def new_session(self) -> int:
        self._last_session += 1
        return self._last_session

    def connect(self, link: Outgoing) -> None:
        self._by_session[link.session] = link

    def attach(self, node_id: NodeId, link: Outgoing) -> None:
        """From now on messages for the node go to this link."""
        self._by_node[node_id] = link

    def disconnect(self, node_id: NodeId, link: Outgoing) -> bool:
        """Whether it was the node's present link, and not one that a newer has replaced."""
        self._by_session.pop(link.session, None)
        if self._by_node.get(node_id) is not link:
            return False
        del self._by_node[node_id]
        return True

    def send(self, node_id: NodeId, messages: list[ToAgent]) -> None:
        """Hand over to the node's link; without a link they are dropped, its next hello sorts it out."""
        link = self._by_node.get(node_id)
        if link is not None:
            link.send(messages)

    def hang_up(self, session: int, code: str, reason: str) -> None:
        link = self._by_session.get(session)
        if link is not None:
            link.hang_up(code, reason)

    def hang_up_all(self, code: str, reason: str) -> None:
        for link in list(self._by_session.values()):
            link.hang_up(code, reason)
