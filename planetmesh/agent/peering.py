"""Keeps the agent's own port open while a link is up: its certificate, its listener, the word about it.

A node that does not get a certificate or a port does without: others fetch from the coordinator then.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
import time
from collections.abc import Callable

import msgspec

from planetmesh.agent.peer_server import PeerServer
from planetmesh.agent.renewal import Ask, pem_of
from planetmesh.errors import MeshError, NotAllowed
from planetmesh.model.endpoint import is_link_local
from planetmesh.model.identity import Role
from planetmesh.paths import Home
from planetmesh.trust.identity import Identity, verify_leaf
from planetmesh.trust.renewal import due, make_csr
from planetmesh.trust.tls import reload_certificate, serve_context
from planetmesh.wire.api import RenewCertificate, RenewedCertificate

log = logging.getLogger(__name__)

LOOK_SECONDS = 3600.0
"""Between two looks whether the certificate should be renewed, or the port tried again."""


class Peering:
    """One per agent; `keep` runs beside each link."""

    def __init__(self, home: Home, identity: Identity, server: PeerServer) -> None:
        self._home = home
        self._identity = identity
        self._server = server
        self._context: ssl.SSLContext | None = None
        self._address = ""
        self._port = 0

    async def keep(self, address: str, ask: Ask, on_open: Callable[[int], None]) -> None:
        """Serve at the address that the link comes from, and stay certified, until cancelled."""
        if is_link_local(address):
            # Each machine has its own name for the card behind it, so nobody could be told where to go.
            log.warning("peer.not_open", extra={"reason": f"other nodes cannot go to {address}"})
            return
        while True:
            try:
                await self._open(address, ask)
                on_open(self._port)
            except (MeshError, OSError, msgspec.MsgspecError) as error:
                log.warning("peer.not_open", extra={"reason": str(error)})
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        self._port = 0
        await self._server.close()

    async def _open(self, address: str, ask: Ask) -> None:
        peer = self._known()
        is_new = peer is None or due(peer.principal, time.time())
        if peer is None or is_new:
            peer = await self._certify(ask)
        if self._port and address == self._address and self._context is not None:
            if is_new:
                reload_certificate(self._context, peer)
            return
        await self.close()
        self._context = serve_context(peer)
        self._port = await self._server.start(self._context, address)
        self._address = address
        log.info("peer.open", extra={"address": address, "port": self._port})

    def _known(self) -> Identity | None:
        """The peer identity on disk, if it is this node's."""
        folder, own = self._home.peer, self._identity.membership
        if not Identity.exists(folder):
            return None
        known = Identity.load(folder, accept_expired=True)
        if (known.membership.mesh_id, known.membership.id) == (own.mesh_id, own.id):
            return known
        shutil.rmtree(folder)
        return None

    async def _certify(self, ask: Ask) -> Identity:
        key_pem, csr = make_csr()
        answer = await ask(msgspec.json.encode(RenewCertificate(pem_of(csr))))
        certificate = msgspec.json.decode(answer, type=RenewedCertificate).certificate_pem.encode()
        own = self._identity.membership
        said = verify_leaf(certificate, self._identity.ca_pem, key_pem)
        if (said.mesh_id, said.role, said.id) != (own.mesh_id, Role.PEER, own.id):
            raise NotAllowed("The certificate for this node's own port is for somebody else.")
        known = self._known()
        if known is not None:
            known.replace_certificate(certificate, key_pem)
            return known
        membership = msgspec.structs.replace(own, role=Role.PEER)
        return Identity.save(self._home.peer, key_pem, certificate, self._identity.ca_pem, membership)
