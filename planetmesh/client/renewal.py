"""An operator's certificate renews itself when it is used in the second half of its life.

So whoever uses the mesh once in a while never pairs again, and a stolen copy goes stale. The key is new each
time. A renewal that fails is no reason to fail the call that it came with: the old certificate still serves.
"""

from __future__ import annotations

import logging
import os
import time
from base64 import encodebytes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from planetmesh.client.calls import Caller
from planetmesh.client.connect import Call
from planetmesh.errors import MeshError
from planetmesh.trust.renewal import accept, due, make_csr
from planetmesh.wire.api import RenewCertificate, RenewedCertificate

LOCK_STALE_SECONDS = 60.0
"""A renewal takes two round trips; a lock this old was left by a process that died."""

_log = logging.getLogger(__name__)


async def renew_if_due(caller: Caller) -> None:
    """Renew if half of the certificate's life is over."""
    if not due(caller.link.identity.principal, time.time()):
        return
    with _alone(caller.link.identity.folder) as alone:
        if not alone:
            return
        try:
            await _renew(caller)
        except (MeshError, OSError) as error:
            _log.warning("renewal.failed", extra={"reason": str(error)})


async def _renew(caller: Caller) -> None:
    await caller.link.take_newer_certificate()
    identity = caller.link.identity
    if not due(identity.principal, time.time()):
        return
    key_pem, csr_der = make_csr()
    body = msgspec.json.encode(RenewCertificate(_to_pem(csr_der)))
    call = Call("POST", "/v1/certs/renew", body=body, repeatable=False)
    renewed = await caller.ask(call, RenewedCertificate)
    accept(identity, renewed.certificate_pem.encode(), key_pem)
    await caller.link.close()


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether this process may renew: two at a time would take each other's certificate away."""
    lock = folder / "renewing"
    with suppress(OSError):
        if time.time() - lock.stat().st_mtime > LOCK_STALE_SECONDS:
            lock.unlink()
    try:
        os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        lock.unlink(missing_ok=True)


def _to_pem(csr_der: bytes) -> str:
    name = "CERTIFICATE REQUEST"
    return f"-----BEGIN {name}-----\n{encodebytes(csr_der).decode()}-----END {name}-----\n"
