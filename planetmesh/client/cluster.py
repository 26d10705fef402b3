"""What the owner of a Dask cluster on the mesh does by the mesh: its certificate, its processes, their key.

Each process is a job of the type `dask` with one task. `planetmesh.dask` is the face of it; nothing of Dask
is needed here.
"""

from __future__ import annotations

import asyncio
import logging
from base64 import encodebytes
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from typing import NamedTuple

import msgspec

from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.connect import Call
from planetmesh.client.streams import read_lines
from planetmesh.errors import BadInput, CertificateRefused, Conflict, MeshError, NotFound, Unreachable
from planetmesh.groups import TaskGroup, begin_in
from planetmesh.model.endpoint import parse_endpoint
from planetmesh.model.ids import JobId
from planetmesh.model.job import JOB_ENDED, JobSpec
from planetmesh.trust.cluster import check_cluster
from planetmesh.trust.renewal import make_csr
from planetmesh.trust.tls import HANDSHAKE_SECONDS, pinned_context
from planetmesh.wire.api import JobView, RenewCertificate, RenewedCertificate, ValueKind, ValueLine
from planetmesh.wire.calls import VALUES, read_frame
from planetmesh.wire.dask import LINE_MOST_BYTES, Beat, Begin, End, Failed, FromTask, Hello

log = logging.getLogger(__name__)

BEAT_SECONDS = 2.0
"""A small part of the least patience that makes sense on a LAN."""
DIAL_SECONDS = 3.0
BEGIN_SECONDS = 60.0
"""Loading Dask on a small board takes some."""
AGAIN_SECONDS = 1.0
HELLO_MOST_BYTES = 32 * 1024
END_SECONDS = 10.0

_read_hello = msgspec.json.Decoder(Hello).decode
_read_answer: msgspec.json.Decoder[FromTask] = msgspec.json.Decoder(FromTask)


class Credential(NamedTuple):
    key: str
    certificate: str


async def certify(mesh: AsyncMesh) -> Credential:
    """A key made here, and the mesh's certificate for a cluster with it."""
    key, csr = make_csr()
    words = "CERTIFICATE REQUEST"
    pem = f"-----BEGIN {words}-----\n{encodebytes(csr).decode()}-----END {words}-----\n"
    answer = await mesh._ask(  # noqa: SLF001  two parts of one thing
        "POST", "/v1/certs/cluster", RenewedCertificate, body=RenewCertificate(pem)
    )
    found = Credential(key.decode(), answer.certificate_pem)
    check_cluster(found.certificate, answer.ca_pem, found.key)
    return found


class Process:
    """One process of a cluster, from the hand-in of its job to its end. Made by `Processes.start`."""

    def __init__(self, job: JobId, mesh: AsyncMesh, credential: Credential) -> None:
        self.job = job
        self.address = ""
        """Dask's, once it runs; another one after each start."""
        self.view: JobView | None = None
        """How the job ended."""
        self.failure = ""
        """What it said itself when it could not begin."""
        self.on_again: Callable[[str], Awaitable[None]] | None = None
        """Called with the old address before the process begins anew on another node."""
        self.on_end: Callable[[], None] | None = None
        """Called when the job has ended without having been told to."""
        self._mesh = mesh
        self._credential = credential
        self._begun: dict[int, bytes] = {}
        """By attempt: what has come of its hello."""
        self._attempt = 0
        self._hello: Hello | None = None
        self._running: Hello | None = None
        """Of the start that `address` is of."""
        self._news = asyncio.Event()
        """For `attend`."""
        self._changed = asyncio.Event()
        """For whoever waits until it runs or has ended."""
        self._is_closing = False

    @property
    def is_running(self) -> bool:
        return bool(self.address) and self.view is None

    async def wait(self, seconds: float) -> bool:
        """Until it runs or has ended; whether that came about."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        return self._changed.is_set()

    async def close(self) -> None:
        """End it, in order where that can be, and wait until its job has ended."""
        self._is_closing = True
        self._news.set()
        if self.address:
            await self._wait_for_end()
        if self.view is None:
            with suppress(Conflict):  # it has just ended
                await self._mesh.cancel(self.job, "its cluster was closed")
            await self._wait_for_end()

    async def _wait_for_end(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                while self.view is None:
                    self._changed.clear()
                    await self._changed.wait()

    # What the mesh tells of it

    def take(self, attempt: int, offset: int, data: bytes) -> None:
        """A piece of what an attempt emitted; one that was told before is passed over."""
        held = self._begun.get(attempt, b"")
        if offset != len(held) or len(held) > HELLO_MOST_BYTES:
            return
        held = self._begun[attempt] = held + data
        frame = read_frame(held.partition(b"\n")[0]) if b"\n" in held else None
        if frame is None or not isinstance(frame.v, msgspec.Raw) or attempt <= self._attempt:
            return
        with suppress(msgspec.MsgspecError):
            self._hello, self._attempt = _read_hello(frame.v), attempt
            self._news.set()

    def end(self, view: JobView) -> None:
        if self.view is not None:
            return
        self.view = view
        self._changed.set()
        self._news.set()
        if self.on_end is not None and not self._is_closing:
            self.on_end()

    async def look(self) -> None:
        """Ask what is known of it: what was told before somebody listened is not told again."""
        with suppress(NotFound):
            async with aclosing(self._mesh.output(self.job, stream=VALUES)) as pieces:
                async for piece in pieces:
                    self.take(piece.attempt, piece.offset, piece.data)
            view = await self._mesh.job(self.job)
            if view.status in JOB_ENDED:
                self.end(view)

    # What its owner does

    async def attend(self) -> None:
        """Give each start of it the key, and stay on the line, until the job has ended."""
        while self.view is None:
            hello = self._hello
            if hello is None:
                await self._wait_for_news(None)
                continue
            with suppress(OSError, EOFError, TimeoutError, ValueError, msgspec.MsgspecError, BadInput):
                await self._stay_on_line(hello)
            if self._hello is hello and self.view is None:
                await self._wait_for_news(AGAIN_SECONDS)

    async def _wait_for_news(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        self._news.clear()

    async def _stay_on_line(self, hello: Hello) -> None:
        reader, writer, host = await self._dial(hello)
        try:
            if self._running not in {None, hello} and self.on_again is not None:
                await self.on_again(self.address)
            writer.write(_line(Begin(self._credential.key, host)))
            async with asyncio.timeout(BEGIN_SECONDS):
                answer = _read_answer.decode(await reader.readuntil(b"\n"))
            if isinstance(answer, Failed):
                self.failure = answer.reason
                return
            self._running, self.address = hello, answer.address
            self._changed.set()
            while self.view is None and self._hello is hello and not reader.at_eof():
                writer.write(_line(End() if self._is_closing else Beat()))
                await writer.drain()
                await self._wait_for_news(BEAT_SECONDS)
        finally:
            writer.transport.abort()

    async def _dial(self, hello: Hello) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
        """The line to the first place that answers, and its host. Raises OSError if none does."""
        context = pinned_context(*self._credential, hello.certificate, serves=False)
        for place in hello.places:
            host, port = parse_endpoint(place)
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(DIAL_SECONDS):
                    reader, writer = await asyncio.open_connection(
                        host,
                        port,
                        ssl=context,
                        server_hostname="planetmesh",
                        ssl_handshake_timeout=HANDSHAKE_SECONDS,
                        limit=LINE_MOST_BYTES,
                    )
                return reader, writer, host
        raise OSError("The process cannot be reached from here.")


class Processes:
    """All of one cluster: one stream of the mesh's tells what comes of them."""

    def __init__(self, mesh: AsyncMesh, credential: Credential) -> None:
        self._mesh = mesh
        self._credential = credential
        self._all: dict[JobId, Process] = {}
        self._group: TaskGroup | None = None
        self._loop = asyncio.get_running_loop()
        # Lives as long as the cluster: `close` waits for it.
        self._work = self._loop.create_task(self._run())

    async def start(self, spec: JobSpec) -> Process:
        """Hand its job in. Raises what a submit raises, and Conflict if the cluster has been closed."""
        handle = await self._mesh.submit(spec)
        process = Process(handle.id, self._mesh, self._credential)
        self._all[handle.id] = process
        if self._group is None or not begin_in(self._group, process.attend()):
            await self._mesh.cancel(handle.id, "its cluster was closed")
            raise Conflict("This cluster is closed.", hint="Make another one.")
        await process.look()
        return process

    async def close(self) -> None:
        self._work.cancel()
        await asyncio.wait([self._work])

    async def _run(self) -> None:
        try:
            async with TaskGroup() as group:
                self._group = group
                await self._listen()
        except* MeshError as errors:
            # Nobody stays on the lines any more, so the cluster ends. Revoked, for one.
            log.warning("cluster.given_up", extra={"reason": str(errors.exceptions[0])})

    async def _listen(self) -> None:
        """Across restarts of the coordinator, however long those take: the cluster needs none to go on."""
        caller = self._mesh._open  # noqa: SLF001  two parts of one thing
        after: int | None = None
        while True:
            call = Call("GET", "/v1/values", {} if after is None else {"after": str(after)})
            try:
                async with aclosing(read_lines(caller, call, ValueLine)) as lines:
                    async for line in lines:
                        after = line.number if after is None else max(after, line.number)
                        await self._take(line)
            except Unreachable as error:
                log.info("cluster.mesh_away", extra={"reason": error.message})
            except CertificateRefused:
                if not await caller.link.take_newer_certificate():
                    raise
            await asyncio.sleep(AGAIN_SECONDS)

    async def _take(self, line: ValueLine) -> None:
        if line.kind in {ValueKind.HELLO, ValueKind.RESYNC}:
            for process in list(self._all.values()):
                await process.look()
            return
        told = self._all.get(line.job)
        if told is None:
            return
        if line.kind is ValueKind.VALUES:
            told.take(line.attempt, line.offset, line.data)
        elif line.view is not None:
            told.end(line.view)


def _line(said: Begin | Beat | End) -> bytes:
    return msgspec.json.encode(said) + b"\n"
