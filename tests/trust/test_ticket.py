"""Tickets say what the coordinator signed, to whom it concerns, while it lasts; and nothing else does."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from identities import Mesh

from planetmesh.errors import NotAllowed
from planetmesh.model.blob import Digest
from planetmesh.model.identity import Role
from planetmesh.model.ids import NodeId
from planetmesh.trust.identity import Identity
from planetmesh.trust.ticket import Grant, TicketOffice, read_ticket

NOW = 1_790_000_000.0
GRANT = Grant(Digest("ab" * 32), NodeId("1" * 32), NodeId("2" * 32), NOW + 60)


def read(mesh: Mesh, text: str, now: float = NOW) -> Grant:
    agent = mesh.member(Role.AGENT)
    return read_ticket(text, agent.ca_pem, agent.membership, now)


def test_what_the_coordinator_granted_is_read(mesh: Mesh):
    assert read(mesh, TicketOffice(mesh.coordinator).make(GRANT)) == GRANT


def test_a_ticket_ends(mesh: Mesh):
    text = TicketOffice(mesh.coordinator).make(GRANT)
    with pytest.raises(NotAllowed, match="over"):
        read(mesh, text, GRANT.expires_at)


def test_a_ticket_of_another_mesh_is_refused(mesh: Mesh, tmp_path: Path):
    other = Mesh(tmp_path / "other")
    with pytest.raises(NotAllowed):
        read(mesh, TicketOffice(other.coordinator).make(GRANT))


@pytest.mark.parametrize("role", [Role.AGENT, Role.PEER, Role.OPERATOR, Role.VIEWER])
def test_nobody_else_makes_tickets(mesh: Mesh, role: Role):
    with pytest.raises(NotAllowed):
        TicketOffice(mesh.member(role))


@pytest.mark.parametrize("role", [Role.AGENT, Role.OPERATOR])
def test_a_ticket_signed_by_a_member_who_is_no_coordinator_is_refused(mesh: Mesh, role: Role):
    office = TicketOffice(mesh.coordinator)
    member = mesh.member(role)
    office._key = load_pem_private_key(member.key_path.read_bytes(), None)
    office._certificate = member.certificate_der
    with pytest.raises(NotAllowed):
        read(mesh, office.make(GRANT))


def test_a_grant_that_was_changed_is_refused(mesh: Mesh):
    text = TicketOffice(mesh.coordinator).make(GRANT)
    ticket = msgspec.msgpack.decode(urlsafe_b64decode(text))
    ticket[0] = msgspec.msgpack.encode(msgspec.structs.replace(GRANT, reader=NodeId("3" * 32)))
    with pytest.raises(NotAllowed):
        read(mesh, urlsafe_b64encode(msgspec.msgpack.encode(ticket)).decode())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Identity, str]:
    mesh = Mesh(tmp_path_factory.mktemp("mesh") / "mesh")
    return mesh.member(Role.AGENT), TicketOffice(mesh.coordinator).make(GRANT)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 900), byte=st.integers(1, 255))
def test_no_byte_of_a_ticket_can_be_changed(shared: tuple[Identity, str], place: int, byte: int):
    agent, text = shared
    raw = bytearray(urlsafe_b64decode(text))
    raw[place % len(raw)] ^= byte
    with pytest.raises(NotAllowed):
        read_ticket(urlsafe_b64encode(raw).decode(), agent.ca_pem, agent.membership, NOW)


@pytest.mark.parametrize(
    "text", ["", "x", "é", "A" * 5000, "AAAA", urlsafe_b64encode(b"\x93" * 2000).decode()]
)
def test_what_is_no_ticket_is_refused(mesh: Mesh, text: str):
    with pytest.raises(NotAllowed):
        read(mesh, text)
