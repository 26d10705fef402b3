"""An operator's certificate renews itself when it is used in the second half of its life.

So whoever uses the mesh once in a while never pairs again, and a stolen copy goes stale. The key is new each
time. A renewal that fails is no reason to fail the call that it came with: the old certificate still serves.
"""

from __future__ import annotations

import logging
import time

import msgspec

from planetmesh.client.calls import Caller
from planetmesh.client.connect import Call
from planetmesh.errors import MeshError
from planetmesh.model.identity import Role
from planetmesh.wire.api import RenewCertificate, RenewedCertificate

LIFE_SECONDS = {Role.OPERATOR: 7 * 86400.0, Role.VIEWER: 30 * 86400.0}
"""As issued (`trust.authority.PROFILES`). Certificates are back-dated, so they do not tell it themselves."""

_log = logging.getLogger(__name__)


async def renew_if_due(caller: Caller) -> None:
    """Renew if less than half of the certificate's life is left."""
    principal = caller.link.identity.principal
    if principal.not_after - time.time() > LIFE_SECONDS.get(principal.role, 0.0) / 2:
        return
    try:
        await _renew(caller)
    except MeshError as error:
        _log.debug("renewal.failed", extra={"reason": error.message})


async def _renew(caller: Caller) -> None:
    from planetmesh.trust.authority import make_key_and_csr

    identity = caller.link.identity
    key_pem, csr_pem = make_key_and_csr()
    body = msgspec.json.encode(RenewCertificate(csr_pem.decode()))
    call = Call("POST", "/v1/certs/renew", body=body, repeatable=False)
    renewed = await caller.ask(call, RenewedCertificate)
    identity.replace_certificate(renewed.certificate_pem.encode(), key_pem)
    await caller.link.use_renewed_certificate()
