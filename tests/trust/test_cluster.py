"""A cluster's certificate: good among those who hold its key, and for no door of the mesh."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from identities import Mesh, echo_server, say

from planetmesh.errors import NotAllowed
from planetmesh.model.identity import Role
from planetmesh.trust import tls
from planetmesh.trust.cluster import check_cluster, make_own
from planetmesh.trust.identity import parse_principal
from planetmesh.trust.renewal import make_csr

REFUSED = (ssl.SSLError, ConnectionError, NotAllowed)


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path / "mesh")


def cluster_of(mesh: Mesh) -> tuple[str, str]:
    """Key and certificate of a new cluster."""
    key, csr = make_csr()
    certificate, _serial = mesh.authority.issue_cluster("c" * 32, csr)
    return key.decode(), certificate.decode()


def pinned(pair: tuple[str, str], trusted: str, *, serves: bool = False) -> ssl.SSLContext:
    return tls.pinned_context(*pair, trusted, serves=serves)


async def test_holders_of_the_key_talk(mesh: Mesh) -> None:
    cluster = cluster_of(mesh)
    async with echo_server(pinned(cluster, cluster[1], serves=True)) as (port, came):
        with pytest.raises(ConnectionError):  # the echo's own look for a name of the mesh finds none
            await say(port, pinned(cluster, cluster[1]))
    assert "does not carry a planetmesh identity" in str(came[0])


async def test_the_owner_and_a_task_know_each_other(mesh: Mesh) -> None:
    cluster, own = cluster_of(mesh), make_own()
    async with echo_server(pinned(own, cluster[1], serves=True)) as (port, came):
        with pytest.raises(ConnectionError):
            await say(port, pinned(cluster, own[1]))
        assert len(came) == 1
        for stranger in (make_own(), cluster_of(mesh), own):
            with pytest.raises(REFUSED):
                await say(port, pinned(stranger, own[1]))
        with pytest.raises(ssl.SSLError):
            await say(port, pinned(cluster, make_own()[1]))
    assert len(came) == 1


@pytest.mark.parametrize("role", list(Role))
async def test_no_member_gets_in(mesh: Mesh, role: Role) -> None:
    cluster, member = cluster_of(mesh), mesh.member(role)
    pair = (member.key_path.read_text(), member.certificate_pem.decode())
    async with echo_server(pinned(cluster, cluster[1], serves=True)) as (port, came):
        with pytest.raises(REFUSED):
            await say(port, pinned(pair, cluster[1]))
    assert came == []
    # Nor does anybody of the cluster take a member for one of its own.
    async with echo_server(pinned(pair, cluster[1], serves=True)) as (port, _):
        with pytest.raises(ssl.SSLError):
            await say(port, pinned(cluster, cluster[1]))


async def test_another_cluster_and_the_authority_itself_do_not_get_in(mesh: Mesh) -> None:
    cluster = cluster_of(mesh)
    authority = ((mesh.folder / "authority" / "key.pem").read_text(), mesh.authority.ca_pem.decode())
    async with echo_server(pinned(cluster, cluster[1], serves=True)) as (port, came):
        for stranger in (cluster_of(mesh), authority, make_own()):
            with pytest.raises(REFUSED):
                await say(port, pinned(stranger, cluster[1]))
        with pytest.raises(REFUSED):
            await say(port, tls.pairing_client_context())
    assert came == []


async def test_it_opens_no_door_of_the_mesh(mesh: Mesh) -> None:
    cluster = cluster_of(mesh)
    with pytest.raises(NotAllowed):
        parse_principal(x509.load_pem_x509_certificate(cluster[1].encode()).public_bytes(Encoding.DER))
    for door in (tls.serve_context(mesh.coordinator), tls.serve_context(mesh.member(Role.PEER))):
        async with echo_server(door) as (port, came):
            with pytest.raises(REFUSED):
                await say(port, pinned(cluster, mesh.authority.ca_pem.decode()))
        assert all(isinstance(each, NotAllowed) for each in came)
    agent = mesh.member(Role.AGENT)
    async with echo_server(pinned(cluster, mesh.authority.ca_pem.decode(), serves=True)) as (port, came):
        for context in (tls.client_context(agent), tls.peer_client_context(agent, "c" * 32)):
            with pytest.raises(tls.WrongPeer):
                await say(port, context)


def test_what_the_coordinator_gave_is_looked_at(mesh: Mesh, tmp_path: Path) -> None:
    key, certificate = cluster_of(mesh)
    ca_pem = mesh.authority.ca_pem.decode()
    check_cluster(certificate, ca_pem, key)
    viewer = mesh.member(Role.VIEWER)
    for given, authority, ours in (
        (certificate, ca_pem, cluster_of(mesh)[0]),
        (certificate, Mesh(tmp_path / "other").authority.ca_pem.decode(), key),
        (viewer.certificate_pem.decode(), ca_pem, viewer.key_path.read_text()),
        (make_own()[1], ca_pem, key),
        ("nonsense", ca_pem, key),
    ):
        with pytest.raises(NotAllowed):
            check_cluster(given, authority, ours)
    with pytest.raises(NotAllowed, match="does not belong"):
        pinned((make_own()[0], certificate), certificate)


def test_it_lives_for_days(mesh: Mesh) -> None:
    found = x509.load_pem_x509_certificate(cluster_of(mesh)[1].encode())
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {each._name for each in usage} == {"serverAuth", "clientAuth"}
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    alone = x509.load_pem_x509_certificate(mesh.member(Role.VIEWER).certificate_pem)
    assert found.not_valid_after_utc < alone.not_valid_after_utc
