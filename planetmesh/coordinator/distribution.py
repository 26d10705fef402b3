"""Who has a large blob, who is fetching it and from where, so that it leaves the coordinator about once.

In memory only: after a restart everybody fetches from the coordinator until nodes have said what they hold.
Nothing here is trusted with a task's fate: a reader checks what it gets, and can always ask the coordinator.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from planetmesh.model.blob import Digest
from planetmesh.model.endpoint import is_loopback
from planetmesh.model.ids import NodeId

CLAIM_SECONDS = 600.0
"""A reader that has said nothing for so long does not count any more."""
CHAIN_MOST = 8
"""Nodes that may hang on each other, each reading what the one before it is still fetching."""


class Port(msgspec.Struct, frozen=True):
    """Where a node hands out blobs."""

    address: str
    port: int


class _Claim(msgspec.Struct, frozen=True):
    """One reader's present source; None is the coordinator."""

    source: NodeId | None
    since: float


class Distribution:
    """Times are steady."""

    def __init__(self) -> None:
        self._ports: dict[NodeId, Port] = {}
        self._claims: dict[Digest, dict[NodeId, _Claim]] = {}

    def on_serving(self, node: NodeId, address: str, port: int) -> None:
        self._ports[node] = Port(address, port)

    def on_gone(self, node: NodeId) -> None:
        """Its link is lost: nobody is sent there, and it fetches nothing."""
        self._ports.pop(node, None)
        for digest in list(self._claims):
            self.on_over(node, digest)

    def on_over(self, reader: NodeId, digest: Digest) -> None:
        """The reader has the blob, or gave it up."""
        claims = self._claims.get(digest, {})
        claims.pop(reader, None)
        if not claims:
            self._claims.pop(digest, None)

    def port_of(self, node: NodeId) -> Port | None:
        return self._ports.get(node)

    def choose(
        self,
        digest: Digest,
        reader: NodeId,
        reader_address: str,
        holders: Collection[NodeId],
        now: float,
        failed: Collection[NodeId] = (),
    ) -> NodeId | None:
        """The node from which `reader` should fetch; None for the coordinator. Counts until it is over.

        The least busy source wins, where the coordinator counts as having a reader more than it has; among
        equals one that has the blob whole, then the coordinator, then one that is still fetching it and
        passes on what comes.
        """
        claims = self._claims.setdefault(digest, {})
        for node in [node for node, claim in claims.items() if now - claim.since > CLAIM_SECONDS]:
            del claims[node]
        claims.pop(reader, None)
        busy: dict[NodeId | None, int] = {}
        for claim in claims.values():
            busy[claim.source] = busy.get(claim.source, 0) + 1
        ranked: list[tuple[int, int, str, NodeId | None]] = [(busy.get(None, 0) + 1, 1, "", None)]
        for node in {*holders, *claims}:
            if node == reader or node in failed or not self._reaches(reader_address, node):
                continue
            if node in holders:
                ranked.append((busy.get(node, 0), 0, node, node))
            elif self._may_follow(claims, node, reader, holders):
                ranked.append((busy.get(node, 0), 2, node, node))
        source = min(ranked, key=lambda each: each[:3])[3]
        claims[reader] = _Claim(source, now)
        return source

    def _may_follow(
        self, claims: dict[NodeId, _Claim], node: NodeId, reader: NodeId, holders: Collection[NodeId]
    ) -> bool:
        """Whether the way from `node` to somebody who has the blob is short and does not lead back."""
        for _ in range(CHAIN_MOST - 1):
            if node in holders:
                return True
            if node == reader or node not in claims:
                return False
            source = claims[node].source
            if source is None:
                return True
            node = source
        return False

    def _reaches(self, address: str, node: NodeId) -> bool:
        """The address of a node beside the coordinator may mean something on that machine only."""
        there = self._ports.get(node)
        return there is not None and (not is_loopback(there.address) or is_loopback(address))
