"""Launchers and the tasks that they run: each attempt behaves as its job's plan says, drawn from the seed.

Commands and reports take their moment, as over a socket: what a launcher has not sent dies with it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from planetmesh.agent.sandbox.messages import (
    Ended,
    LauncherSpec,
    Limits,
    Output,
    Recalled,
    Report,
    Start,
    Started,
    Why,
)
from planetmesh.agent.warm import OnLost, OnReports
from planetmesh.errors import Unreachable
from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome

if TYPE_CHECKING:
    from sim_agent import AgentMachine

COMMAND_SECONDS = 0.0005
NEWS_SECONDS = 0.008
GRACE_SECONDS = 2.0


class Manner(StrEnum):
    """How an attempt behaves."""

    WELL = "well"
    FAILS = "fails"
    HANGS = "hangs"
    """Until a limit or somebody ends it."""
    LAGS = "lags"
    """Ends well, but only after many minutes."""
    NOT_THERE = "not there"
    """Its program does not exist on this machine."""
    KILLS_LAUNCHER = "kills its launcher"
    KILLS_AGENT = "kills its agent"


class Behaviour(NamedTuple):
    manner: Manner
    seconds: float
    pieces: int
    """Of output, spread over its time."""


class Plan(msgspec.Struct, frozen=True):
    """How the tasks of one job behave."""

    shortest: float = 0.01
    longest: float = 1.0
    manners: tuple[Manner, ...] = (Manner.WELL,)
    """One of them is drawn for each attempt."""
    bad_attempts: int = 1000
    """Later attempts of a task go well."""
    pieces: int = 0

    def behaviour(self, seed: str, index: int, attempt: int, *, is_healed: bool) -> Behaviour:
        drawn = random.Random(f"{seed}/{index}/{attempt}")
        seconds = self.shortest * (self.longest / self.shortest) ** drawn.random()
        manner = drawn.choice(self.manners)
        if attempt > self.bad_attempts:
            manner = Manner.WELL
        if manner is Manner.LAGS:
            seconds = drawn.uniform(300.0, 900.0)
        if is_healed:
            seconds = min(seconds, 5.0)
            manner = Manner.WELL if manner in (Manner.HANGS, Manner.KILLS_AGENT) else manner
        return Behaviour(manner, seconds, self.pieces)


class _Attempt:
    def __init__(self, start: Start, behaviour: Behaviour, since: float) -> None:
        self.start = start
        self.behaviour = behaviour
        self.since = since
        self.is_stopped = False
        self.timers: list[asyncio.TimerHandle] = []
        self.written = 0


class SimLauncher:
    def __init__(self, machine: AgentMachine) -> None:
        self.is_gone = False
        self._machine = machine
        self._loop = asyncio.get_running_loop()
        self._on_reports: OnReports = lambda _reports: None
        self._on_lost: OnLost = lambda _reason: None
        self._job_id = JobId("")
        self._limits = Limits()
        self._slots = 1
        self._commands: deque[Callable[[], None]] = deque()
        self._waiting: deque[Start] = deque()
        self._open: dict[tuple[int, int], _Attempt] = {}
        self._reports: list[Report] = []
        self._is_sending = False
        self._is_paused = False
        self._rested: asyncio.Future[bool] | None = None

    # From the agent

    def listen(self, on_reports: OnReports, on_lost: OnLost) -> None:
        self._on_reports, self._on_lost = on_reports, on_lost

    def adopt(self, job_id: str, env: dict[str, str], limits: Limits, slots: int) -> None:
        self._command(lambda: self._adopt(JobId(job_id), limits, slots))

    def start(self, batch: Sequence[Start]) -> None:
        self._command(lambda: self._waiting.extend(batch))

    def kill(self, index: int, attempt: int, grace_seconds: float = GRACE_SECONDS) -> None:
        self._command(lambda: self._kill((index, attempt), grace_seconds))

    def set_slots(self, count: int) -> None:
        self._command(lambda: setattr(self, "_slots", count))

    def recall(self, count: int) -> None:
        self._command(lambda: self._recall(count))

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        self._send_later()

    async def rest(self) -> bool:
        if self.is_gone:
            return False
        self._rested = self._loop.create_future()
        self._command(self._rest)
        return await self._rested

    async def close(self) -> None:
        self.leave("")
        await asyncio.sleep(COMMAND_SECONDS)

    # Inside

    def _command(self, what: Callable[[], None]) -> None:
        self._commands.append(what)
        self._loop.call_later(COMMAND_SECONDS, self._obey)

    def _obey(self) -> None:
        if not self.is_gone:
            self._commands.popleft()()
            self._start_waiting()

    def _adopt(self, job_id: JobId, limits: Limits, slots: int) -> None:
        assert not self._open, "a launcher was given another job while it had one"
        self._job_id, self._limits, self._slots = job_id, limits, slots

    def _rest(self) -> None:
        assert self._rested is not None
        self._send()
        is_free = not self._waiting and not self._open
        if not self._rested.done():
            self._rested.set_result(is_free)
        if not is_free:
            self.leave("")

    def _recall(self, count: int) -> None:
        back = [self._waiting.pop() for _ in range(min(count, len(self._waiting)))]
        self._report(Recalled([(start.index, start.attempt) for start in back]))

    def _kill(self, key: tuple[int, int], grace_seconds: float) -> None:
        for start in self._waiting:
            if (start.index, start.attempt) == key:
                self._waiting.remove(start)
                self._report(Ended(*key, Why.KILLED, 143, message="Killed before it started."))
                return
        attempt = self._open.get(key)
        if attempt is not None and not attempt.is_stopped:
            self._stop(attempt, Why.KILLED, Outcome.CANCELLED, grace_seconds)

    def _stop(
        self, attempt: _Attempt, why: Why, outcome: Outcome, grace_seconds: float = GRACE_SECONDS
    ) -> None:
        """SIGTERM; it may take its time, or even end in its own way first."""
        attempt.is_stopped = True
        seconds = self._machine.random.choice((0.001, 0.1, grace_seconds))
        attempt.timers.append(self._loop.call_later(seconds, self._end, attempt, why, 143, outcome))

    def _start_waiting(self) -> None:
        while self._waiting and len(self._open) < self._slots and not self.is_gone:
            self._start(self._waiting.popleft())

    def _start(self, start: Start) -> None:
        machine = self._machine
        key = (self._job_id, start.index, start.attempt)
        behaviour = machine.world.behaviour(*key)
        machine.world.truth.on_start(machine, machine.node_id, key)
        if behaviour.manner is Manner.NOT_THERE:
            machine.world.truth.on_end(key, Outcome.NOT_FOUND)
            self._report(Ended(start.index, start.attempt, Why.NOT_FOUND, 127, message="no such program"))
            return
        attempt = _Attempt(start, behaviour, self._loop.time())
        self._open[start.index, start.attempt] = attempt
        self._report(Started(start.index, start.attempt, 1, machine.wall))
        later = self._loop.call_later
        if behaviour.manner is not Manner.HANGS:
            attempt.timers.append(later(behaviour.seconds, self._finish, attempt))
        for number in range(behaviour.pieces):
            share = (number + 1) / (behaviour.pieces + 1)
            attempt.timers.append(later(share * behaviour.seconds, self._write, attempt))
        limits = self._limits
        if limits.timeout_seconds:
            attempt.timers.append(later(limits.timeout_seconds, self._on_limit, attempt, Why.TIMEOUT))

    def _write(self, attempt: _Attempt) -> None:
        data = b"0123456789"
        key = (attempt.start.index, attempt.start.attempt)
        self._report(Output(*key, 1, attempt.written, data))
        attempt.written += len(data)

    def _on_limit(self, attempt: _Attempt, why: Why) -> None:
        if not attempt.is_stopped:
            self._stop(attempt, why, Outcome.TIMED_OUT)

    def _finish(self, attempt: _Attempt) -> None:
        match attempt.behaviour.manner:
            case Manner.KILLS_LAUNCHER:
                self._machine.world.note(f"a task kills its launcher on {self._machine.name}")
                self.leave("The job's launcher on this node ended unexpectedly.")
            case Manner.KILLS_AGENT:
                machine = self._machine
                machine.world.note(f"a task kills the agent on {machine.name}")
                machine.timeline.after(0.0, lambda: machine.world.crash_agent(machine))
            case Manner.FAILS:
                self._end(attempt, Why.EXIT, 1, Outcome.EXIT_CODE)
            case _:
                self._end(attempt, Why.EXIT, 0, Outcome.OK)

    def _end(self, attempt: _Attempt, why: Why, code: int, outcome: Outcome) -> None:
        key = (attempt.start.index, attempt.start.attempt)
        if self._open.pop(key, None) is None:
            return
        for timer in attempt.timers:
            timer.cancel()
        self._machine.world.truth.on_end((self._job_id, *key), outcome)
        wall = self._loop.time() - attempt.since
        self._report(Ended(*key, why, code, wall_seconds=wall, stdout_bytes=attempt.written))
        self._start_waiting()

    def leave(self, reason: str) -> None:
        """It and all its tasks are gone; with a reason nobody had asked for that."""
        if self.is_gone:
            return
        self.is_gone = True
        for (index, number), attempt in self._open.items():
            for timer in attempt.timers:
                timer.cancel()
            self._machine.world.truth.on_end((self._job_id, index, number), Outcome.LOST)
        self._open.clear()
        if self._rested is not None and not self._rested.done():
            self._rested.set_result(False)
        if reason:
            self._loop.call_later(COMMAND_SECONDS, lambda: self._on_lost(reason))

    # Reports

    def _report(self, report: Report) -> None:
        self._reports.append(report)
        self._send_later()

    def _send_later(self) -> None:
        if not self._is_sending:
            self._is_sending = True
            self._loop.call_later(self._machine.random.uniform(0.0, NEWS_SECONDS), self._send)

    def _send(self) -> None:
        self._is_sending = False
        if self.is_gone or self._is_paused or not self._reports:
            return
        reports, self._reports = self._reports, []
        self._on_reports(reports)


class SimZygote:
    def __init__(self, machine: AgentMachine) -> None:
        self._machine = machine

    async def open(self, spec: LauncherSpec, on_reports: OnReports, on_lost: OnLost) -> SimLauncher:
        await asyncio.sleep(0.01)
        if self._machine.cannot_launch:
            raise Unreachable("The launcher did not stand in time; this machine may be out of memory.")
        launcher = SimLauncher(self._machine)
        launcher.listen(on_reports, on_lost)
        return launcher
