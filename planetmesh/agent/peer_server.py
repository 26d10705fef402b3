"""The one port of an agent: hands a blob to another node that shows the coordinator's ticket for it.

Everybody who gets as far as a question has proved a certificate of this mesh. A blob that is still
arriving here is handed on as it comes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from planetmesh.blobs.files import READING
from planetmesh.blobs.shelf import Shelf
from planetmesh.errors import MeshError, NotAllowed, NotFound, PeerMisbehaved
from planetmesh.model.blob import Digest
from planetmesh.model.identity import Role
from planetmesh.trust.identity import Identity
from planetmesh.trust.ticket import Grant, read_ticket
from planetmesh.trust.tls import HANDSHAKE_SECONDS, principal_of
from planetmesh.wire.peer import (
    LENGTH_BYTES,
    GiveBlob,
    RefuseBlob,
    decode_question,
    encode_message,
    length_of,
)

log = logging.getLogger(__name__)

QUESTION_SECONDS = 10.0
"""From the end of the handshake."""
STALL_SECONDS = 30.0
"""A reader that takes nothing for so long is cut off, and a blob that does not go on arriving is given up."""
LOOK_SECONDS = 0.02
PIECE_BYTES = 1024 * 1024
CONNECTIONS_MOST = 16
CONNECTIONS_EACH_MOST = 4
"""Of one node."""


class Arriving(Protocol):
    """A blob on its way here, whoever fetches it."""

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> int:
        """Of the whole blob."""

    @property
    def have(self) -> int:
        """Bytes that are in the file by now."""


FindArriving = Callable[[Digest], Arriving | None]


class PeerServer:
    """Started once the agent has a certificate for it; `close` ends all that it serves."""

    def __init__(
        self, identity: Identity, shelf: Shelf, find_arriving: FindArriving, server_now: Callable[[], float]
    ) -> None:
        """`identity` is the agent's own; `server_now` tells epoch seconds by the coordinator's clock."""
        self._identity = identity
        self._shelf = shelf
        self._find_arriving = find_arriving
        self._server_now = server_now
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._readers: Counter[str] = Counter()
        self.sent_bytes = 0

    async def start(self, context: ssl.SSLContext, address: str) -> int:
        """Listen on a free port of that address; the port. Raises OSError."""
        self._server = await asyncio.start_server(
            self._accept, address, 0, ssl=context, ssl_handshake_timeout=HANDSHAKE_SECONDS, limit=PIECE_BYTES
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        node = ""
        try:
            node = self._admit(writer)
            grant, offset = await self._read_question(reader, node)
            await self._hand_out(writer, grant.digest, offset)
        except (MeshError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            log.info("peer.not_served", extra={"peer": node, "reason": str(error)})
            if isinstance(error, MeshError):
                await self._refuse(writer, error)
        finally:
            self._serving.discard(task)
            self._leave(node)
            # Nothing waits here: a reader that takes nothing must not keep the connection.
            writer.transport.abort()

    def _admit(self, writer: asyncio.StreamWriter) -> str:
        """The node on the other side; raises NotAllowed for all but agents of this mesh, and too many."""
        caller = principal_of(writer.get_extra_info("ssl_object"))
        own = self._identity.membership
        if caller.mesh_id != own.mesh_id or caller.role is not Role.AGENT:
            raise NotAllowed("Only nodes of this mesh are served here.")
        busy = self._readers.total() >= CONNECTIONS_MOST
        if busy or self._readers[caller.id] >= CONNECTIONS_EACH_MOST:
            raise NotAllowed("This node serves as many others as it can.")
        self._readers[caller.id] += 1
        return caller.id

    def _leave(self, node: str) -> None:
        if node:
            self._readers[node] -= 1
            if not self._readers[node]:
                del self._readers[node]

    async def _read_question(self, reader: asyncio.StreamReader, node: str) -> tuple[Grant, int]:
        async with asyncio.timeout(QUESTION_SECONDS):
            length = length_of(await reader.readexactly(LENGTH_BYTES))
            question = decode_question(await reader.readexactly(length))
        own = self._identity.membership
        grant = read_ticket(question.ticket, self._identity.ca_pem, own, self._server_now())
        if grant.holder != own.id or grant.reader != node:
            raise NotAllowed("The ticket is for other nodes.")
        return grant, question.offset

    async def _hand_out(self, writer: asyncio.StreamWriter, digest: Digest, offset: int) -> None:
        descriptor, size = await asyncio.to_thread(self._open, digest)
        try:
            if offset > size:
                raise PeerMisbehaved(f"The blob has {size} bytes: nothing begins at {offset}.")
            writer.write(encode_message(GiveBlob(size)))
            while offset < size:
                end = min(size, await self._arrived(digest, size, offset), offset + PIECE_BYTES)
                piece = await asyncio.to_thread(_read_at, descriptor, offset, end - offset)
                if not piece:
                    return  # it was begun anew: the reader asks again, here or elsewhere
                writer.write(piece)
                async with asyncio.timeout(STALL_SECONDS):
                    await writer.drain()
                offset += len(piece)
                self.sent_bytes += len(piece)
            async with asyncio.timeout(STALL_SECONDS):
                await self._flush(writer)
        finally:
            os.close(descriptor)

    async def _arrived(self, digest: Digest, size: int, offset: int) -> int:
        """Wait until more than `offset` bytes are here; how many there are. Raises TimeoutError."""
        async with asyncio.timeout(STALL_SECONDS):
            while True:
                arriving = self._find_arriving(digest)
                if arriving is not None and offset < arriving.have:
                    return arriving.have
                if arriving is None and await asyncio.to_thread(self._shelf.has, digest):
                    return size
                await asyncio.sleep(LOOK_SECONDS)

    def _open(self, digest: Digest) -> tuple[int, int]:
        """A descriptor of the blob, whole or arriving, and its whole size; raises NotFound."""
        for _ in range(2):  # it may come to its place between the two looks
            with suppress(NotFound):
                return self._shelf.open(digest), self._shelf.size(digest)
            arriving = self._find_arriving(digest)
            if arriving is not None:
                with suppress(FileNotFoundError):
                    return os.open(arriving.path, READING), arriving.size
        raise NotFound("This node does not have the blob any more.")

    async def _refuse(self, writer: asyncio.StreamWriter, error: MeshError) -> None:
        with suppress(OSError, TimeoutError, RuntimeError):
            writer.write(encode_message(RefuseBlob(error.message[:1000])))
            async with asyncio.timeout(1.0):
                await self._flush(writer)

    async def _flush(self, writer: asyncio.StreamWriter) -> None:
        """Close in order: all bytes leave before the end does."""
        writer.close()
        await writer.wait_closed()


def _read_at(descriptor: int, offset: int, count: int) -> bytes:
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, count)
