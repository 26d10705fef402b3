"""Simulated agents: many links in one process, speaking the real protocol, ending tasks without running them.

Each has its own client certificate, TLS connection and WebSocket; says hello, beats, answers pings, keeps a
backlog, holds results until they are acknowledged, and comes back after a restart with what it holds, as
`planetmesh.agent` does. No disk, no launcher: what is measured is the coordinator.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import deque
from collections.abc import Callable
from itertools import chain, islice
from typing import Self

import aiohttp
from load_probe import CLOCK_FIELD

from planetmesh.agent.reconnect import back_off
from planetmesh.model.job import Outcome
from planetmesh.model.node import NodeInfo, NodeLoad
from planetmesh.model.resources import MILLIS, Resources
from planetmesh.trust.identity import Identity
from planetmesh.trust.tls import client_context
from planetmesh.wire.agent import (
    Acknowledge,
    AssignTask,
    FromAgent,
    Goodbye,
    Heartbeat,
    Held,
    Ping,
    Pong,
    RecallTasks,
    Registered,
    RegisterNode,
    StopTask,
    TaskResult,
    TaskReturned,
    TaskStarted,
    ToAgent,
)
from planetmesh.wire.codec import FRAME_MOST_BYTES, PROTOCOL, decode_to_agent, encode_frames

COALESCE_SECONDS = 0.005
CONNECT_SECONDS = 20.0
"""A thousand handshakes at once take a while on two cores that both sides share."""
GIB = 1024**3

Attempt = tuple[str, int, int]


class Agent:
    """One node. `draw` says how long its next task takes, in seconds."""

    def __init__(self, identity: Identity, crowd: Crowd, slots: int, draw: Callable[[], float]) -> None:
        self._identity = identity
        self._crowd = crowd
        self._slots = slots
        self._draw = draw
        self._instance = secrets.token_hex(8)
        self._running: dict[Attempt, asyncio.TimerHandle] = {}
        self._backlog: dict[Attempt, AssignTask] = {}
        self._soft: list[FromAgent] = []
        self._unacknowledged: deque[TaskResult | TaskReturned] = deque()
        self._first_number = 0
        self._sent = 0
        """How many of the unacknowledged were sent on this link."""
        self._wake = asyncio.Event()
        self.is_up = False

    async def live(self) -> None:
        """Keep connected until cancelled."""
        rounds = 0
        while True:
            try:
                await self._talk()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self._crowd.note_loss(error, was_up=self.is_up)
            was_up, self.is_up = self.is_up, False
            rounds = 0 if was_up else rounds + 1
            await asyncio.sleep(back_off(rounds))

    async def _talk(self) -> None:
        connector = aiohttp.TCPConnector(ssl=client_context(self._identity), limit=1)
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            url = f"https://127.0.0.1:{self._crowd.port}/v1/agent"
            async with session.ws_connect(url, compress=0, max_msg_size=FRAME_MOST_BYTES) as socket:
                self._sent = 0
                self._soft.clear()
                await self._send_now(socket, [self._hello()])
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._send(socket)), group.create_task(self._beat())]
                    try:
                        await self._receive(socket)
                    except (aiohttp.ClientError, OSError) as error:
                        self._crowd.note_loss(error, was_up=self.is_up)
                    finally:
                        for task in tasks:
                            task.cancel()

    def _hello(self) -> RegisterNode:
        held = chain(
            (Held(*attempt, running=True) for attempt in self._running),
            (Held(*attempt, running=False) for attempt in self._backlog),
            (Held(each.job_id, each.index, each.attempt, running=False) for each in self._unacknowledged),
        )
        return RegisterNode(PROTOCOL, self._info(), self._instance, tuple(held), self._first_number)

    def _info(self) -> NodeInfo:
        return NodeInfo(
            hostname=self._identity.membership.name,
            os="Linux",
            arch="x86_64",
            version="0",
            python="3.11",
            cpus=self._slots,
            memory_bytes=16 * GIB,
            offer=Resources(self._slots * MILLIS, 14 * GIB, 0),
            tags=("linux", "x86_64"),
            job_types=("command", "script"),
            machine=self._identity.membership.id,
        )

    async def _send_now(self, socket: aiohttp.ClientWebSocketResponse, messages: list[FromAgent]) -> None:
        for _count, frame in encode_frames(messages):
            await socket.send_bytes(frame)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """While more work waits here, ends wait a moment for company, as a real agent's do."""
        while True:
            await self._wake.wait()
            if self._backlog:
                await asyncio.sleep(COALESCE_SECONDS)
            self._wake.clear()
            if not self.is_up:
                continue
            soft, self._soft = self._soft, []
            durable = list(islice(self._unacknowledged, self._sent, None))
            self._sent += len(durable)
            try:
                await self._send_now(socket, [*soft, *durable])
            except (aiohttp.ClientError, OSError):
                return  # the receiver meets the end of the link by itself

    async def _beat(self) -> None:
        pause = self._crowd.heartbeat_seconds
        await asyncio.sleep(random.uniform(0, pause))
        while True:
            if self.is_up:
                clock = {CLOCK_FIELD: int(time.monotonic() * 1e6)}
                load = NodeLoad(cpu=len(self._running) / self._slots, running=len(self._running), **clock)
                self._soft.append(Heartbeat(load))
                self._wake.set()
            await asyncio.sleep(pause)

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY:
                return
            for each in decode_to_agent(message.data):
                self._take(each)
            if self._soft and isinstance(self._soft[-1], Pong):
                pongs = [each for each in self._soft if isinstance(each, Pong)]
                self._soft = [each for each in self._soft if not isinstance(each, Pong)]
                await self._send_now(socket, pongs)
            self._start_some()

    def _take(self, message: ToAgent) -> None:
        match message:
            case AssignTask(job_id, index, attempt):
                self._backlog[job_id, index, attempt] = message
            case Acknowledge(upto):
                self._acknowledge(upto)
            case Ping(number):
                self._soft.append(Pong(number))
            case _:
                self._take_rare(message)

    def _take_rare(self, message: ToAgent) -> None:
        match message:
            case Registered(drop=drop):
                for held in drop:
                    self._forget((held.job_id, held.index, held.attempt))
                self.is_up = True
                self._crowd.note_up()
                self._wake.set()
            case StopTask(job_id, index, attempt):
                if self._forget((job_id, index, attempt)):
                    self._put(TaskResult(job_id, index, attempt, Outcome.CANCELLED, error="Cancelled."))
            case RecallTasks(tasks):
                for held in tasks:
                    if self._backlog.pop((held.job_id, held.index, held.attempt), None) is not None:
                        self._put(TaskReturned(held.job_id, held.index, held.attempt, "recalled"))
            case Goodbye(code, reason):
                self._crowd.note_goodbye(code, reason)
            case _:
                pass  # OpenJob, CloseJob, Drain: nothing is run here

    def _acknowledge(self, upto: int) -> None:
        while self._first_number < upto:
            self._unacknowledged.popleft()
            self._first_number += 1
            self._sent -= 1
            self._crowd.acknowledged += 1

    def _forget(self, attempt: Attempt) -> bool:
        timer = self._running.pop(attempt, None)
        if timer is not None:
            timer.cancel()
        return timer is not None or self._backlog.pop(attempt, None) is not None

    def _start_some(self) -> None:
        loop = asyncio.get_running_loop()
        while self._backlog and len(self._running) < self._slots:
            attempt = next(iter(self._backlog))
            del self._backlog[attempt]
            seconds = self._draw()
            if seconds <= 0:
                self._put(TaskResult(*attempt, Outcome.OK, 0))
                continue
            if seconds > COALESCE_SECONDS:
                # A real agent, too, tells the start of a task only if its end is not known by then.
                self._soft.append(TaskStarted(*attempt))
                self._wake.set()
            self._running[attempt] = loop.call_later(seconds, self._end, attempt, seconds)

    def _end(self, attempt: Attempt, seconds: float) -> None:
        del self._running[attempt]
        self._put(TaskResult(*attempt, Outcome.OK, 0, wall_seconds=seconds, cpu_seconds=seconds))
        self._start_some()

    def _put(self, message: TaskResult | TaskReturned) -> None:
        self._unacknowledged.append(message)
        self._wake.set()


class Crowd:
    """All simulated agents of one coordinator. Use as an async context manager."""

    def __init__(
        self,
        identities: list[Identity],
        port: int,
        *,
        slots: int,
        draw: Callable[[], float],
        heartbeat_seconds: float,
    ) -> None:
        self.port = port
        self.heartbeat_seconds = heartbeat_seconds
        self.acknowledged = 0
        """Ends that the coordinator has on its disk."""
        self.losses: list[str] = []
        """Why links ended that stood."""
        self.unanswered: list[str] = []
        """Why calls came to no link; they are made again."""
        self.goodbyes: list[str] = []
        self._agents = [Agent(identity, self, slots, draw) for identity in identities]
        self._news = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._tasks = [self._group.create_task(agent.live()) for agent in self._agents]
        return self

    async def __aexit__(self, *what: object) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)

    @property
    def up(self) -> int:
        return sum(agent.is_up for agent in self._agents)

    def note_up(self) -> None:
        self._news.set()

    def note_loss(self, error: Exception, *, was_up: bool) -> None:
        (self.losses if was_up else self.unanswered).append(f"{type(error).__name__}: {error}")

    def note_goodbye(self, code: str, reason: str) -> None:
        self.goodbyes.append(f"{code}: {reason}")

    async def all_up(self, seconds: float) -> float:
        """Wait until each is registered; how long it took."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                while self.up < len(self._agents):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            last = (self.goodbyes + self.losses + self.unanswered)[-3:]
            raise TimeoutError(f"{self.up} of {len(self._agents)} agents are connected: {last}") from None
        return time.monotonic() - began

    async def ended(self, count: int, seconds: float) -> bool:
        """Wait until so many ends were acknowledged; False if it took too long."""
        until = time.monotonic() + seconds
        # An event for each end would cost what is measured.
        while self.acknowledged < count and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return self.acknowledged >= count
