"""Blobs from node to node over real TLS: with a ticket only, and also while they arrive."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "trust"))

from identities import Mesh

from planetmesh.agent import peer_server
from planetmesh.agent.peer_client import read_from_peer
from planetmesh.agent.peer_server import PeerServer
from planetmesh.blobs.shelf import Shelf
from planetmesh.errors import MeshError, NotAllowed, NotFound, PeerMisbehaved, Unreachable
from planetmesh.model.blob import Digest
from planetmesh.model.identity import Role
from planetmesh.model.ids import NodeId
from planetmesh.trust.identity import Identity
from planetmesh.trust.ticket import Grant, TicketOffice
from planetmesh.trust.tls import client_context, peer_client_context, serve_context
from planetmesh.wire.peer import AskBlob

NOW = 1_790_000_000.0
CONTENT = os.urandom(3 * 1024 * 1024 + 17)
DIGEST = Digest(sha256(CONTENT).hexdigest())


class Nodes:
    """A holder that serves, a reader, and whoever else a test makes of this mesh."""

    def __init__(self, folder: Path) -> None:
        self.mesh = Mesh(folder / "mesh")
        self.holder = self.mesh.member(Role.AGENT)
        peer_id = self.holder.membership.id
        self.peer = self.mesh.member(Role.PEER, member_id=peer_id, folder="peer")
        self.reader = self.mesh.member(Role.AGENT)
        self.shelf = Shelf(folder / "blobs")
        self.office = TicketOffice(self.mesh.coordinator)
        self.arriving: dict[str, object] = {}
        self.now = NOW
        self.server = PeerServer(self.holder, self.shelf, self.arriving.get, lambda: self.now)
        self.port = 0

    def ticket(self, **changes: object) -> str:
        fields = {
            "digest": DIGEST,
            "holder": NodeId(self.holder.membership.id),
            "reader": NodeId(self.reader.membership.id),
            "expires_at": NOW + 60,
        }
        return self.office.make(Grant(**(fields | changes)))

    async def read(self, offset: int = 0, ticket: str = "", reader: Identity | None = None, **more) -> bytes:
        question = AskBlob(ticket or self.ticket(), offset)
        context = more.get("context") or peer_client_context(reader or self.reader, self.holder.membership.id)
        pieces = read_from_peer(context, "127.0.0.1", self.port, question, more.get("size", len(CONTENT)))
        return b"".join([piece async for piece in pieces])


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    nodes = Nodes(tmp_path)
    nodes.port = await nodes.server.start(serve_context(nodes.peer), "127.0.0.1")
    yield nodes
    await nodes.server.close()


async def test_a_blob_is_read_whole_and_from_the_middle(nodes: Nodes):
    nodes.shelf.put_bytes(CONTENT)
    assert await nodes.read() == CONTENT
    assert await nodes.read(offset=1_000_001) == CONTENT[1_000_001:]
    assert await nodes.read(offset=len(CONTENT)) == b""
    assert nodes.server.sent_bytes == 2 * len(CONTENT) - 1_000_001


async def test_a_blob_that_is_still_arriving_is_handed_on_as_it_comes(nodes: Nodes):
    partial = nodes.shelf.open_partial(DIGEST, len(CONTENT))
    nodes.arriving[DIGEST] = partial
    partial.append(CONTENT[:1000])
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(nodes.read())
        await asyncio.sleep(0.1)
        assert not reading.done()
        partial.append(CONTENT[1000:2_000_000])
        await asyncio.sleep(0.1)
        partial.append(CONTENT[2_000_000:])
        partial.finish()
        del nodes.arriving[DIGEST]
    assert reading.result() == CONTENT


async def test_what_never_goes_on_is_given_up_and_what_came_stays_good(nodes: Nodes, monkeypatch):
    monkeypatch.setattr(peer_server, "STALL_SECONDS", 0.2)
    partial = nodes.shelf.open_partial(DIGEST, len(CONTENT))
    nodes.arriving[DIGEST] = partial
    partial.append(CONTENT[:1000])
    context = peer_client_context(nodes.reader, nodes.holder.membership.id)
    pieces = read_from_peer(context, "127.0.0.1", nodes.port, AskBlob(nodes.ticket()), len(CONTENT))
    assert await anext(pieces) == CONTENT[:1000]
    with pytest.raises(Unreachable, match="before the end"):
        await anext(pieces)
    partial.close()


async def test_what_is_not_there_is_said_so(nodes: Nodes):
    with pytest.raises(NotFound, match="does not have the blob"):
        await nodes.read()


async def test_a_size_that_differs_is_not_believed(nodes: Nodes):
    nodes.shelf.put_bytes(CONTENT)
    with pytest.raises(PeerMisbehaved):
        await nodes.read(size=len(CONTENT) + 1)


@pytest.mark.parametrize("change", ["holder", "reader", "over", "garbage", "empty"])
async def test_without_a_good_ticket_nothing_is_handed_out(nodes: Nodes, change: str):
    nodes.shelf.put_bytes(CONTENT)
    tickets = {
        "holder": nodes.ticket(holder=NodeId("1" * 32)),
        "reader": nodes.ticket(reader=NodeId("1" * 32)),
        "over": nodes.ticket(expires_at=NOW - 1),
        "garbage": "A" * 300,
        "empty": " ",
    }
    with pytest.raises(NotFound, match="does not hand it out"):
        await nodes.read(ticket=tickets[change])
    assert nodes.server.sent_bytes == 0


async def test_a_ticket_is_for_one_blob(nodes: Nodes):
    nodes.shelf.put_bytes(CONTENT)
    other = Digest(nodes.shelf.put_bytes(b"secret").digest)
    assert await nodes.read(ticket=nodes.ticket(digest=other), size=6) == b"secret"
    with pytest.raises(PeerMisbehaved):
        await nodes.read(ticket=nodes.ticket(digest=other))


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.VIEWER])
async def test_only_agents_are_served(nodes: Nodes, role: Role):
    nodes.shelf.put_bytes(CONTENT)
    person = nodes.mesh.member(role)
    with pytest.raises(NotFound, match="Only nodes"):
        await nodes.read(reader=person, ticket=nodes.ticket(reader=NodeId(person.membership.id)))


async def test_another_mesh_is_refused_in_the_handshake(nodes: Nodes, tmp_path: Path):
    nodes.shelf.put_bytes(CONTENT)
    stranger = Mesh(tmp_path / "other").member(Role.AGENT)
    with pytest.raises(MeshError):
        await nodes.read(reader=stranger)
    assert nodes.server.sent_bytes == 0


async def test_a_reader_hangs_up_on_all_but_the_node_it_wants(nodes: Nodes):
    nodes.shelf.put_bytes(CONTENT)
    with pytest.raises(NotAllowed):
        await nodes.read(context=client_context(nodes.reader))
    with pytest.raises(NotAllowed):
        await nodes.read(context=peer_client_context(nodes.reader, "3" * 32))
    assert nodes.server.sent_bytes == 0


async def test_one_node_cannot_take_all_places(nodes: Nodes, monkeypatch):
    monkeypatch.setattr(peer_server, "CONNECTIONS_EACH_MOST", 2)
    partial = nodes.shelf.open_partial(DIGEST, len(CONTENT))
    nodes.arriving[DIGEST] = partial
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(nodes.read()) for _ in range(2)]
        async with asyncio.timeout(30):
            while nodes.server._readers[nodes.reader.membership.id] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        with pytest.raises(NotFound, match="as many others as it can"):
            await nodes.read()
        partial.append(CONTENT)
        partial.finish()
        del nodes.arriving[DIGEST]
    assert [each.result() for each in waiting] == [CONTENT, CONTENT]
    assert await nodes.read() == CONTENT


@pytest.mark.parametrize(
    "bytes_sent", [b"", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\3\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"]
)
async def test_nonsense_is_cut_off(nodes: Nodes, monkeypatch, bytes_sent: bytes):
    monkeypatch.setattr(peer_server, "QUESTION_SECONDS", 0.3)
    context = peer_client_context(nodes.reader, nodes.holder.membership.id)
    reader, writer = await asyncio.open_connection("127.0.0.1", nodes.port, ssl=context)
    writer.write(bytes_sent)
    async with asyncio.timeout(30):
        answer = await reader.read()
    assert len(answer) < 300
    assert CONTENT[:16] not in answer
    writer.transport.abort()
    assert await _still_serves(nodes)


async def _still_serves(nodes: Nodes) -> bool:
    nodes.shelf.put_bytes(CONTENT)
    return await nodes.read() == CONTENT
