"""The contexts against real peers over loopback: who gets through a handshake, and who does not."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from identities import Mesh, echo_server, say

import planetmesh
from planetmesh.errors import NotAllowed
from planetmesh.model.identity import Role
from planetmesh.trust import tls
from planetmesh.trust.authority import PROFILES
from planetmesh.trust.identity import Identity, host_name, key_to_pem

loops = [asyncio.DefaultEventLoopPolicy]
try:
    import uvloop

    loops.append(uvloop.EventLoopPolicy)
except ImportError:  # Windows
    pass


def context_with(
    folder: Path, mesh: Mesh, cert_pem: bytes, key: ec.EllipticCurvePrivateKey
) -> ssl.SSLContext:
    """A hostile client: our rules are not its own."""
    (folder / "cert").write_bytes(cert_pem)
    (folder / "key").write_bytes(key_to_pem(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(folder / "cert", folder / "key")
    return context


def anonymous() -> ssl.SSLContext:
    return tls.pairing_client_context()


def test_contexts_are_made_in_one_file_only():
    root = Path(planetmesh.__file__).parent
    makes = re.compile(
        r"SSLContext\(|create_default_context|_create_unverified|_stdlib_context|wrap_socket\("
    )
    makers = [
        path.relative_to(root).as_posix() for path in root.rglob("*.py") if makes.search(path.read_text())
    ]
    assert makers == ["trust/tls.py"]


def test_every_context_is_tls_13_only(mesh):
    agent = mesh.member(Role.AGENT)
    contexts = [
        tls.serve_context(mesh.coordinator),
        tls.client_context(agent),
        tls.peer_client_context(agent, "ab" * 16),
        tls.pairing_serve_context(mesh.coordinator),
        tls.pairing_client_context(),
    ]
    assert {(each.minimum_version, each.maximum_version) for each in contexts} == {
        (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3)
    }
    assert [each.num_tickets for each in (contexts[0], contexts[3])] == [0, 0]


async def refused(mesh: Mesh, context: ssl.SSLContext) -> Exception:
    """Try to get an echo from the coordinator; give the error, and check that its code was never reached."""
    async with echo_server(tls.serve_context(mesh.coordinator)) as (port, came):
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)) as caught:
            await say(port, context)
        await asyncio.sleep(0)
        assert came == []
    return caught.value


async def test_no_certificate_never_reaches_the_application(mesh):
    error = await refused(mesh, anonymous())
    refusal = tls.refusal_in(error)
    assert isinstance(error, ConnectionError) or refusal is not None


async def test_a_foreign_authority_of_the_same_name_is_refused(mesh, tmp_path):
    twin = Mesh(tmp_path / "twin", mesh_id=mesh.mesh_id)
    agent = twin.member(Role.AGENT)
    key = tmp_path / "hostile"
    key.mkdir()
    context = anonymous()
    context.load_cert_chain(agent.certificate_path, agent.key_path)
    await refused(mesh, context)


async def test_self_signed_and_the_authority_itself_are_refused(mesh, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = x509.Name([])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(f"spiffe://{mesh.mesh_id}/operator/{'ab' * 16}")]
            ),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    await refused(mesh, context_with(tmp_path, mesh, made.public_bytes(Encoding.PEM), key))
    await refused(mesh, context_with(tmp_path, mesh, mesh.authority.ca_pem, mesh.authority._key))


async def test_an_expired_certificate_is_refused_and_the_client_learns_why(tmp_path):
    ago = Mesh(tmp_path / "old", clock=lambda: time.time() - 8 * 86400)
    old = ago.member(Role.OPERATOR)
    error = await refused(ago, tls.client_context(old))
    refusal = tls.refusal_in(error)
    assert refusal is None or "expired" in refusal.message


async def test_a_certificate_that_is_not_valid_yet_is_refused(mesh, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.load_pem_x509_certificate(mesh.authority.ca_pem)
    later = datetime.now(UTC) + timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(later)
        .not_valid_after(later + timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([PROFILES[Role.AGENT].usage]), critical=False)
        .sign(mesh.authority._key, hashes.SHA256())
    )
    await refused(mesh, context_with(tmp_path, mesh, made.public_bytes(Encoding.PEM), key))


async def test_a_coordinator_leaf_cannot_be_a_client(mesh):
    context = anonymous()
    context.load_cert_chain(mesh.coordinator.certificate_path, mesh.coordinator.key_path)
    await refused(mesh, context)


@pytest.mark.parametrize("role", [Role.AGENT, Role.OPERATOR])
async def test_a_member_cannot_pose_as_the_coordinator(mesh, role):
    async with echo_server(tls.pairing_serve_context(mesh.member(role))) as (port, _):
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await say(port, tls.client_context(mesh.member(Role.AGENT)))
    assert tls.refusal_in(caught.value) is not None


async def test_a_session_is_never_resumed(mesh):
    agent = mesh.member(Role.AGENT)
    async with echo_server(tls.serve_context(mesh.coordinator)) as (port, came):
        await asyncio.to_thread(_try_to_resume, port, agent)
    assert [each.serial for each in came] == [agent.principal.serial] * 2


def _try_to_resume(port: int, agent: Identity) -> None:
    context = tls.client_context(agent)
    session = None
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", port), 5) as raw:
            connection = context.wrap_socket(raw, session=session)
            connection.sendall(b"x\n")
            assert connection.recv(10) == b"x\n"
            assert not connection.session_reused
            assert not connection.session.has_ticket
            session = connection.session
            connection.close()


async def test_a_renewed_certificate_is_used_without_a_restart(mesh):
    server = tls.serve_context(mesh.coordinator)
    agent = mesh.member(Role.AGENT)
    client = tls.client_context(agent)
    async with echo_server(server) as (port, came):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="x")
        first = tls.principal_of(writer.get_extra_info("ssl_object"))
        mesh.authority.renew_local(mesh.coordinator)
        tls.reload_certificate(server, mesh.coordinator)
        mesh.authority.renew_local(agent)
        tls.reload_certificate(client, agent)
        again = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="x")
        second = tls.principal_of(again[1].get_extra_info("ssl_object"))
        assert first.serial != second.serial == mesh.coordinator.principal.serial
        for stream in ((reader, writer), again):
            stream[1].write(b"still\n")
            assert await stream[0].readline() == b"still\n"
            stream[1].transport.abort()
    assert agent.principal.serial in {each.serial for each in came}


@pytest.mark.parametrize("closings", [0, 1, 2])
async def test_what_has_gone_can_be_cut_all_the_same(mesh, closings):
    async with echo_server(tls.serve_context(mesh.coordinator)) as (port, _):
        client = tls.client_context(mesh.member(Role.AGENT))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="x")
        for _ in range(closings):
            writer.transport.close()
        for _ in range(2):
            tls.cut(writer.transport)
        assert writer.transport.is_closing()
        assert await reader.read() == b""
    tls.cut(None)


def imposters(mesh: Mesh) -> dict[str, ssl.SSLContext]:
    """Servers with a good chain to our authority that are yet not the coordinator we know."""
    return {
        "another coordinator": tls.serve_context(mesh.member(Role.COORDINATOR)),
        "a peer": tls.serve_context(mesh.member(Role.PEER, member_id=mesh.coordinator_id)),
    }


@pytest.mark.parametrize("which", ["another coordinator", "a peer"])
@pytest.mark.parametrize("policy", loops)
def test_an_imposter_gets_no_byte_and_no_certificate(mesh, which, policy):
    """aiohttp on both loops: the check runs in the handshake, the request is never written."""

    async def call() -> None:
        async with (
            echo_server(imposters(mesh)[which]) as (port, came),
            aiohttp.ClientSession() as session,
        ):
            with pytest.raises(aiohttp.ClientConnectorCertificateError) as caught:
                await session.get(
                    f"https://127.0.0.1:{port}/", ssl=tls.client_context(mesh.member(Role.AGENT))
                )
            await asyncio.sleep(0.05)
            assert came == []
            refusal = tls.refusal_in(caught.value)
            assert isinstance(refusal, NotAllowed)
            assert "not this mesh's coordinator" in refusal.message

    _run(policy, call)


@pytest.mark.parametrize("policy", loops)
def test_aiohttp_reaches_the_true_coordinator_and_is_known_to_it(mesh, policy):
    async def call() -> None:
        async def who(request: web.Request) -> web.Response:
            said = tls.principal_of(request.get_extra_info("ssl_object"))
            return web.Response(text=f"{said.role} {said.id}")

        agent = mesh.member(Role.AGENT)
        app = web.Application()
        app.router.add_get("/", who)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.serve_context(mesh.coordinator))
        await site.start()
        port = runner.addresses[0][1]
        try:
            async with aiohttp.ClientSession() as session:
                answer = await session.get(f"https://127.0.0.1:{port}/", ssl=tls.client_context(agent))
                assert await answer.text() == f"agent {agent.principal.id}"
        finally:
            await runner.cleanup()

    _run(policy, call)


def answering_to_name(mesh: Mesh) -> ssl.SSLContext:
    context = tls.serve_context(mesh.coordinator)
    path = mesh.folder / "named.pem"
    path.write_bytes(mesh.authority.name_certificate(mesh.coordinator.certificate_der))
    tls.answer_to_name(context, host_name(mesh.mesh_id), mesh.coordinator, path)
    return context


def by_name(mesh: Mesh, identity: Identity | None) -> ssl.SSLContext:
    """A program that knows servers by host names only, as Prometheus does."""
    context = ssl.create_default_context(cadata=mesh.coordinator.ca_pem.decode())
    if identity is not None:
        context.load_cert_chain(identity.certificate_path, identity.key_path)
    return context


@pytest.mark.parametrize("policy", loops)
def test_who_knows_host_names_only_is_sure_whom_it_calls(mesh, policy):
    async def call() -> None:
        viewer, name = mesh.member(Role.VIEWER), host_name(mesh.mesh_id)
        async with echo_server(answering_to_name(mesh)) as (port, came):
            assert await say(port, by_name(mesh, viewer), name) == b"hello\n"
            assert [each.id for each in came] == [viewer.principal.id]
            for wrong in ("localhost", f"x.{name}", f"{'0' * 32}.planetmesh"):
                with pytest.raises(ssl.SSLCertVerificationError):
                    await say(port, by_name(mesh, viewer), wrong)
            # Members go on as before, whatever name they send.
            agent = mesh.member(Role.AGENT)
            assert await say(port, tls.client_context(agent), "x") == b"hello\n"

    _run(policy, call)


@pytest.mark.parametrize("policy", loops)
def test_by_that_name_too_only_members_come_in(mesh, tmp_path, policy):
    stranger = Mesh(tmp_path / "other").member(Role.VIEWER)

    async def call() -> None:
        async with echo_server(answering_to_name(mesh)) as (port, came):
            for identity in (None, stranger):
                with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
                    await say(port, by_name(mesh, identity), host_name(mesh.mesh_id))
            assert came == []

    _run(policy, call)


async def test_the_named_certificate_is_nobodys_identity(mesh, tmp_path):
    """Who has it and its key is no coordinator to a member, and no member to the coordinator."""
    named = tmp_path / "named.pem"
    named.write_bytes(mesh.authority.name_certificate(mesh.coordinator.certificate_der))
    pretender = tls.serve_context(mesh.coordinator)
    pretender.load_cert_chain(named, mesh.coordinator.key_path)
    async with echo_server(pretender) as (port, came):
        with pytest.raises(tls.WrongPeer):
            await say(port, tls.client_context(mesh.member(Role.AGENT)), host_name(mesh.mesh_id))
        assert came == []
    context = anonymous()
    context.load_cert_chain(named, mesh.coordinator.key_path)
    await refused(mesh, context)


def _run(policy, call) -> None:
    with asyncio.Runner(loop_factory=policy().new_event_loop) as runner:
        runner.run(asyncio.wait_for(call(), 10))


async def test_blocking_sockets_are_checked_too(mesh):
    async with echo_server(imposters(mesh)["a peer"]) as (port, _):
        context = tls.client_context(mesh.member(Role.AGENT))

        def connect() -> None:
            with socket.create_connection(("127.0.0.1", port), 5) as raw:
                context.wrap_socket(raw)

        with pytest.raises(tls.WrongPeer):
            await asyncio.to_thread(connect)


async def test_the_coordinator_of_another_mesh_with_our_authority_is_refused(mesh):
    """Should two meshes ever share a CA, the mesh in the name still tells them apart."""
    agent = mesh.member(Role.AGENT)
    context = tls.client_context(agent)
    context.expected.mesh_id = "ab" * 16
    async with echo_server(tls.serve_context(mesh.coordinator)) as (port, came):
        with pytest.raises(tls.WrongPeer):
            await say(port, context)
        assert came == []


async def test_peers_are_told_apart_by_id(mesh):
    peer = mesh.member(Role.PEER)
    agent = mesh.member(Role.AGENT)
    async with echo_server(tls.serve_context(peer)) as (port, came):
        assert await say(port, tls.peer_client_context(agent, peer.principal.id)) == b"hello\n"
        with pytest.raises(tls.WrongPeer):
            await say(port, tls.peer_client_context(agent, "ab" * 16))
    assert [each.id for each in came] == [agent.principal.id]


def test_refusals_are_told_from_lost_networks():
    assert tls.refusal_in(ConnectionResetError()) is None
    assert tls.refusal_in(TimeoutError()) is None
    assert tls.refusal_in(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")) is None
    assert tls.refusal_in(NotAllowed("no")) is not None
