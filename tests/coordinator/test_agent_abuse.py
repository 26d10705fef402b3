"""An agent that lies, over its real link to a whole coordinator (abuse tests T14, T22, T32 and T37).

Whatever it says: refused or dropped, nothing of it stored, and the honest agent beside it is served.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import WSMsgType
from builders import held, info

from planetmesh.coordinator import agent_link
from planetmesh.coordinator.service import Coordinator, CoordinatorOptions, running_coordinator
from planetmesh.mesh import jobs
from planetmesh.mesh.state import check
from planetmesh.model.identity import CertificateState, Role
from planetmesh.model.ids import JobId, NodeId, new_job_id
from planetmesh.model.job import Job, JobSpec, Outcome, Range
from planetmesh.model.node import NodeLoad
from planetmesh.model.resources import Resources
from planetmesh.paths import Home
from planetmesh.settings import Settings
from planetmesh.store.changes import Changes
from planetmesh.trust.tls import client_context
from planetmesh.wire.agent import (
    Acknowledge,
    AssignTask,
    Goodbye,
    Heartbeat,
    Leaving,
    Ping,
    Pong,
    Registered,
    RegisterNode,
    TaskOutput,
    TaskResult,
    TaskReturned,
    TaskStarted,
)
from planetmesh.wire.codec import PROTOCOL, decode_to_agent, encode_frames

PATIENCE_SECONDS = 30.0
FRAMES_MOST = 3
MIB = 1024 * 1024
CUT_OFF = {"1009", "1002", "1006"}
"""Too large, not the protocol; or neither, when the line was cut while we were still sending."""


class Mesh:
    """A whole coordinator in this process, and ways to come to it with an identity."""

    def __init__(self, coordinator: Coordinator, folder: Path, stack: AsyncExitStack) -> None:
        self.coordinator = coordinator
        self.engine = coordinator.engine
        self._folder = folder
        self._stack = stack

    async def agent(self, name: str, **hello: Any) -> Agent:
        """An agent that is connected and has said hello."""
        agent = await self.connect(name)
        await agent.hello(**hello)
        return agent

    async def connect(self, name: str) -> Agent:
        enrolment, node_id = self.coordinator.enrolment, NodeId(secrets.token_hex(16))
        membership = enrolment._membership(Role.AGENT, node_id, name)
        identity, leaf = enrolment.authority.issue_local(self._folder / name, membership)
        rows = enrolment.serials.allow(leaf.record(CertificateState.ACTIVE), time.time())
        assert rows
        await self.engine.do(enrolment._enrolled(node_id, name))
        return await self.call(identity, name)

    async def call(self, identity: Any, name: str) -> Agent:
        connector = aiohttp.TCPConnector(ssl=client_context(identity))
        session = await self._stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        socket = await session.ws_connect(
            f"https://127.0.0.1:{self.coordinator.port}/v1/agent", max_msg_size=0, autoping=False
        )
        return Agent(self, identity, socket, name)

    async def submit(self, count: int = 1, *, node: Agent | None = None, **spec: Any) -> JobId:
        wanted = JobSpec(
            type="command",
            payload={"argv": ["true"]},
            inputs=Range(0, count - 1),
            node=node.id if node else None,
            **spec,
        )
        job = Job(id=new_job_id(), spec=wanted, submitter="o" * 32, created_at=time.time())
        await self.engine.do(lambda state, _now: jobs.on_job_submitted(state, job))
        return job.id

    async def pieces(self, job_id: JobId) -> list[Any]:
        return await self.engine.outputs.read(job_id, 0)

    async def until(self, true: Any) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not true():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def still_serves(self, honest: Agent) -> None:
        """The honest agent gets a task and its end is taken."""
        job_id = await self.submit(node=honest)
        task = await honest.next(AssignTask)
        await honest.say(TaskResult(job_id, 0, task.attempt, Outcome.OK, 0))
        await self.completed(job_id)
        check(self.engine.state)

    async def completed(self, job_id: JobId) -> None:
        """Its one task has ended well, on disk."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (await self.engine.store.job(job_id)).summary.counts.completed:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert job_id not in self.engine.state.jobs


class Agent:
    def __init__(self, mesh: Mesh, identity: Any, socket: aiohttp.ClientWebSocketResponse, name: str) -> None:
        self.mesh = mesh
        self.identity = identity
        self.id = NodeId(identity.principal.id)
        self.socket = socket
        self.name = name
        self.came: list[Any] = []

    async def hello(self, *, first: int = 0, held: tuple[Any, ...] = (), **about: Any) -> None:
        await self.say(RegisterNode(PROTOCOL, info(4, machine=self.name, **about), "i1", held, first))
        await self.next(Registered)

    async def say(self, *messages: Any) -> None:
        for _count, frame in encode_frames(messages):
            await self.socket.send_bytes(frame)

    async def next(self, kind: type) -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for place, message in enumerate(self.came):
                    if isinstance(message, kind):
                        return self.came.pop(place)
                frame = await self.socket.receive()
                assert frame.type is WSMsgType.BINARY, (frame, self.socket.close_code)
                self.came += decode_to_agent(frame.data)

    async def goodbye(self) -> str:
        """The code of the goodbye, or of the WebSocket's close, that ends the link."""
        said = ""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                frame = await self.socket.receive()
                if frame.type is not WSMsgType.BINARY:
                    return said or str(self.socket.close_code)
                for message in decode_to_agent(frame.data):
                    said = message.code if isinstance(message, Goodbye) else said


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    home = Home(tmp_path / "home")
    home.prepare()
    options = CoordinatorOptions(
        home=home,
        mesh_name="home",
        port=0,
        bind=("127.0.0.1",),
        mdns=False,
        local_agent=False,
        settings=Settings(heartbeat_seconds=0.1, output_most_bytes=MIB),
        inspect=check,
    )
    async with AsyncExitStack() as stack, running_coordinator(options) as coordinator:
        try:
            yield Mesh(coordinator, tmp_path, stack)
        finally:
            await stack.aclose()


async def given(mesh: Mesh, agent: Agent, count: int = 1) -> tuple[JobId, AssignTask]:
    """A job of which this agent holds the first task."""
    job_id = await mesh.submit(count, node=agent)
    return job_id, await agent.next(AssignTask)


async def test_of_other_nodes_tasks_nothing_is_believed(mesh):
    honest, evil = await mesh.agent("honest"), await mesh.agent("evil")
    job_id, task = await given(mesh, honest)
    lies: list[Any] = []
    for attempt in (0, 1, 2, 2**53):
        lies += [
            TaskStarted(job_id, 0, attempt),
            TaskOutput(job_id, 0, attempt, 1, 0, b"lie"),
            TaskResult(job_id, 0, attempt, Outcome.OK, 0),
            TaskReturned(job_id, 0, attempt, "lie"),
        ]
    lies += [TaskResult(JobId("nosuchjob0"), 0, 1, Outcome.OK), TaskOutput(JobId("x"), 0, 1, 1, 0, b"lie")]
    await evil.say(*lies)
    acknowledged = await evil.next(Acknowledge)
    assert acknowledged.upto == sum(not isinstance(lie, TaskStarted) for lie in lies)
    assert mesh.engine.state.jobs[job_id].tasks[0].node_id == honest.id
    assert await mesh.pieces(job_id) == []
    await honest.say(TaskOutput(job_id, 0, task.attempt, 1, 0, b"true"), TaskResult(job_id, 0, 1, Outcome.OK))
    await mesh.completed(job_id)
    assert [piece.data for piece in await mesh.pieces(job_id)] == [b"true"]
    await mesh.still_serves(evil)


async def test_old_attempts_of_its_own_count_no_more(mesh):
    evil = await mesh.agent("evil")
    job_id, task = await given(mesh, evil)
    await evil.say(TaskResult(job_id, 0, task.attempt, Outcome.EXIT_CODE, 3, "once"))
    await mesh.until(lambda: mesh.engine.state.jobs[job_id].tasks[0].failures == 1)
    before = mesh.engine.state.jobs[job_id].tasks[0]
    await evil.say(
        TaskResult(job_id, 0, task.attempt, Outcome.OK, 0), TaskOutput(job_id, 0, task.attempt, 1, 0, b"late")
    )
    await evil.next(Acknowledge)
    assert mesh.engine.state.jobs[job_id].tasks[0] == before
    assert await mesh.pieces(job_id) == []


async def test_output_beyond_its_stream_is_dropped(mesh):
    evil = await mesh.agent("evil")
    job_id, task = await given(mesh, evil)
    pieces = [(0, b"a"), (0, b"again"), (MIB - 1, b"ab"), (MIB, b"a"), (2**53, b"far"), (5, b"")]
    await evil.say(*[TaskOutput(job_id, 0, task.attempt, 1, offset, data) for offset, data in pieces])
    await evil.next(Acknowledge)
    assert [piece.data for piece in await mesh.pieces(job_id)] == [b"a"]


async def test_new_times_are_told_and_pinged_by_at_once(mesh):
    """Not abuse, but here is the real link: the pause before must not be waited out by the new numbers."""
    agent = await mesh.agent("honest")
    link = mesh.engine.switchboard._by_node[agent.id]
    slow = {"heartbeat_seconds": 60.0, "suspect_after_seconds": 120.0, "offline_after_seconds": 240.0}
    before = link._pinged
    await mesh.engine.tune(slow, "home", Changes())
    assert (await agent.next(Registered)).heartbeat_seconds == 60.0
    await mesh.until(lambda: link._pinged > before)
    # From here on the next ping by the slow pace is a minute away.
    before = link._pinged
    await mesh.engine.tune(dict.fromkeys(slow), "home", Changes())
    assert (await agent.next(Registered)).heartbeat_seconds == 0.1
    await mesh.until(lambda: link._pinged > before + 2)
    await mesh.still_serves(agent)


DEEP = b"\x91" * 100_000 + b"\xc0"
RAW_TASK = ["result", "JOB", 0, 1, "ok", 0, "", 0.0, 0.0, 0, 0, 0]


def result_with(place: int, value: Any) -> list[Any]:
    return [*RAW_TASK[:place], value, *RAW_TASK[place + 1 :]]


NONSENSE = {
    "no list": {"a": 1},
    "a word": ["hello"],
    "unknown tag": [["submit", 1]],
    "another tag's type": [["result", 1, 2]],
    "deep": None,
    "negative index": [result_with(2, -1)],
    "endless attempt": [result_with(3, 2**63)],
    "unknown outcome": [result_with(4, "won")],
    "exit code": [result_with(5, 2**64 - 1)],
    "long error": [result_with(6, "e" * 10_000)],
    "not a number of seconds": [result_with(7, math.nan)],
    "endless seconds": [result_with(7, math.inf)],
    "negative seconds": [result_with(7, -1.0)],
    "huge seconds": [result_with(7, 1e300)],
    "memory": [result_with(9, -5)],
    "negative offset": [["output", "JOB", 0, 1, 1, -1, b"x"]],
    "fourth stream": [["output", "JOB", 0, 1, 4, 0, b"x"]],
    "NaN load": [["heartbeat", {"cpu": math.nan}]],
    "endless load": [["heartbeat", {"cpu": math.inf}]],
    "negative load": [["heartbeat", {"cpu": -1.0}]],
    "huge load": [["heartbeat", {"memory_free_bytes": 2**64 - 1}]],
    "negative running": [["heartbeat", {"running": -1}]],
    "a ping that was never sent": [["pong", 10**6]],
    "ping zero": [["pong", 0]],
}


async def test_nonsense_ends_the_link_and_counts_for_nothing(mesh):
    for number, (name, nonsense) in enumerate(NONSENSE.items()):
        evil = await mesh.agent(f"evil-{number}")
        job_id, task = await given(mesh, evil)
        frame = DEEP if nonsense is None else msgspec.msgpack.encode(nonsense)
        await evil.socket.send_bytes(frame.replace(b"\xa3JOB", b"\xaa" + job_id.encode()))
        assert await evil.goodbye() == "protocol", name
        assert mesh.engine.state.jobs[job_id].tasks[0].attempt == task.attempt, name
        assert await mesh.pieces(job_id) == [], name
    await mesh.still_serves(await mesh.agent("honest"))


async def test_a_frame_counts_whole_or_not_at_all(mesh):
    evil = await mesh.agent("evil")
    job_id, task = await given(mesh, evil)
    hello = RegisterNode(PROTOCOL, info(4), "i1")
    good = TaskResult(job_id, 0, task.attempt, Outcome.OK, 0)
    await evil.say(good, hello)
    assert await evil.goodbye() == "protocol"
    assert mesh.engine.state.jobs[job_id].counts.completed == 0
    again = await mesh.call(evil.identity, "evil")
    await again.hello(held=(held(job_id),))
    await again.say(good)
    await mesh.completed(job_id)


async def test_revoked_while_it_speaks_it_hears_that_it_is_for_good(mesh):
    """Between the order and the goodbye its own words may come first: an agent that is told less stays."""
    evil = await mesh.agent("evil")
    mesh.coordinator.enrolment.serials.revoke(evil.id)
    await evil.say(Heartbeat(NodeLoad()))
    assert await evil.goodbye() == "revoked"


async def test_a_first_word_that_is_no_hello(mesh):
    half = b"\x91\x92\xa8register\x01"
    for number, first in enumerate([b"", b"\xc1", b"\xdd\xff\xff\xff\xff", half, b"\x90"]):
        evil = await mesh.connect(f"evil-{number}")
        await evil.socket.send_bytes(first)
        assert await evil.goodbye() == "protocol", first


async def test_a_hello_must_come_alone_and_first(mesh):
    for messages in ([Heartbeat(NodeLoad())], [RegisterNode(PROTOCOL, info(4), "i")] * 2):
        evil = await mesh.connect(f"evil-{len(messages)}")
        await evil.say(*messages)
        assert await evil.goodbye() == "protocol"


async def test_a_boundless_hello_is_refused(mesh):
    boundless = (
        {"hostname": "h" * 100_000},
        {"tags": tuple(f"t{n}" for n in range(100_000))},
        {"python": "p" * 5000},
        {"memory_bytes": 2**64 - 1},
        {"refuses": "no" * 100_000},
    )
    for number, about in enumerate(boundless):
        evil = await mesh.connect(f"evil-{number}")
        await evil.say(RegisterNode(PROTOCOL, info(4, **about), "i1"))
        assert await evil.goodbye() == "protocol", about.keys()
        assert mesh.engine.state.nodes[evil.id].node.info is None


async def test_an_offer_that_cannot_be_harms_nobody(mesh):
    """It may be refused or taken for what it is worth; the other nodes get the work all the same."""
    offers = (
        Resources(-1000, 0, 0),
        Resources(2**63, 2**63, 2**63),
        Resources(0, -(2**60), -1),
        Resources(10**15, 2**60, 0),
    )
    for number, offer in enumerate(offers):
        evil = await mesh.connect(f"evil-{number}")
        await evil.say(RegisterNode(PROTOCOL, info(4, offer=offer), "i1"))
    await mesh.still_serves(await mesh.agent("honest"))


async def test_numbers_of_the_outbox_are_its_own_affair(mesh):
    evil = await mesh.agent("evil", first=2**52)
    job_id, task = await given(mesh, evil)
    await evil.say(TaskResult(job_id, 0, task.attempt, Outcome.OK, 0))
    assert (await evil.next(Acknowledge)).upto == 2**52 + 1
    assert job_id not in mesh.engine.state.jobs


async def test_made_up_work_in_a_hello_is_dropped(mesh):
    honest = await mesh.agent("honest")
    job_id, _task = await given(mesh, honest)
    invented = tuple(held(f"j{n}") for n in range(10_000))
    evil = await mesh.connect("evil")
    await evil.say(RegisterNode(PROTOCOL, info(4, machine="evil"), "i1", (held(job_id), *invented)))
    registered = await evil.next(Registered)
    assert len(registered.drop) == len(invented) + 1
    assert mesh.engine.state.jobs[job_id].tasks[0].node_id == honest.id
    assert not mesh.engine.state.nodes[evil.id].held


async def test_a_link_that_was_replaced_says_nothing_any_more(mesh):
    first = await mesh.agent("evil")
    job_id, task = await given(mesh, first)
    second = await mesh.call(first.identity, "evil")
    await second.hello(held=(held(job_id),))
    with suppress(ConnectionError):
        await first.say(TaskOutput(job_id, 0, task.attempt, 1, 0, b"x"), Leaving())
    assert await first.goodbye() == "replaced"
    assert mesh.engine.state.nodes[first.id].session is not None
    assert job_id in mesh.engine.state.jobs


async def test_leaving_and_talking_on(mesh):
    evil = await mesh.agent("evil")
    job_id, task = await given(mesh, evil)
    await evil.say(Leaving(), TaskResult(job_id, 0, task.attempt, Outcome.OK, 0), Heartbeat(NodeLoad()))
    await mesh.until(lambda: mesh.engine.state.nodes[evil.id].session is None)
    await evil.say(TaskStarted(job_id, 0, task.attempt))
    await mesh.still_serves(await mesh.agent("honest"))


async def test_hostile_texts_stay_texts(mesh):
    ugly = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\u202e\nroot: [red]x[/red]"
    evil = await mesh.agent("evil", hostname=ugly, tags=(ugly,), shares=(ugly,), refuses=ugly)
    assert mesh.engine.state.nodes[evil.id].node.info.hostname
    await mesh.still_serves(await mesh.agent("honest"))


# Floods


async def test_a_frame_over_the_limit_ends_the_link(mesh):
    evil = await mesh.agent("evil")
    await evil.socket.send_bytes(b"\0" * (MIB + 1))
    assert await evil.goodbye() in CUT_OFF


async def test_fragments_without_end_end_the_link(mesh):
    evil = await mesh.agent("evil")
    with suppress(ConnectionError):
        for number in range(40):
            opcode = WSMsgType.BINARY if number == 0 else WSMsgType.CONTINUATION
            await raw_frame(evil, opcode, b"\0" * 65_536, final=False)
    assert await evil.goodbye() in CUT_OFF
    await mesh.still_serves(await mesh.agent("honest"))


async def test_compression_is_not_spoken(mesh):
    connector = aiohttp.TCPConnector(ssl=client_context((await mesh.agent("evil")).identity))
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"https://127.0.0.1:{mesh.coordinator.port}/v1/agent"
        socket = await session.ws_connect(url, compress=15)
        assert not socket.compress
        await socket.close()


async def test_a_compressed_frame_ends_the_link(mesh):
    evil = await mesh.agent("evil")
    await raw_frame(evil, WSMsgType.BINARY, b"\0" * 64, reserved=0x40)
    assert await evil.goodbye() in CUT_OFF


async def test_ten_thousand_pings_of_the_websocket(mesh):
    evil, honest = await mesh.agent("evil"), await mesh.agent("honest")
    for _ in range(10_000):
        await evil.socket.ping(b"x" * 100)
    await mesh.still_serves(honest)


async def test_a_flood_of_messages_is_slowed_down_and_others_are_served(mesh, monkeypatch):
    monkeypatch.setattr(agent_link, "MESSAGES_PER_SECOND", 2000)
    monkeypatch.setattr(agent_link, "MESSAGES_AT_ONCE", 4000)
    evil, honest = await mesh.agent("evil"), await mesh.agent("honest")
    frame = next(encode_frames([TaskStarted(JobId("j"), 0, 1)] * 4000))[1]
    taken = 0

    async def flood() -> None:
        nonlocal taken
        with suppress(ConnectionError):
            while True:
                await evil.socket.send_bytes(frame)
                taken += 1

    async with asyncio.TaskGroup() as group:
        flooding = group.create_task(flood())
        await mesh.still_serves(honest)
        # When everything between the two is full, half a frame a second is taken; else dozens are.
        async with asyncio.timeout(PATIENCE_SECONDS):
            before = -FRAMES_MOST
            while taken - before >= FRAMES_MOST:
                before = taken
                await asyncio.sleep(0.5)
        flooding.cancel()
    assert mesh.engine.state.nodes[honest.id].connected


@pytest.mark.slow
async def test_a_task_that_is_handed_back_again_and_again_goes_slowly(mesh):
    evil = await mesh.agent("evil")
    job_id = await mesh.submit(node=evil)
    for answer in (TaskResult(job_id, 0, 1, Outcome.CANCELLED), TaskReturned(job_id, 0, 2, "no")):
        await evil.next(AssignTask)
        await evil.say(answer)
        await evil.next(Acknowledge)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await evil.next(AssignTask)


async def test_hundreds_of_pongs_move_nothing(mesh):
    evil = await mesh.agent("evil")
    ping = await evil.next(Ping)
    await evil.say(*[Pong(ping.number)] * 4000)
    await evil.say(Heartbeat(NodeLoad()))
    await mesh.until(lambda: mesh.engine.state.nodes[evil.id].rtt_seconds is not None)
    rtt = mesh.engine.state.nodes[evil.id].rtt_seconds
    assert 0 <= rtt < 5


async def raw_frame(
    agent: Agent, opcode: int, payload: bytes, *, final: bool = True, reserved: int = 0
) -> None:
    """One WebSocket frame, masked with zeros, as no library would send it."""
    head = bytes([(0x80 if final else 0) | reserved | int(opcode), 0x80 | 127])
    transport = agent.socket._writer.transport
    transport.write(head + len(payload).to_bytes(8, "big") + b"\0\0\0\0" + payload)
    await asyncio.sleep(0)
