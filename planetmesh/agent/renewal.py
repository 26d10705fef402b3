"""Keeps the agent's certificate fresh while a link is up: the new one counts from the next link on.

The wall clock is asked again and again, not a timer set: timers do not wake laptops.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import Awaitable, Callable

import msgspec

from planetmesh.errors import MeshError
from planetmesh.trust.identity import Identity
from planetmesh.trust.renewal import RETRY_AGENT_SECONDS, accept, due, make_csr
from planetmesh.wire.api import RenewCertificate, RenewedCertificate

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
FAILED_SECONDS = 3600.0
"""After a try that failed."""

Ask = Callable[[bytes], Awaitable[bytes]]
"""Posts the request's body to the coordinator and gives the answer's."""


async def keep(identity: Identity, ask: Ask) -> None:
    """Renew when it is due, for as long as the link lasts. A failure is logged: the old one still serves."""
    next_try_at = 0.0
    while True:
        now = time.time()
        # A clock that was set back must not put the next try off for years.
        waits = next_try_at - RETRY_AGENT_SECONDS <= now < next_try_at
        if not waits and due(identity.principal, now):
            next_try_at = now + (RETRY_AGENT_SECONDS if await _renew(identity, ask) else FAILED_SECONDS)
        await asyncio.sleep(LOOK_SECONDS)


async def _renew(identity: Identity, ask: Ask) -> bool:
    key_pem, csr = make_csr()
    try:
        answer = await ask(msgspec.json.encode(RenewCertificate(pem_of(csr))))
        renewed = msgspec.json.decode(answer, type=RenewedCertificate)
        accept(identity, renewed.certificate_pem.encode(), key_pem)
    except (MeshError, OSError, msgspec.MsgspecError) as error:
        log.warning("certificate.not_renewed", extra={"reason": str(error)})
        return False
    log.info("certificate.renewed", extra={"serial": identity.principal.serial})
    return True


def pem_of(csr: bytes) -> str:
    """A certificate request (DER) as the API takes it."""
    name = "CERTIFICATE REQUEST"
    return f"-----BEGIN {name}-----\n{base64.encodebytes(csr).decode()}-----END {name}-----\n"
