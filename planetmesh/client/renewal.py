"""An operator's certificate renews itself when it is used in the second half of its life.

So whoever uses the mesh once in a while never pairs again, and a stolen copy goes stale. The key is new each
time. A renewal that fails is no reason to fail the call that it came with: the old certificate still serves.
"""

from __future__ import annotations

import logging
import time
from base64 import encodebytes

import msgspec

from planetmesh.client.calls import Caller
from planetmesh.client.connect import Call
from planetmesh.errors import MeshError
from planetmesh.trust.renewal import accept, due, make_csr
from planetmesh.wire.api import RenewCertificate, RenewedCertificate

_log = logging.getLogger(__name__)


async def renew_if_due(caller: Caller) -> None:
    """Renew if half of the certificate's life is over."""
    if not due(caller.link.identity.principal, time.time()):
        return
    try:
        await _renew(caller)
    except MeshError as error:
        _log.warning("renewal.failed", extra={"reason": error.message})


async def _renew(caller: Caller) -> None:
    key_pem, csr_der = make_csr()
    body = msgspec.json.encode(RenewCertificate(_to_pem(csr_der)))
    call = Call("POST", "/v1/certs/renew", body=body, repeatable=False)
    renewed = await caller.ask(call, RenewedCertificate)
    accept(caller.link.identity, renewed.certificate_pem.encode(), key_pem)
    await caller.link.use_renewed_certificate()


def _to_pem(csr_der: bytes) -> str:
    name = "CERTIFICATE REQUEST"
    return f"-----BEGIN {name}-----\n{encodebytes(csr_der).decode()}-----END {name}-----\n"
