"""A small coordinator for the agent's tests: the real wire over real TLS, with a memory for what came.

It keeps no rules of its own: a test says what is sent and looks at what arrived.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path

import msgspec
from aiohttp import WSMsgType, web
from blob_store_double import BlobDouble

from planetmesh.model.identity import Role
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Limits
from planetmesh.model.resources import Resources
from planetmesh.paths import Home
from planetmesh.settings import Settings
from planetmesh.trust.authority import Authority
from planetmesh.trust.identity import Membership
from planetmesh.trust.tls import cut, principal_of, serve_context
from planetmesh.wire.agent import (
    DURABLE,
    Acknowledge,
    AssignTask,
    Goodbye,
    Heartbeat,
    OpenJob,
    Ping,
    Registered,
    TaskOutput,
    TaskResult,
)
from planetmesh.wire.api import ApiError, ErrorAnswer, RenewCertificate, RenewedCertificate
from planetmesh.wire.codec import PROTOCOL, decode_from_agent, encode_frames

PATIENCE_SECONDS = 30.0
SETTINGS = Settings(heartbeat_seconds=0.1)


class CoordinatorDouble:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create(folder / "authority", secrets.token_hex(16))
        self.port = 0
        self.came: list = []
        """Everything in the order it came, over all links."""
        self.numbers: dict[int, object] = {}
        """Durable messages by their number: the same number must always be the same message."""
        self.hellos: list = []
        self.serials: list[str] = []
        self.drop: tuple = ()
        self.acknowledges = True
        self.refuses = lambda _message: False
        """Messages that count as nonsense: their whole frame is not taken, and the agent is cut off."""
        self.goodbye: Goodbye | None = None
        """Said to the next hello instead of a welcome."""
        self.status = 0
        """HTTP answer instead of the upgrade."""
        self.refusal: ApiError | None = None
        """Said with a 403 instead of the upgrade."""
        self.clock_off_seconds = 0.0
        self.mute = False
        """Sends nothing after the welcome."""
        self.socket: web.WebSocketResponse | None = None
        self.store = BlobDouble()
        self._identity, _ = self.authority.issue_local(folder / "coordinator", self._member(Role.COORDINATOR))
        self._runner: web.AppRunner | None = None
        self._news = asyncio.Event()

    def _member(self, role: Role, member_id: str = "") -> Membership:
        own = "c" * 32
        endpoints = (f"127.0.0.1:{self.port}",) if self.port else ()
        member_id = own if role is Role.COORDINATOR else member_id
        return Membership(self.authority.mesh_id, "test", role, member_id, "node-a", own, endpoints)

    def agent_home(self, name: str = "agent-home") -> Home:
        """A home with an identity of this mesh."""
        (self.folder / name).parent.mkdir(mode=0o700, exist_ok=True)
        home = Home(self.folder / name)
        home.prepare()
        self.authority.issue_local(home.agent, self._member(Role.AGENT, secrets.token_hex(16)))
        return home

    async def open(self) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_get("/v1/agent", self._serve)
        app.router.add_post("/v1/certs/renew", self._renew)
        self.store.add_routes(app)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        context = serve_context(self._identity)
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context, reuse_address=True)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Go away without a word, as a killed coordinator does."""
        self.cut()
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    def cut(self) -> None:
        if self.socket is not None and self.socket._req is not None:
            cut(self.socket._req.transport)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.serials.append(principal_of(request.get_extra_info("ssl_object")).serial)
        if self.status:
            return web.Response(status=self.status)
        if self.refusal:
            body = msgspec.json.encode(ErrorAnswer(self.refusal))
            return web.Response(status=403, body=body, content_type="application/json")
        socket = web.WebSocketResponse(compress=False, max_msg_size=1024 * 1024, timeout=0.5)
        await socket.prepare(request)
        hello = decode_from_agent((await socket.receive()).data)[0]
        assert hello.protocol == PROTOCOL
        self.hellos.append(hello)
        self.socket = socket
        if self.goodbye:
            await self.send(self.goodbye)
            await socket.close()
            return socket
        welcome = Registered(
            NodeId("a" * 32),
            "node-a",
            "test",
            SETTINGS.heartbeat_seconds,
            time.time() + self.clock_off_seconds,
            self.drop,
        )
        await self.send(welcome)
        number = hello.first_unacknowledged
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                break
            number = await self._take(message.data, number)
        self.notice()
        return socket

    async def _take(self, frame: bytes, number: int) -> int:
        messages = decode_from_agent(frame)
        if any(map(self.refuses, messages)):
            await self.send(Goodbye("protocol", "This is nonsense."))
            await self.socket.close()
            return number
        for message in messages:
            self.came.append(message)
            if isinstance(message, DURABLE):
                assert self.numbers.setdefault(number, message) == message
                number += 1
            if isinstance(message, Heartbeat) and not self.mute:
                await self.send(Ping(len(self.came)))
        if self.acknowledges and not self.mute:
            await self.send(Acknowledge(number))
        self.notice()
        return number

    async def _renew(self, request: web.Request) -> web.Response:
        principal = principal_of(request.get_extra_info("ssl_object"))
        asked = msgspec.json.decode(await request.read(), type=RenewCertificate)
        leaf = self.authority.issue_from_csr(principal.role, principal.id, asked.csr_pem.encode())
        answer = RenewedCertificate(leaf.cert_pem.decode(), self.authority.ca_pem.decode())
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    # What tests use

    async def send(self, *messages) -> None:
        try:
            for _, frame in encode_frames(messages):
                await self.socket.send_bytes(frame)
        except ConnectionError:
            # The agent has gone; the test sees that by what does not come.
            return

    async def open_job(self, job_id: str, argv: list[str], **changes) -> None:
        values = {
            "requests": Resources(1000, 0, 0),
            "env": {},
            "limits": Limits(),
            "job_type": "command",
            "payload": {"argv": argv},
        }
        await self.send(OpenJob(JobId(job_id), **{**values, **changes}))

    async def assign(self, job_id: str, indexes, items=None, attempt: int = 1) -> None:
        tasks = [AssignTask(JobId(job_id), i, attempt, (items[i],) if items else ()) for i in indexes]
        await self.send(*tasks)

    def of(self, kind):
        return [message for message in self.came if isinstance(message, kind)]

    def results(self) -> dict[int, TaskResult]:
        return {
            message.index: message for message in self.numbers.values() if isinstance(message, TaskResult)
        }

    def output(self, index: int, stream: int = 1) -> bytes:
        pieces = {
            message.offset: message.data
            for message in self.numbers.values()
            if isinstance(message, TaskOutput) and (message.index, message.stream) == (index, stream)
        }
        return b"".join(pieces[offset] for offset in sorted(pieces))

    def notice(self) -> None:
        self._news.set()

    async def until(self, condition, what: str = "") -> None:
        """Wait until the condition holds; fail with what has come if it does not in time."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not condition():
                    self._news.clear()
                    try:
                        async with asyncio.timeout(0.02):
                            await self._news.wait()
                    except TimeoutError:
                        continue
        except TimeoutError:
            last = [str(message)[:300] for message in self.came if not isinstance(message, Heartbeat)][-8:]
            raise AssertionError(f"{what or 'the condition'} did not come true; last came {last}") from None
