"""Where a large blob comes from: another node if the coordinator names one, else the coordinator.

What a node gives is checked like everything that arrives; one that failed is not asked for that blob again.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing

from planetmesh.agent.carrier import AttemptKey, Away, Carrier
from planetmesh.agent.peer_client import read_from_peer
from planetmesh.blobs.partial import Partial
from planetmesh.errors import MeshError
from planetmesh.model.blob import Digest
from planetmesh.model.ids import NodeId
from planetmesh.trust.identity import Identity
from planetmesh.trust.tls import peer_client_context
from planetmesh.wire.peer import AskBlob

log = logging.getLogger(__name__)

LEAST_BYTES = 8 * 1024 * 1024
"""Smaller blobs come from the coordinator: asking where to go would take as long."""
REMEMBERED_MOST = 256
FAILED_MOST = 64
"""Nodes that failed for one blob; after so many it comes from the coordinator."""


class Sources:
    """Made once per agent process; used from its loop."""

    def __init__(self, identity: Identity, carrier: Carrier) -> None:
        self._identity = identity
        self._carrier = carrier
        self._failed: OrderedDict[Digest, set[NodeId]] = OrderedDict()
        self._used: dict[Digest, NodeId] = {}
        """From which node the bytes of a blob that is arriving have come."""

    async def read(self, whose: AttemptKey, arriving: Partial) -> AsyncGenerator[bytes, None]:
        """The rest of the blob, from wherever is best now. Raises Refused or Away."""
        digest, offset, size = Digest(arriving.digest), arriving.have, arriving.size
        failed = self._failed.get(digest, set())
        if size - offset >= LEAST_BYTES and len(failed) < FAILED_MOST:
            source = await self._carrier.source(whose, digest, sorted(failed))
            if source.node is not None:
                self._used[digest] = source.node
                context = peer_client_context(self._identity, source.node)
                question = AskBlob(source.ticket, offset)
                try:
                    reading = read_from_peer(context, source.address, source.port, question, size)
                    async with aclosing(reading) as pieces:
                        async for piece in pieces:
                            yield piece
                except MeshError as error:
                    self.blame(digest, error.message)
                    raise Away(error.message) from error
                return
        async with aclosing(self._carrier.read(whose, digest, offset)) as answer:
            async for piece in answer:
                yield piece

    def blame(self, digest: Digest, reason: str) -> None:
        """The node that the blob came from did not give it, or gave something else."""
        node = self._used.pop(digest, None)
        if node is None:
            return
        log.info("peer.failed", extra={"peer": node, "reason": reason})
        self._failed.setdefault(digest, set()).add(node)
        self._failed.move_to_end(digest)
        if len(self._failed) > REMEMBERED_MOST:
            self._failed.popitem(last=False)

    def arrived(self, digest: Digest) -> None:
        """It is here and right."""
        self._used.pop(digest, None)
        self._failed.pop(digest, None)
