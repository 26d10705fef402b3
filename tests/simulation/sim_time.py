"""Simulated time: one line of events for the whole world, and for each machine its own clocks and event loop.

A loop never waits. The timeline asks every machine when it has something to do, moves the world's clock
to the soonest, and lets that one loop turn once. A machine that sleeps is not asked.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from asyncio import events
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

NEVER = float("inf")
TICK = 1e-6
"""Clocks are read this exactly: floating point must not make a timer that is due look early."""


class _NoSelector:
    """There is nothing outside of a simulated machine to wait for."""

    def select(self, _timeout: float | None) -> list[Any]:
        return []


class SimTask(asyncio.Task):  # type: ignore[type-arg]
    """Hashes to its number, so that sets of tasks have the same order in every run."""

    numbers = count()

    def __init__(self, *args: Any, **options: Any) -> None:
        self.number = next(SimTask.numbers)
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self.number

    __eq__ = object.__eq__


class SimLoop(asyncio.BaseEventLoop):
    """asyncio's own loop with the machine's clock, without a selector and without threads."""

    def __init__(self, machine: Machine) -> None:
        super().__init__()
        self._machine = machine
        self._selector = _NoSelector()
        self._clock_resolution = TICK
        self.set_task_factory(lambda loop, work, **options: SimTask(work, loop=loop, **options))

    def time(self) -> float:
        return self._machine.steady

    def _process_events(self, _events: list[Any]) -> None:
        """Nothing comes from outside."""

    def _write_to_self(self) -> None:
        """Nobody waits in a selector."""

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._machine.on_broken(context)

    def run_in_executor(self, _executor: Any, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Done at once and here."""
        done = self.create_future()
        try:
            done.set_result(work(*args))
        except Exception as error:
            done.set_exception(error)
        return done

    def next_at(self) -> float:
        """The loop's own time of what is due next."""
        if self._ready:
            return -NEVER
        scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False
        return scheduled[0]._when if scheduled else NEVER

    def turn(self) -> None:
        events._set_running_loop(self)
        try:
            self._run_once()
        finally:
            events._set_running_loop(None)


class Machine:
    """A computer: its clocks, its power, and the one process of ours that runs on it."""

    present: Machine | None = None
    """Whose loop turns now."""

    def __init__(self, timeline: Timeline, name: str, seed: str) -> None:
        self.timeline = timeline
        self.name = name
        self.random = random.Random(seed)
        self.loop: SimLoop | None = None
        self.is_asleep = False
        self.wall_offset = 1_700_000_000.0
        self.call_seconds = 0.0
        """What a look at the clock costs: a slow machine's passes are cut short."""
        self._steady = self.random.uniform(10.0, 1e6)
        self._read_at = timeline.now
        self._stands_still = False
        timeline.machines.append(self)

    # Clocks

    @property
    def steady(self) -> float:
        if self._stands_still:
            return self._steady
        return self._steady + (self.timeline.now - self._read_at)

    @property
    def wall(self) -> float:
        return self.timeline.now + self.wall_offset

    def look_at_clock(self) -> float:
        self._steady += self.call_seconds
        return self.steady

    def sleep(self, *, clock_runs: bool) -> None:
        """Nothing happens here any more. `clock_runs`: it is only stopped, or counts the time asleep."""
        if not self.is_asleep:
            self.is_asleep = True
            if not clock_runs:
                self._steady, self._stands_still = self.steady, True

    def wake(self) -> None:
        if self.is_asleep:
            self.is_asleep = False
            if self._stands_still:
                self._stands_still, self._read_at = False, self.timeline.now

    # The process

    def boot(self, main: Coroutine[Any, Any, None]) -> None:
        assert self.loop is None
        self.loop = SimLoop(self)
        self.begin(main)

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something on this machine's loop."""
        assert self.loop is not None
        return self.loop.create_task(work)

    def halt(self) -> None:
        """The process is gone from one moment to the next: nothing of it is ever run again."""
        if self.loop is not None:
            # Kept, because Python would run the ends of coroutines when it forgets them.
            self.timeline.graves.append((self.loop, asyncio.all_tasks(self.loop)))
            self.loop = None

    def next_at(self) -> float:
        """The world's time of what is due next; in the past for what is due at once."""
        if self.loop is None or self.is_asleep:
            return NEVER
        return self.loop.next_at() - self._steady + self._read_at

    def turn(self) -> None:
        assert self.loop is not None
        Machine.present = self
        try:
            self.loop.turn()
        finally:
            Machine.present = None

    def on_broken(self, context: dict[str, Any]) -> None:
        """Something failed where nobody was to hear of it."""
        self.timeline.broken.append((self.name, context))


class Timeline:
    """What happens next, and when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.machines: list[Machine] = []
        self.graves: list[Any] = []
        self.broken: list[tuple[str, dict[str, Any]]] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        self.at(self.now + seconds, what)

    def step(self, until: float) -> bool:
        """Do the next thing; False if there is none before `until`, and it is then."""
        when, chosen = (self._events[0][0] if self._events else NEVER), None
        for machine in self.machines:
            due = machine.next_at()
            if due < when:
                when, chosen = due, machine
        if when > until:
            self.now = until
            return False
        self.now = max(self.now, when)
        if chosen is None:
            heapq.heappop(self._events)[2]()
        else:
            chosen.turn()
        return True
