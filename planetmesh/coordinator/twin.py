"""No second coordinator of one mesh: two would give the same nodes orders that contradict each other.

Asked before this one serves anybody. Whoever proves by TLS to be a coordinator of this mesh is another one,
an old disk or a copied home, for we do not answer yet. What mDNS says is only where to ask: anybody can
announce our mesh, and keeps nobody silent by it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable

from planetmesh.discovery import Found, find
from planetmesh.errors import Conflict, MeshError
from planetmesh.model.endpoint import format_endpoint, parse_endpoint
from planetmesh.trust.identity import Identity
from planetmesh.trust.tls import client_context

HEAR_SECONDS = 1.5
"""Whoever has just spoken may hold its answer back for 1.35 s (RFC 6762, 6)."""
CALL_SECONDS = 3.0
CALLED_MOST = 16
"""Anybody on the LAN can announce any number."""


async def refuse_second(identity: Identity, bind: tuple[str, ...]) -> None:
    """Raise Conflict if another coordinator of this mesh answers on the LAN."""
    mesh_id = identity.membership.mesh_id
    try:
        found = await find(HEAR_SECONDS, until=lambda heard: bool(_ours(heard, mesh_id)), bind=bind)
    except (MeshError, OSError):
        return  # without mDNS nobody can be heard
    where = await first_answering(identity, _ours(found, mesh_id))
    if where is not None:
        raise Conflict(
            f"The mesh '{identity.membership.mesh_name}' has a coordinator already: it answers at {where}.",
            hint="Only one may run. If that one is to go on, remove this home; else stop it there first.",
        )


async def first_answering(identity: Identity, endpoints: Iterable[str]) -> str | None:
    """Which of these proves to be a coordinator of the identity's mesh, if any does."""
    context = client_context(identity)
    asked = list(dict.fromkeys(endpoints))[:CALLED_MOST]
    answers = await asyncio.gather(*(_answers(each, context) for each in asked))
    return next((each for each, answer in zip(asked, answers, strict=True) if answer), None)


def _ours(found: list[Found], mesh_id: str) -> list[str]:
    return [
        format_endpoint(address, each.port)
        for each in found
        if mesh_id.startswith(each.mesh8)
        for address in each.addresses
    ]


async def _answers(endpoint: str, context: ssl.SSLContext) -> bool:
    host, port = parse_endpoint(endpoint)
    try:
        async with asyncio.timeout(CALL_SECONDS):
            _reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="")
    except (OSError, MeshError, TimeoutError):
        return False
    writer.transport.abort()
    return True
