"""From where a node should fetch a large blob: from us, or with a ticket from another node."""

from __future__ import annotations

import time

from aiohttp import web

from planetmesh.blobs.digest import checked
from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.api.transfers import refuse_others
from planetmesh.errors import BadInput
from planetmesh.model.ids import NodeId, is_node_id
from planetmesh.trust.ticket import Grant
from planetmesh.wire.api import BlobSource

TICKET_SECONDS = 3600.0
"""A gigabyte over a poor Wi-Fi; who needs longer asks again, and goes on."""
FAILED_MOST = 64


async def find_source(call: Call) -> web.StreamResponse:
    """One source; the caller names those that have failed it when it asks again."""
    digest = checked(call.part("digest"))
    await refuse_others(call, [digest])
    failed = _failed(call)
    parts, reader = call.parts, NodeId(call.principal.id)
    state = parts.engine.state
    holders = {node_id for node_id in state.holdings.of(digest) if state.nodes[node_id].connected}
    now = time.monotonic()
    node = parts.distribution.choose(digest, reader, call.connection.address, holders, now, failed)
    port = None if node is None else parts.distribution.port_of(node)
    if node is None or port is None:
        return call.answer(BlobSource())
    grant = Grant(digest, node, reader, time.time() + TICKET_SECONDS)
    return call.answer(
        BlobSource(node=node, address=port.address, port=port.port, ticket=parts.enrolment.ticket(grant))
    )


def _failed(call: Call) -> frozenset[NodeId]:
    names = [name for name in (call.text("failed") or "").split(",") if name]
    if len(names) > FAILED_MOST or not all(map(is_node_id, names)):
        raise BadInput("The parameter 'failed' is a list of nodes' ids with commas between.")
    return frozenset(map(NodeId, names))
