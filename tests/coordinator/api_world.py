"""A whole coordinator for the API's tests: real TLS, real store, real engine; agents are spoken for."""

from __future__ import annotations

import asyncio
import io
import random
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from builders import hello, node_id

from planetmesh.coordinator.access import Access, Connections
from planetmesh.coordinator.api.app import build_from
from planetmesh.coordinator.api.call import Parts
from planetmesh.coordinator.api.guard import guarded, new_runner
from planetmesh.coordinator.depot import Depot, open_depot
from planetmesh.coordinator.engine import Engine
from planetmesh.coordinator.enrolment import Enrolment, found_mesh
from planetmesh.mesh import nodes, reactor
from planetmesh.mesh.state import check
from planetmesh.model.identity import CertificateState, Role
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Outcome, TaskState
from planetmesh.model.node import Node
from planetmesh.paths import Home
from planetmesh.settings import Settings
from planetmesh.store.outputs import Outputs
from planetmesh.store.store import Store
from planetmesh.trust.authority import Authority
from planetmesh.trust.identity import Identity
from planetmesh.trust.pairing_server import PairingDesk
from planetmesh.trust.serials import ActiveSerials
from planetmesh.trust.tls import client_context, serve_context
from planetmesh.wire.agent import TaskOutput, TaskResult, TaskStarted

COMMAND = {"type": "command", "payload": {"argv": ["true"]}}


class World:
    """Everything a test may want to look at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = 0
        self.authority: Authority
        self.engine: Engine
        self.depot: Depot
        self.access: Access
        self.serials: ActiveSerials
        self.enrolment: Enrolment
        self.desk: PairingDesk
        self.parts: Parts
        self.guests: AsyncExitStack
        """Who is connected to it: gone before it stops."""
        self.links: list[web.WebSocketResponse] = []
        self._writers: list[asyncio.StreamWriter] = []
        """A writer that is forgotten closes its connection."""
        self._sessions: dict[Role, Client] = {}

    async def member(self, role: Role) -> Identity:
        """A fresh identity that counts."""
        member_id = secrets.token_hex(16)
        membership = self.enrolment._membership(role, member_id, role.value)
        identity, leaf = self.authority.issue_local(self.folder / f"{role}-{member_id[:8]}", membership)
        self.serials.allow(leaf.record(CertificateState.ACTIVE, role.value), time.time())
        return identity

    async def client(self, role: Role = Role.OPERATOR) -> Client:
        """One client for each role, made once."""
        if role not in self._sessions:
            self._sessions[role] = self.open(await self.member(role))
        return self._sessions[role]

    def open(self, identity: Identity) -> Client:
        client = Client(self.port, identity)
        self.guests.push_async_callback(client.session.close)
        return client

    async def raw(self, identity: Identity) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TLS connection and nothing more."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=client_context(identity))
        self._writers.append(writer)
        self.guests.callback(writer.transport.abort)
        return reader, writer

    # What agents would do

    async def add_node(
        self, name: str = "desk", *, cpus: float = 4, join: bool = True, **info: Any
    ) -> NodeId:
        record = Node(id=node_id(name), name=name, created_at=time.time())
        await self.engine.do(lambda state, now: nodes.on_node_enrolled(state, record, now))
        if join:
            await self.join(name, cpus=cpus, **info)
        return record.id

    async def join(self, name: str, *, cpus: float = 4, session: int = 1, **info: Any) -> None:
        joining = nodes.Joining(node_id(name), session, hello(cpus=cpus, **info))
        await self.engine.do(lambda state, now: nodes.on_node_joined(state, joining, "home", now))

    async def leave(self, name: str, session: int = 1) -> None:
        await self.engine.do(lambda state, now: nodes.on_leaving(state, node_id(name), session, now))

    async def start(self, job_id: JobId, index: int = 0) -> None:
        task = self.engine.state.jobs[job_id].tasks[index]
        started = TaskStarted(job_id, index, task.attempt)
        await self.engine.do(lambda state, now: reactor.on_task_started(state, task.node_id, started, now))

    async def write(
        self, job_id: JobId, index: int, data: bytes, *, offset: int = 0, stream: int = 1
    ) -> None:
        task = self.engine.state.jobs[job_id].tasks[index]
        await self.engine.outputs.append([TaskOutput(job_id, index, task.attempt, stream, offset, data)])

    async def finish(
        self, job_id: JobId, index: int = 0, outcome: Outcome = Outcome.OK, *, stdout_bytes: int = 0
    ) -> None:
        task = self.engine.state.jobs[job_id].tasks[index]
        assert task.state in {TaskState.ASSIGNED, TaskState.RUNNING}, task
        code = 0 if outcome is Outcome.OK else 3
        result = TaskResult(
            job_id,
            index,
            task.attempt,
            outcome,
            code,
            "" if code == 0 else "Exit status 3.",
            wall_seconds=5.0,
            stdout_bytes=stdout_bytes,
        )
        await self.engine.do(lambda state, now: reactor.on_task_ended(state, task.node_id, result, now))


class Answer(msgspec.Struct):
    status: int
    body: bytes
    headers: Any

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def code(self) -> str:
        return self.json["error"]["code"]


class Client:
    """Somebody with a certificate."""

    def __init__(self, port: int, identity: Identity) -> None:
        self.identity = identity
        self.base = f"https://127.0.0.1:{port}"
        self.context: ssl.SSLContext = client_context(identity)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self.context), headers={"Accept-Encoding": "identity"}
        )

    @property
    def id(self) -> str:
        return self.identity.principal.id

    async def ask(self, method: str, path: str, json: Any = None, **options: Any) -> Answer:
        if json is not None:
            options["data"] = io.BytesIO(json if isinstance(json, bytes) else msgspec.json.encode(json))
        async with self.session.request(method, self.base + path, **options) as response:
            return Answer(response.status, await response.read(), response.headers)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.ask("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> Answer:
        return await self.ask("POST", path, json, **options)

    async def submit(self, **spec: Any) -> JobId:
        answer = await self.post("/v1/jobs", {"spec": COMMAND | spec})
        assert answer.status == 201, answer.body
        return JobId(answer.json["job"]["id"])

    def lines(self, path: str) -> Any:
        """A stream, as a context manager of a response."""
        return self.session.get(self.base + path, timeout=aiohttp.ClientTimeout(total=50))


async def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for something that will become so."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  there is no event for whatever a test looks at
            await asyncio.sleep(0.002)


async def next_line(response: aiohttp.ClientResponse, seconds: float = 30.0) -> Any:
    """The next line that is not empty; None at the end."""
    async with asyncio.timeout(seconds):
        while line := await response.content.readline():
            if line.strip():
                return msgspec.json.decode(line)
    return None


def small(number: int) -> dict[str, Any]:
    """A spec with so many tasks."""
    return COMMAND | {"inputs": {"type": "range", "first": 0, "last": number - 1}}


@asynccontextmanager
async def running_world(
    folder: Path,
    *,
    settings: Settings | None = None,
    head_seconds: float = 10.0,
    body_grace_seconds: float = 10.0,
    each_most: int = 64,
) -> AsyncIterator[World]:
    settings = settings or Settings()
    world = World(folder)
    home = Home(folder / "home")
    home.prepare()
    found_mesh(home, "home")
    async with AsyncExitStack() as stack:
        listening = socket.create_server(("127.0.0.1", 0))
        world.port = listening.getsockname()[1]
        world.authority = Authority.open(home.authority)
        identity = Identity.load(home.coordinator)
        store = await Store.open(home)
        stack.push_async_callback(store.close)
        outputs = await Outputs.open(home, settings)
        stack.push_async_callback(outputs.close)
        engine = world.engine = Engine(settings, store, outputs, random.Random(1).random, inspect=check)
        world.serials = ActiveSerials(await engine.load(), now=time.time())
        world.depot = await stack.enter_async_context(open_depot(home, lambda: engine.settings))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        turning = group.create_task(engine.run())
        stack.callback(turning.cancel)
        endpoints = (f"127.0.0.1:{world.port}",)
        world.enrolment = Enrolment(engine, world.authority, identity, world.serials, endpoints)
        world.access = Access(engine, world.serials, connections=Connections(each_most=each_most))
        world.desk = PairingDesk(
            world.authority,
            identity,
            on_enrol=world.enrolment.enrol,
            on_listening=lambda _port, _slots: None,
            on_attempt_failed=lambda *_what: None,
            hosts=["127.0.0.1"],
        )
        await stack.enter_async_context(world.desk)
        world.parts = Parts(
            engine,
            world.access,
            world.enrolment,
            world.desk,
            world.depot,
            body_grace_seconds=body_grace_seconds,
        )

        async def echo(request: web.Request) -> web.StreamResponse:
            """Stands for the agents' WebSocket: says who came and then gives back what it gets."""
            link = web.WebSocketResponse(compress=False)
            await link.prepare(request)
            world.links.append(link)
            await link.send_str(world.access.principal(request).id)
            async for message in link:
                world.access.check(request)
                await link.send_str(message.data)
            return link

        runner = new_runner(build_from(world.parts, echo))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        server = await asyncio.get_running_loop().create_server(
            guarded(runner, head_seconds=head_seconds),
            sock=listening,
            ssl=serve_context(identity),
            ssl_handshake_timeout=2.0,
        )
        stack.callback(server.close)
        async with AsyncExitStack() as world.guests:
            yield world
