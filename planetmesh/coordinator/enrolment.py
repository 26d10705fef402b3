"""Who belongs to the mesh: founding it, this machine's own identities, and whoever pairs or renews.

Issues certificates through `trust/` and sees that each one's record is on disk before anybody holds it.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import msgspec

from planetmesh.coordinator.api.checks import check_node_name
from planetmesh.coordinator.engine import Engine, Happening
from planetmesh.errors import BadInput, NotAllowed
from planetmesh.logs import clean
from planetmesh.mesh import effects as fx
from planetmesh.mesh import nodes
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.endpoint import is_loopback, parse_endpoint
from planetmesh.model.identity import CertificateState, Principal, Role
from planetmesh.model.ids import MeshId, NodeId, new_mesh_id, new_node_id
from planetmesh.model.node import Node
from planetmesh.paths import Home
from planetmesh.store.changes import AuditRow, Changes
from planetmesh.trust import renewal
from planetmesh.trust.authority import Authority, Leaf
from planetmesh.trust.identity import Identity, Membership
from planetmesh.trust.pairing_server import Enrolled, EnrolRequest
from planetmesh.trust.serials import ActiveSerials
from planetmesh.trust.ticket import Grant, TicketOffice

log = logging.getLogger(__name__)

NAME_LONGEST = 60
"""Leaves room for a number where a name is taken."""


def found_mesh(home: Home, mesh_name: str) -> None:
    """Make a mesh: its authority and the coordinator's own identity. Harmless if it stands already."""
    if not (home.authority / "key.pem").exists():
        Authority.create(home.authority, new_mesh_id())
    if Identity.exists(home.coordinator):
        return
    authority = Authority.open(home.authority)
    own_id = new_node_id()
    membership = Membership(
        mesh_id=MeshId(authority.mesh_id),
        mesh_name=mesh_name,
        role=Role.COORDINATOR,
        id=own_id,
        name=mesh_name,
        coordinator_id=own_id,
    )
    authority.issue_local(home.coordinator, membership)


NOTED_SECONDS = 60.0
NOTED_MOST = 10_000


class Enrolment:
    """Admits identities; owns the table of serials while the coordinator runs."""

    def __init__(
        self,
        engine: Engine,
        authority: Authority,
        coordinator: Identity,
        serials: ActiveSerials,
        endpoints: tuple[str, ...],
    ) -> None:
        self._noted: dict[tuple[str, str], float] = {}
        """When each member's certificates of a kind were last entered in the audit trail."""
        self.engine = engine
        self.authority = authority
        self.coordinator = coordinator
        self.serials = serials
        self.endpoints = endpoints
        """Where members find the main port, as far as this machine knows its own addresses."""
        self._office: TicketOffice | None = None

    async def admit_local(self, home: Home, *, with_agent: bool) -> None:
        """See that this machine's operator and its local agent have identities that count."""
        here = clean(self.coordinator.membership.name, NAME_LONGEST)
        await self._admit(home.operator, Role.OPERATOR, f"operator on {here}")
        if with_agent:
            Home(home.local_agent).prepare()
            identity = await self._admit(Home(home.local_agent).agent, Role.AGENT, here)
            if NodeId(identity.principal.id) not in self.engine.state.nodes:
                await self.engine.do(self._enrolled(NodeId(identity.principal.id), here))
        await self.compare()

    async def _admit(self, folder: Path, role: Role, name: str) -> Identity:
        if not Identity.exists(folder):
            identity, leaf = self.authority.issue_local(folder, self._membership(role, new_node_id(), name))
            await self._keep(leaf, CertificateState.ACTIVE, name)
            return identity
        identity = Identity.load(folder, accept_expired=True)
        record = self.serials.get(identity.principal.serial)
        if record is None:
            # The machine stopped between writing the identity and recording it.
            await self._keep(self.authority.renew_local(identity), CertificateState.ACTIVE, name)
        elif record.state is not CertificateState.REVOKED and renewal.due(identity.principal, time.time()):
            await self._renew_local(identity)
        return identity

    async def keep_local(self, home: Home) -> None:
        """Renew this machine's own identities in time: an operator who was away for weeks still gets in."""
        for folder in (home.operator, Home(home.local_agent).agent):
            if not Identity.exists(folder):
                continue
            identity = Identity.load(folder, accept_expired=True)
            record = self.serials.get(identity.principal.serial)
            usable = record is not None and record.state is not CertificateState.REVOKED
            if usable and renewal.due(identity.principal, time.time()):
                await self._renew_local(identity)

    async def _renew_local(self, identity: Identity) -> None:
        old = identity.principal.serial
        leaf = self.authority.renew_local(identity)
        await self.engine.do(_nothing, Changes(certificates=list(self.serials.rotate(old, leaf.record()))))

    async def sweep(self) -> None:
        """Revoke what was paired and never used; forget what has expired."""
        now = time.time()
        rows = self.serials.sweep(now)
        self.serials.forget_expired(now)
        if rows:
            await self.engine.do(_nothing, Changes(certificates=list(rows)))
        await self.compare()

    async def compare(self) -> None:
        """Tell the table of nodes which of them have a certificate that counts."""

        def happen(state: MeshState, now: Moment) -> fx.Effects:
            members = {NodeId(each.id) for each in self.serials.living(frozenset({Role.AGENT}), now.wall)}
            return nodes.on_members_known(state, members)

        await self.engine.do(happen)

    async def enrol(self, request: EnrolRequest) -> Enrolled:
        """Somebody knew a pairing code: give out an identity of the window's role, once it is on disk."""
        member_id = new_node_id()
        leaf = self.authority.issue_from_csr(request.role, member_id, request.csr_der)
        name = self.free_name(request.display_name)
        changes = Changes(
            certificates=list(self.serials.allow(leaf.record(name=name), time.time())),
            audit=[_row("pairing", "enrol", f"{request.role} {name}", member_id, request.peer_address)],
        )
        happening = self._enrolled(member_id, name) if request.role is Role.AGENT else _nothing
        try:
            await self.engine.do(happening, changes)
        except Exception:
            self.serials.revoke(leaf.serial)
            raise
        log.info("member.enrolled", extra={"role": str(request.role), "member": name, "member_id": member_id})
        membership = self._membership(request.role, member_id, name)
        endpoints = endpoints_for(request.peer_address, self.endpoints)
        return Enrolled(leaf, msgspec.structs.replace(membership, endpoints=endpoints))

    async def renew(self, principal: Principal, csr_der: bytes, address: str) -> Leaf:
        """A member asks for its next certificate: same name and role, new key."""
        if self.serials.get(principal.serial) is None:
            raise NotAllowed("This certificate is not in the coordinator's table.")
        leaf, rows = renewal.renew(self.authority, self.serials, principal, csr_der)
        audit = self._seldom(principal.id, "renew", leaf.serial, address)
        await self.engine.do(_nothing, Changes(certificates=list(rows), audit=audit))
        return leaf

    async def certify_peer(self, principal: Principal, csr_der: bytes, address: str) -> Leaf:
        """A node's second certificate: to hand blobs to other nodes. It opens no door of this coordinator.

        So it has no row in the table of serials; nobody is sent to a node that was revoked.
        """
        leaf = self.authority.issue_from_csr(Role.PEER, principal.id, csr_der)
        audit = self._seldom(principal.id, "certify_peer", leaf.serial, address)
        await self.engine.do(_nothing, Changes(audit=audit))
        return leaf

    def _seldom(self, member: str, action: str, serial: str, address: str) -> list[AuditRow]:
        """Once a minute at most: who asks without end must not push all other rows out of the trail."""
        now = time.monotonic()
        if now - self._noted.get((member, action), -NOTED_SECONDS) < NOTED_SECONDS:
            return []
        if len(self._noted) >= NOTED_MOST:
            self._noted.clear()
        self._noted[member, action] = now
        return [_row(member, action, member, serial, address)]

    async def certify_cluster(self, principal: Principal, csr_der: bytes, address: str) -> bytes:
        """A certificate (PEM) for a Dask cluster of an operator's: known to its own processes only."""
        certificate, serial = self.authority.issue_cluster(new_node_id(), csr_der)
        row = _row(principal.id, "certify_cluster", principal.id, serial, address)
        await self.engine.do(_nothing, Changes(audit=[row]))
        return certificate

    def ticket(self, grant: Grant) -> str:
        """Our word that one node may read a blob from another, signed by the certificate of today."""
        if self._office is None or self._office.serial != self.coordinator.principal.serial:
            self._office = TicketOffice(self.coordinator)
        return self._office.make(grant)

    def free_name(self, wanted: str) -> str:
        """A display name that no node has yet: `desk`, `desk-2`. What cannot be a name becomes `node`."""
        try:
            name = check_node_name(wanted[:NAME_LONGEST])
        except BadInput:
            name = "node"
        taken = {live.node.name.casefold() for live in self.engine.state.nodes.values()}
        number, free = 1, name
        while free.casefold() in taken:
            number += 1
            free = f"{name}-{number}"
        return free

    def _membership(self, role: Role, member_id: str, name: str) -> Membership:
        own = self.coordinator.membership
        return msgspec.structs.replace(own, role=role, id=member_id, name=name, endpoints=self.endpoints)

    def _enrolled(self, node_id: NodeId, name: str) -> Happening:
        def happen(state: MeshState, now: Moment) -> fx.Effects:
            return nodes.on_node_enrolled(state, Node(id=node_id, name=name, created_at=now.wall), now)

        return happen

    async def _keep(self, leaf: Leaf, state: CertificateState, name: str) -> None:
        rows = self.serials.allow(leaf.record(state, name), time.time())
        await self.engine.do(_nothing, Changes(certificates=list(rows)))


def endpoints_for(peer_address: str, endpoints: tuple[str, ...]) -> tuple[str, ...]:
    """Those that mean us where the peer is: elsewhere, loopback is another machine."""
    if is_loopback(peer_address):
        return endpoints
    return tuple(each for each in endpoints if not is_loopback(parse_endpoint(each)[0])) or endpoints


def _row(actor: str, action: str, what: str, detail: str, address: str) -> AuditRow:
    return AuditRow(time.time(), actor, action, what, detail, address=address)


def _nothing(_state: MeshState, _now: Moment) -> fx.Effects:
    return []
