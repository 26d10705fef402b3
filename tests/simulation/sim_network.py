"""A LAN: connections with delay, cuts in one or both directions, and ends that may die without a word.

Within one connection frames keep their order and none is doubled or lost, as TCP has it; a cut holds them
back. What was sent on an old connection may arrive long after a new one was made.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from aiohttp import WSMsgType
from sim_time import Machine, Timeline

BUFFER_BYTES = 512 * 1024
"""What lies between two programs before the sender has to wait."""
GIVE_UP_SECONDS = 900.0
"""TCP's patience with a frame that nobody confirms."""


class Frame(NamedTuple):
    """What aiohttp gives to whoever receives."""

    type: WSMsgType
    data: bytes = b""


ENDED = Frame(WSMsgType.CLOSED)
BROKEN = Frame(WSMsgType.ERROR)


class End:
    """One side of a connection, as the code that is tested sees a WebSocket."""

    def __init__(self, network: Network, machine: Machine) -> None:
        self.network = network
        self.machine = machine
        self.process = machine.loop
        self.other: End
        self.is_closed = False
        self._inbox: deque[Frame] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._on_way: deque[tuple[float, Frame]] = deque()
        """To the other side: when each is due there at the earliest."""
        self._bytes = 0
        self._drained: asyncio.Future[None] | None = None
        self._is_moving = False

    # What programs use

    async def receive(self, timeout: float | None = None) -> Frame:  # noqa: ASYNC109  aiohttp's own signature
        async with asyncio.timeout(timeout):
            while not self._inbox:
                if self.is_closed:
                    return ENDED
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        return self._inbox.popleft()

    async def send_bytes(self, data: bytes) -> None:
        self._refuse_if_closed()
        while self._bytes > BUFFER_BYTES:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
            self._refuse_if_closed()
        self._send(Frame(WSMsgType.BINARY, data))

    async def close(self) -> None:
        self.hang_up()

    def exception(self) -> None:
        return None

    def _refuse_if_closed(self) -> None:
        if self.is_closed:
            raise ConnectionResetError("The connection is closed.")

    # What happens to it

    def hang_up(self) -> None:
        """Closed here; the other side hears of it behind all that was sent."""
        if not self.is_closed:
            self._send(Frame(WSMsgType.CLOSE))
            self._shut()

    def snap(self, frame: Frame = BROKEN) -> None:
        """The connection does not exist any more: whoever waits here is told."""
        if not self.is_closed and not self.is_orphan:
            self._inbox.append(frame)
            self._shut()

    @property
    def is_orphan(self) -> bool:
        """The process that had it is gone."""
        return self.machine.loop is not self.process or self.process is None

    @property
    def is_over(self) -> bool:
        return (self.is_closed or self.is_orphan) and not self._on_way

    def _shut(self) -> None:
        self.is_closed = True
        for waiter in (self._waiter, self._drained):
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def _send(self, frame: Frame) -> None:
        due = self.network.timeline.now + self.network.latency(self.machine, self.other.machine)
        if self._on_way:
            due = max(due, self._on_way[-1][0])
        self._on_way.append((due, frame))
        self._bytes += len(frame.data)
        self._move_at(due)

    def _move_at(self, due: float) -> None:
        if not self._is_moving:
            self._is_moving = True
            self.network.timeline.at(due, self._move)

    def _move(self) -> None:
        """Bring over what is due, unless the way is cut or nobody is awake there."""
        self._is_moving = False
        now = self.network.timeline.now
        while self._on_way:
            due, frame = self._on_way[0]
            if not self.network.is_open(self.machine, self.other.machine):
                self.network.timeline.after(GIVE_UP_SECONDS, partial(self._give_up, frame))
                return
            if due > now:
                self._move_at(due)
                return
            self._on_way.popleft()
            self._bytes -= len(frame.data)
            self._deliver(frame)
        if self._drained is not None and not self._drained.done() and self._bytes <= BUFFER_BYTES:
            self._drained.set_result(None)

    def _deliver(self, frame: Frame) -> None:
        there = self.other
        if there.is_orphan or there.is_closed:
            self.snap()  # nobody has this connection: the machine there says so
        elif frame.type is WSMsgType.CLOSE:
            there.snap(ENDED)
        else:
            self.network.seen(self.machine, there.machine, frame.data)
            there._inbox.append(frame)
            if there._waiter is not None and not there._waiter.done():
                there._waiter.set_result(None)

    def _give_up(self, frame: Frame) -> None:
        if self._on_way and self._on_way[0][1] is frame:
            self._on_way.clear()
            self._bytes = 0
            self.snap()

    def go_on(self, delay: float) -> None:
        """The way may be open again; what was held back comes when TCP tries again."""
        if self._on_way:
            self._move_at(self.network.timeline.now + delay)


class Network:
    def __init__(
        self, timeline: Timeline, seed: str, seen: Callable[[Machine, Machine, bytes], None]
    ) -> None:
        self.timeline = timeline
        self.seen = seen
        self._ends: dict[End, None] = {}
        self.cuts: dict[tuple[Machine, Machine], int] = {}
        """Directions through which nothing comes, and by how many mishaps."""
        self.slow: dict[Machine, float] = {}
        """Seconds that everything to and from a machine takes now."""
        self.off: set[Machine] = set()
        """Machines without power."""
        self._random = random.Random(seed)

    def latency(self, one: Machine, other: Machine) -> float:
        slowest = max(self.slow.get(one, 0.0), self.slow.get(other, 0.0))
        if slowest:
            return slowest * self._random.uniform(0.2, 1.0)
        return self._random.choice((0.0002, 0.0005, 0.002, 0.01)) * self._random.uniform(0.5, 1.5)

    def is_open(self, one: Machine, other: Machine) -> bool:
        """May something go from here to there? A machine that sleeps or is off takes nothing."""
        return (one, other) not in self.cuts and not other.is_asleep and other not in self.off

    def cut(self, one: Machine, other: Machine) -> None:
        self.cuts[one, other] = self.cuts.get((one, other), 0) + 1

    def mend(self, one: Machine, other: Machine) -> None:
        left = self.cuts.pop((one, other), 1) - 1
        if left:
            self.cuts[one, other] = left
        self.go_on()

    def go_on(self) -> None:
        """Something was mended, or woke up."""
        for end in list(self._ends):
            end.go_on(self._random.choice((0.01, 0.5, 5.0)) * self._random.random())

    def connect(self, one: Machine, other: Machine) -> tuple[End, End]:
        self._ends = {end: None for end in self._ends if not end.is_over}
        here, there = End(self, one), End(self, other)
        here.other, there.other = there, here
        self._ends |= {here: None, there: None}
        return here, there

    def break_links(self, machine: Machine, *, both: bool) -> None:
        """One side or both are told that their connections are gone; what is on its way still comes."""
        for end in list(self._ends):
            if end.machine is machine or (both and end.other.machine is machine):
                end.snap()

    def crash(self, machine: Machine) -> None:
        """A process died and its kernel closes its connections. Call before the process is forgotten."""
        for end in list(self._ends):
            if end.machine is machine:
                end.hang_up()
