"""One WebSocket per agent: hello, receive, send, goodbye. The door where agents' errors are caught.

Frames are taken in order. A frame's output is on disk before its results go to the engine, and
both before they are acknowledged. An agent that breaks the protocol is cut off; what it says about
attempts that are not its own any more is acknowledged and dropped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from aiohttp import WSMsgType, web

from planetmesh.coordinator.distribution import Distribution
from planetmesh.coordinator.engine import Engine
from planetmesh.errors import Forgotten, MeshError, PeerMisbehaved, Revoked, StorageFailed
from planetmesh.groups import TaskGroup
from planetmesh.mesh import effects as fx
from planetmesh.mesh import lingering, nodes, reactor
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.identity import Principal
from planetmesh.model.ids import NodeId
from planetmesh.store.changes import AuditRow, Changes
from planetmesh.wire.agent import (
    DURABLE,
    Acknowledge,
    BlobsHeld,
    FromAgent,
    Goodbye,
    Heartbeat,
    Leaving,
    Ping,
    Pong,
    RegisterNode,
    Serving,
    TaskOutput,
    TaskResult,
    TaskReturned,
    TaskStarted,
    ToAgent,
)
from planetmesh.wire.codec import FRAME_MOST_BYTES, PROTOCOL, decode_from_agent, encode_frames

log = logging.getLogger(__name__)

HELLO_SECONDS = 10.0
"""From the upgrade to the hello; a LAN takes milliseconds."""
FRAMES_IN_FLIGHT = 32
"""Frames of one agent that the engine has not finished; beyond them the link is not read (TCP pushes)."""
OUTGOING_MOST = 200_000
"""Messages waiting for one agent; more means that it does not read, and it is cut off."""
MESSAGES_PER_SECOND = 20_000
"""Read from one agent in the long run: several times what a large machine has to say about short tasks."""
MESSAGES_AT_ONCE = 60_000
"""On top: what has piled up while the link was down comes as fast as it can."""
GOODBYE_SECONDS = 1.0
"""How long a parting word may take before the connection is simply dropped."""


class AgentLink:
    """One connected agent; lives as long as its WebSocket."""

    def __init__(
        self,
        engine: Engine,
        principal: Principal,
        socket: web.WebSocketResponse,
        mesh_name: str,
        abort: Callable[[], None],
        *,
        distribution: Distribution | None = None,
        address: str = "",
    ) -> None:
        self._abort = abort
        """Cuts the connection without another word."""
        self.engine = engine
        self.node_id = NodeId(principal.id)
        self.socket = socket
        self.mesh_name = mesh_name
        self.session = engine.switchboard.new_session()
        self._distribution = distribution or Distribution()
        self._address = address
        """Where it comes from."""
        self._outgoing: deque[ToAgent] = deque()
        self._more = asyncio.Event()
        self._room = asyncio.Semaphore(FRAMES_IN_FLIGHT)
        self._pace = _Pace()
        self._goodbye: Goodbye | None = None
        self._is_registered = False
        self._is_refusing = False
        """A frame could not be taken in: nothing that came with or after it is acknowledged on this link."""
        self._next_number = 0
        """Number in the agent's outbox of the next durable message."""
        self._pinged = 0
        """Number of the last ping."""
        self._pings: dict[int, float] = {}
        """When each ping was sent that still waits for its answer."""

    def send(self, messages: list[ToAgent]) -> None:
        """Queue messages; returns at once."""
        self._outgoing.extend(messages)
        if len(self._outgoing) > OUTGOING_MOST:
            self._outgoing.clear()
            self.hang_up("slow", "The agent does not read what it is sent.")
        self._more.set()

    def hang_up(self, code: str, reason: str) -> None:
        """Say goodbye and close; returns at once."""
        if self._goodbye is None:
            self._goodbye = Goodbye(code, reason)
        self._more.set()

    async def serve(self, still_allowed: Callable[[], None]) -> None:
        """Speak with the agent until either side ends. `still_allowed` raises once it may not speak."""
        switchboard = self.engine.switchboard
        switchboard.connect(self)
        try:
            async with TaskGroup() as group:
                tasks = [group.create_task(self._write()), group.create_task(self._ping())]
                try:
                    await self._receive(still_allowed)
                except MeshError as error:
                    log.warning("agent.cut_off", extra={"node_id": self.node_id, "reason": error.message})
                    code = "protocol" if isinstance(error, PeerMisbehaved) else error.code
                    # It may have spoken between the order and this link's own goodbye: the same words then.
                    self.hang_up(code, nodes.REVOKED if isinstance(error, Revoked) else error.message)
                    await asyncio.wait(tasks[:1], timeout=GOODBYE_SECONDS)
                finally:
                    for task in tasks:
                        task.cancel()
        finally:
            if switchboard.disconnect(self.node_id, self):
                self._distribution.on_gone(self.node_id)
            if self._is_registered:
                goodbye = self._goodbye.code if self._goodbye else ""
                known = self.engine.state.nodes.get(self.node_id)
                name = known.node.name if known is not None else ""
                fields = {"node": name, "node_id": self.node_id, "goodbye": goodbye}
                log.info("node.disconnected", extra=fields)
            self.engine.post(lambda state, _now: nodes.on_link_lost(state, self.node_id, self.session))

    async def _receive(self, still_allowed: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                first = await self._next_frame()
        except TimeoutError:
            raise PeerMisbehaved("The agent did not say hello.") from None
        if first is None:
            return
        await self._greet(first)
        while (frame := await self._next_frame()) is not None:
            still_allowed()
            self._check(frame)
            await self._room.acquire()
            await self._take(frame)
            await self._pace.keep(len(frame))

    async def _next_frame(self) -> list[FromAgent] | None:
        message = await self.socket.receive()
        if message.type is WSMsgType.BINARY:
            return decode_from_agent(message.data)
        if message.type is WSMsgType.TEXT:
            raise PeerMisbehaved("A text frame came where only binary ones are spoken.")
        return None

    async def _greet(self, frame: list[FromAgent]) -> None:
        hello = frame[0] if frame else None
        if len(frame) != 1 or not isinstance(hello, RegisterNode):
            raise PeerMisbehaved("The first message of an agent must be its hello, alone.")
        if hello.protocol != PROTOCOL:
            raise PeerMisbehaved(
                f"The agent speaks protocol {hello.protocol} (version {hello.info.version}); "
                f"this coordinator speaks {PROTOCOL}. Bring both to the same version."
            )
        self._next_number = hello.first_unacknowledged
        joining = nodes.Joining(self.node_id, self.session, hello)

        def join(state: MeshState, now: Moment) -> fx.Effects:
            if self.node_id not in state.nodes:
                raise Forgotten("This node was forgotten. Pair it again with a code from `planetmesh code`.")
            found = nodes.on_node_joined(state, joining, self.mesh_name, now)
            if state.nodes[self.node_id].session == self.session:
                self.engine.switchboard.attach(self.node_id, self)
            return found

        await self.engine.do(join)
        if self._goodbye is not None and self._goodbye.code == "duplicate":
            await self._alarm(self._goodbye.reason)
        elif (live := self.engine.state.nodes.get(self.node_id)) is not None:
            self._is_registered = True
            log.info(
                "node.registered",
                extra={
                    "node": live.node.name,
                    "node_id": self.node_id,
                    "address": self._address,
                    "version": hello.info.version,
                    "sandbox": hello.info.sandbox.tier,
                    "held": len(hello.held),
                    "refuses": hello.info.refuses,
                },
            )

    async def _alarm(self, reason: str) -> None:
        """Two machines with one identity: whoever looks after the mesh must hear of it."""
        log.warning("access.copied_identity", extra={"member": self.node_id, "reason": reason})
        row = AuditRow(
            time.time(), self.node_id, "copied_identity", self.node_id, reason, address=self._address
        )
        await self.engine.do(lambda _state, _now: [], Changes(audit=[row]))

    def _check(self, frame: list[FromAgent]) -> None:
        """Raise PeerMisbehaved before anything of it has counted: a frame is taken whole or not at all."""
        for message in frame:
            if isinstance(message, RegisterNode):
                raise PeerMisbehaved("An agent said hello twice on one link.")
            if isinstance(message, Pong) and not 0 < message.number <= self._pinged:
                raise PeerMisbehaved("An agent answered a ping that was never sent.")

    async def _take(self, frame: list[FromAgent]) -> None:
        """One frame: its output to the disk first, then the rest to the engine as one happening."""
        state = self.engine.state
        output = [m for m in frame if isinstance(m, TaskOutput) and self._may_write(state, m)]
        if output and self._is_current(state):
            await self.engine.outputs.append(output)
        self._next_number += sum(isinstance(message, DURABLE) for message in frame)
        upto = self._next_number
        taken = False

        def happen(state: MeshState, now: Moment) -> fx.Effects:
            nonlocal taken
            if not self._is_current(state):
                return []
            taken = True
            found = nodes.on_heard(state, self.node_id, now)
            for message in _newest_heartbeat_only(frame):
                found += self._react(state, message, now)
            return found

        def answer(error: Exception | None) -> None:
            self._room.release()
            if error is not None and not isinstance(error, StorageFailed):
                # After a disk that refused, the agent keeps it and sends it again.
                self._refuse(error)
            elif taken and error is None and not self._is_refusing:
                self._acknowledge(upto)

        self.engine.post(happen, answer, can_wait=self._can_wait(state, frame))

    def _can_wait(self, state: MeshState, frame: list[FromAgent]) -> bool:
        """It tells ends alone, and nobody is any better off when they are taken in at once."""
        return all(
            isinstance(message, TaskOutput)
            or (isinstance(message, TaskResult) and lingering.can_wait(state, message))
            for message in frame
        )

    def _refuse(self, error: Exception) -> None:
        """What the agent said cannot be: it is cut off and has to find out what to tell instead."""
        self._is_refusing = True
        reason = error.message if isinstance(error, MeshError) else "What it said could not be taken in."
        log.warning("agent.cut_off", extra={"node_id": self.node_id, "reason": reason})
        self.hang_up("protocol", reason)

    def _is_current(self, state: MeshState) -> bool:
        """This is the node's link; false for a copy's, and for one that a newer link has replaced."""
        live = state.nodes.get(self.node_id)
        return live is not None and live.session == self.session

    def _may_write(self, state: MeshState, output: TaskOutput) -> bool:
        if output.offset + len(output.data) > self.engine.settings.output_most_bytes:
            return False
        return reactor.still_counts(state, self.node_id, output.job_id, output.index, output.attempt)

    def _react(self, state: MeshState, message: FromAgent, now: Moment) -> fx.Effects:
        match message:
            case TaskResult():
                return reactor.on_task_ended(state, self.node_id, message, now)
            case TaskStarted():
                return reactor.on_task_started(state, self.node_id, message, now)
            case TaskOutput():
                return []
            case TaskReturned():
                return reactor.on_task_returned(state, self.node_id, message, now)
            case Heartbeat(load):
                return nodes.on_heartbeat(state, self.node_id, load, now)
            case BlobsHeld() | Serving():
                return self._note(state, message)
            case Pong(number):
                return self._measure(state, number)
            case Leaving():
                return nodes.on_leaving(state, self.node_id, self.session, now)
            case RegisterNode():
                return []

    def _note(self, state: MeshState, message: BlobsHeld | Serving) -> fx.Effects:
        """What the node can do for others that need the same files."""
        if isinstance(message, Serving):
            self._distribution.on_serving(self.node_id, self._address, message.port)
            return []
        for digest in message.gained:
            self._distribution.on_over(self.node_id, digest)
        return nodes.on_blobs_held(state, self.node_id, message.gained, message.lost)

    def _measure(self, state: MeshState, number: int) -> fx.Effects:
        sent = self._pings.pop(number, None)
        if sent is None:
            # Answered long after: the machine slept, or the way was cut for some heartbeats.
            return []
        return nodes.on_rtt(state, self.node_id, time.monotonic() - sent)

    def _acknowledge(self, upto: int) -> None:
        """Only the newest acknowledgement counts, so one that still waits is replaced."""
        if self._outgoing and isinstance(self._outgoing[-1], Acknowledge):
            self._outgoing.pop()
        self._outgoing.append(Acknowledge(upto))
        self._more.set()

    async def _ping(self) -> None:
        while True:
            with suppress(TimeoutError):
                # At once after a change: the pause before it may be longer than what counts as silence now.
                async with asyncio.timeout(self.engine.settings.heartbeat_seconds):
                    await self.engine.tuned.wait()
            self._pinged += 1
            self._pings = {number: sent for number, sent in self._pings.items() if number == self._pinged - 1}
            self._pings[self._pinged] = time.monotonic()
            self.send([Ping(self._pinged)])

    async def _write(self) -> None:
        try:
            await self._write_all()
        except (ConnectionError, TimeoutError):
            self._abort()  # the reading side meets the end of the link by itself
        except MeshError as error:
            log.warning("agent.unsendable", extra={"node_id": self.node_id, "reason": error.message})
            self._abort()

    async def _write_all(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            messages = list(self._outgoing)
            self._outgoing.clear()
            for _count, frame in encode_frames(messages):
                await self.socket.send_bytes(frame)
            if self._goodbye is not None:
                await self._part(self._goodbye)
                return

    async def _part(self, goodbye: Goodbye) -> None:
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                for _count, frame in encode_frames([goodbye]):
                    await self.socket.send_bytes(frame)
                await self.socket.close()
        finally:
            self._abort()


class _Pace:
    """Lets an agent say so much a second and no more; then the link is not read for a moment (TCP pushes)."""

    def __init__(self) -> None:
        self._left = float(MESSAGES_AT_ONCE)
        self._at = time.monotonic()

    async def keep(self, count: int) -> None:
        now = time.monotonic()
        self._left = min(MESSAGES_AT_ONCE, self._left + (now - self._at) * MESSAGES_PER_SECOND) - count
        self._at = now
        if self._left < 0:
            await asyncio.sleep(-self._left / MESSAGES_PER_SECOND)


def _newest_heartbeat_only(frame: list[FromAgent]) -> list[FromAgent]:
    """Older ones say nothing any more."""
    beats = [message for message in frame if isinstance(message, Heartbeat)]
    if len(beats) < 2:
        return frame
    return [message for message in frame if not isinstance(message, Heartbeat)] + beats[-1:]


def new_socket() -> web.WebSocketResponse:
    """No compression (a bomb), a bounded message, our own pings."""
    return web.WebSocketResponse(
        compress=False, max_msg_size=FRAME_MOST_BYTES, autoping=True, timeout=GOODBYE_SECONDS
    )
