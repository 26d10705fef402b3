"""An agent's own port: certified by the coordinator, opened where its link comes from, renewed in time."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "trust"))

from identities import Mesh

from planetmesh.agent import peering
from planetmesh.agent.peer_server import PeerServer
from planetmesh.agent.peering import Peering
from planetmesh.blobs.shelf import Shelf
from planetmesh.errors import Unreachable
from planetmesh.model.identity import Role
from planetmesh.paths import Home
from planetmesh.trust.identity import Identity
from planetmesh.trust.tls import peer_client_context, principal_of
from planetmesh.wire.api import RenewCertificate, RenewedCertificate


class Desk:
    """The coordinator's part, by the real authority, and what the agent tells it."""

    def __init__(self, folder: Path) -> None:
        self.mesh = Mesh(folder / "mesh")
        self.home = Home(folder / "home")
        self.home.prepare()
        self.agent = self.mesh.member(Role.AGENT)
        self.asked = 0
        self.gives = (Role.PEER, self.agent.membership.id)
        self.ports: list[int] = []
        self.told = asyncio.Event()

    async def ask(self, body: bytes) -> bytes:
        self.asked += 1
        csr = msgspec.json.decode(body, type=RenewCertificate).csr_pem.encode()
        leaf = self.mesh.authority.issue_from_csr(*self.gives, csr)
        return msgspec.json.encode(RenewedCertificate(leaf.cert_pem.decode(), self.agent.ca_pem.decode()))

    def on_open(self, port: int) -> None:
        self.ports.append(port)
        self.told.set()

    def peering(self) -> Peering:
        server = PeerServer(self.agent, Shelf(self.home.root / "blobs"), {}.get, lambda: 0.0)
        return Peering(self.home, self.agent, server)

    async def link(self, each: Peering, seconds: float = 5.0) -> None:
        """One link: until the port was told; raises TimeoutError if it is not."""
        self.told.clear()
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(each.keep("127.0.0.1", self.ask, self.on_open))
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.told.wait()
            keeping.cancel()
        if not self.told.is_set():
            raise TimeoutError


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_a_port_is_opened_once_and_told_on_each_link(desk: Desk):
    each = desk.peering()
    await desk.link(each)
    await desk.link(each)
    first, second = desk.ports
    assert first == second
    assert desk.asked == 1
    context = peer_client_context(desk.agent, desk.agent.membership.id)
    _reader, writer = await asyncio.open_connection("127.0.0.1", first, ssl=context)
    assert principal_of(writer.get_extra_info("ssl_object")).role is Role.PEER
    writer.transport.abort()
    await each.close()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", first)


async def test_the_certificate_serves_the_next_start_too(desk: Desk):
    for _ in range(2):
        each = desk.peering()
        await desk.link(each)
        await each.close()
    assert desk.asked == 1


async def test_it_is_renewed_in_time_without_a_new_port(desk: Desk, monkeypatch):
    each = desk.peering()
    await desk.link(each)
    monkeypatch.setattr(peering, "due", lambda _principal, _now: True)
    before = Identity.load(desk.home.peer).principal.serial
    await desk.link(each)
    assert desk.asked == 2
    assert desk.ports[0] == desk.ports[1]
    assert Identity.load(desk.home.peer).principal.serial != before
    await each.close()


async def test_a_certificate_for_somebody_else_opens_nothing(desk: Desk):
    for gives in ((Role.AGENT, desk.agent.membership.id), (Role.PEER, "1" * 32)):
        desk.gives = gives
        with pytest.raises(TimeoutError):
            await desk.link(desk.peering(), seconds=0.5)
    assert desk.ports == []
    assert not Identity.exists(desk.home.peer)


async def test_what_was_left_of_another_mesh_is_replaced(desk: Desk, tmp_path: Path):
    old = Mesh(tmp_path / "old").member(Role.PEER)
    desk.home.peer.mkdir(mode=0o700)
    for name in ("key.pem", "cert.pem", "ca.pem", "mesh.json"):
        path = desk.home.peer / name
        path.write_bytes((old.folder / name).read_bytes())
        path.chmod(0o600)
    each = desk.peering()
    await desk.link(each)
    assert desk.ports
    assert Identity.load(desk.home.peer).membership.id == desk.agent.membership.id
    await each.close()


async def test_no_port_is_opened_where_no_other_node_could_be_sent(desk: Desk, caplog):
    async with asyncio.timeout(10):
        await desk.peering().keep("fe80::1%eth0", desk.ask, desk.ports.append)
    assert [record.message for record in caplog.records] == ["peer.not_open"]
    assert not desk.ports


async def test_without_an_answer_the_agent_does_without(desk: Desk, caplog):
    async def silent(_body: bytes) -> bytes:
        raise Unreachable("nobody there")

    desk.ask = silent
    with pytest.raises(TimeoutError):
        await desk.link(desk.peering(), seconds=0.3)
    assert [record.message for record in caplog.records] == ["peer.not_open"]
