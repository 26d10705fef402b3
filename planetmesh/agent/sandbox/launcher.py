"""A launcher: starts, watches and ends the tasks of one job on this node. One thread, one loop.

Runs in a process of its own, forked by the zygote and confined before it reads a command (confine.py), so
all it starts is confined too. Talks frames of messages.py with the agent and nothing with anybody else.
When the agent's end of the socket closes it kills all it has started and leaves.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import assert_never

import msgspec

assert sys.platform != "win32"  # for the type checker: another way stands there or none

from planetmesh.agent.sandbox import environment
from planetmesh.agent.sandbox.attempt import (
    LISTEN_AFTER_SECONDS,
    READ_BYTES,
    Attempt,
    Ground,
    not_started,
    start_attempt,
)
from planetmesh.agent.sandbox.deadlines import Deadlines
from planetmesh.agent.sandbox.disk import find_filler
from planetmesh.agent.sandbox.frames import RECEIVE_BYTES, FrameReader, FrameWriter
from planetmesh.agent.sandbox.lent_folders import LentFolders
from planetmesh.agent.sandbox.messages import (
    Adopt,
    Close,
    Command,
    Ended,
    Kill,
    LauncherSpec,
    Recall,
    Recalled,
    Report,
    Rest,
    Rested,
    Slots,
    Start,
    Started,
    Why,
)
from planetmesh.agent.sandbox.offspring import Offspring
from planetmesh.agent.sandbox.wake import wake_on_children
from planetmesh.agent.sandbox.watch import WATCH_SECONDS, find_greedy
from planetmesh.agent.sandbox.workers import Worker, Workers

COALESCE_SECONDS = 0.002
"""Reports wait so long for company while more starts are waiting. Never when the launcher is idle."""
START_NEWS_SECONDS = 0.010
"""That something has started may wait so long for its end: most short tasks then cost one message."""
BATCH_MOST_BYTES = 512 * 1024
HELD_MOST_BYTES = 2 * 1024 * 1024
"""Unsent reports beyond this: the agent is behind, so pipes are not read and nothing new is started."""
KILL_AGAIN_SECONDS = 0.02
KILL_BUDGET_SECONDS = 5.0
GRACE_SECONDS = 2.0
"""Between SIGTERM and SIGKILL when a limit ends an attempt."""
LINGER_SECONDS = 0.25
"""What a task leaves behind when it ends may still flush (`> >(tee log)`); then it is killed."""

NICE_MOST = 19

_PIPE = 1
_CONTROL = 2
_WAKE = 3
_WORKER = 4


class Launcher:
    """The loop and its tables."""

    def __init__(
        self,
        spec: LauncherSpec,
        control: socket.socket,
        user_name: str,
        offspring: Offspring,
        is_unchanged: Callable[[], bool],
    ) -> None:
        """`is_unchanged`: no task has changed what this process stands on; see footing.py."""
        self._spec = spec
        self._limits = spec.limits
        self._control = control
        self._user_name = user_name
        self._env = environment.job_environment(spec, os.environ, user_name)
        self._slots = spec.slots
        self._offspring = offspring
        self._is_unchanged = is_unchanged
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        rank = min(os.getpriority(os.PRIO_PROCESS, 0) + spec.nice, NICE_MOST)
        self._ground = Ground(null, rank, spec.limits.output_most_bytes, spec.limits.memory_bytes)
        self._folders = LentFolders(spec.folder)
        self._waiting: deque[Start] = deque()
        self._running: dict[int, Attempt] = {}
        """By process id, until reaped."""
        self._open: dict[tuple[int, int], Attempt] = {}
        """All whose end is not reported yet: running and lingering."""
        self._fresh: deque[Attempt] = deque()
        self._deadlines = Deadlines()
        self._watch_at = time.monotonic() + WATCH_SECONDS
        self._reader = FrameReader()
        self._writer = FrameWriter(control)
        self._decode = msgspec.msgpack.Decoder(list[Command]).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._reports: list[Report] = []
        self._report_bytes = 0
        self._starts: dict[tuple[int, int], Started] = {}
        """Not told yet, oldest first; all of them are in `_open`."""
        self._send_by = 0.0
        self._choked = False
        self._leaving = False
        self._selector = selectors.DefaultSelector()
        self._wake = wake_on_children()
        signal.signal(signal.SIGTERM, self._on_terminate)
        self._selector.register(self._wake, selectors.EVENT_READ, (_WAKE, None, 0))
        self._selector.register(control, selectors.EVENT_READ, (_CONTROL, None, 0))
        self._workers = Workers(self._selector, _WORKER)
        offspring.workers = self._workers.pids

    def run(self) -> None:
        """Serve until told to close, signalled, or alone; then kill what is left."""
        try:
            while not self._leaving:
                self._turn()
        except (BrokenPipeError, ConnectionError):
            # The agent is gone; so is the reason for every task.
            pass
        finally:
            self._offspring.kill_all()
            self._folders.remove_free()

    def _turn(self) -> None:
        for key, mask in self._selector.select(self._patience()):
            kind, attempt, which = key.data
            if kind == _PIPE:
                self._read_pipe(attempt, which)
            elif kind == _WAKE:
                os.read(self._wake, 4096)
            elif kind == _WORKER:
                self._hear(attempt, mask)
            else:
                self._talk(mask)
        self._reap()
        now = time.monotonic()
        self._listen_to_fresh(now)
        self._deadlines.run_due(now)
        self._workers.trim_if_due(now, self._slots - len(self._open))
        if now >= self._watch_at:
            self._watch(now)
        self._start_waiting()
        self._send(now)

    def _patience(self) -> float | None:
        """How long there is nothing to do but wait for an event."""
        moments = [self._deadlines.next_at(), self._workers.trim_at]
        if self._fresh:
            moments.append(self._fresh[0].listen_at)
        if self._reports:
            moments.append(self._send_by)
        if self._running:
            moments.append(self._watch_at)
        if self._starts:
            moments.append(self._open[next(iter(self._starts))].started + START_NEWS_SECONDS)
        known = [moment for moment in moments if moment is not None]
        return max(0.0, min(known) - time.monotonic()) if known else None

    # Commands

    def _talk(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self._writer.flush()
            self._breathe()
        if mask & selectors.EVENT_READ:
            data = self._control.recv(RECEIVE_BYTES)
            if not data:
                self._leaving = True
                return
            for payload in self._reader.feed(data):
                for command in self._decode(payload):
                    self._obey(command)

    def _obey(self, command: Command) -> None:
        match command:
            case Start():
                self._waiting.append(command)
            case Kill():
                self._kill(command)
            case Slots(count):
                self._slots = count
                self._workers.trim_later()
            case Recall(count):
                back = [self._waiting.pop() for _ in range(min(count, len(self._waiting)))]
                self._report(Recalled([(start.index, start.attempt) for start in back]))
            case Close():
                self._leaving = True
            case Adopt():
                self._adopt(command)
            case Rest():
                self._rest()
            case _:
                assert_never(command)

    def _adopt(self, job: Adopt) -> None:
        """Take over another job; what confines this process stays as it is."""
        self._spec = msgspec.structs.replace(
            self._spec, job_id=job.job_id, env=job.env, limits=job.limits, slots=job.slots
        )
        self._limits, self._slots = job.limits, job.slots
        self._ground = self._ground._replace(
            output_most_bytes=job.limits.output_most_bytes, memory_bytes=job.limits.memory_bytes
        )
        self._env = environment.job_environment(self._spec, os.environ, self._user_name)

    def _rest(self) -> None:
        """Stay for another job only if this one has left no trace: no process, no file, no changed limit."""
        self._folders.remove_free()
        busy = self._waiting or self._open or self._running or not self._workers.end()
        if busy or self._offspring.strays(self._running) or not self._is_unchanged():
            self._leaving = True
            return
        self._report(Rested())
        self._flush()
        self._workers.get_ready(self._ground)

    def _kill(self, command: Kill) -> None:
        key = (command.index, command.attempt)
        for start in self._waiting:
            if (start.index, start.attempt) == key:
                self._waiting.remove(start)
                self._report(
                    Ended(*key, Why.KILLED, 128 + signal.SIGTERM, message="Killed before it started.")
                )
                return
        attempt = self._open.get(key)
        if attempt is not None:
            self._stop(attempt, Why.KILLED, "Killed on request.", command.grace_seconds)

    # Starting

    def _start_waiting(self) -> None:
        while self._waiting and len(self._open) < self._slots and not self._choked:
            self._start(self._waiting.popleft())

    def _start(self, start: Start) -> None:
        if (start.index, start.attempt) in self._open:
            return
        folder = start.folder
        try:
            folder = folder or self._folders.lend()
            env = environment.task_environment(self._env, start, folder)
            begin = self._workers.begin if start.call else start_attempt
            attempt = begin(start, folder, env, self._ground)
        except (OSError, ValueError) as error:
            self._report(not_started(start, error, self._env["PATH"]))
            if folder and not start.folder:
                self._folders.take_back(folder)
            return
        self._running[attempt.pid] = self._open[attempt.key] = attempt
        self._fresh.append(attempt)
        if self._limits.timeout_seconds:
            self._deadlines.add(attempt.started + self._limits.timeout_seconds, self._on_timeout, attempt)
        if self._limits.silence_seconds:
            self._deadlines.add(attempt.started + self._limits.silence_seconds, self._on_silence, attempt)
        self._starts[attempt.key] = Started(start.index, start.attempt, attempt.pid, time.time())

    # Output

    def _listen_to_fresh(self, now: float) -> None:
        fresh = self._fresh
        while fresh and (fresh[0].over or fresh[0].listen_at <= now):
            attempt = fresh.popleft()
            if not self._choked:
                self._listen(attempt)

    def _listen(self, attempt: Attempt) -> None:
        for which, fd in enumerate(attempt.pipes):
            if fd >= 0:
                self._selector.register(fd, selectors.EVENT_READ, (_PIPE, attempt, which))
        attempt.polled = True

    def _turn_away(self, attempt: Attempt) -> None:
        if attempt.polled:
            for fd in attempt.pipes:
                if fd >= 0:
                    self._selector.unregister(fd)
            attempt.polled = False

    def _read_pipe(self, attempt: Attempt, which: int) -> None:
        fd = attempt.pipes[which]
        if fd < 0 or self._choked or not attempt.polled:
            return
        self._tell_start(attempt)
        before = attempt.written[which]
        self._report_bytes += attempt.read(which, self._reports)
        if attempt.pipes[which] < 0:
            self._selector.unregister(fd)
        elif attempt.start.call and attempt.written[which] - before < READ_BYTES:
            self._turn_away(attempt)
            attempt.listen_at = time.monotonic() + LISTEN_AFTER_SECONDS
            self._fresh.append(attempt)
        if self._report_bytes > BATCH_MOST_BYTES:
            self._flush()

    # Ends

    def _reap(self) -> None:
        ended: list[Attempt] = []
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            attempt = self._running.pop(pid, None)
            cpu_before = self._workers.bury(pid)
            if attempt is not None and not attempt.over:
                attempt.exit_status = status
                if attempt.said is None:
                    cpu_seconds = max(0.0, usage.ru_utime + usage.ru_stime - cpu_before)
                    attempt.rusage = (cpu_seconds, self._offspring.rss_bytes(usage.ru_maxrss))
                ended.append(attempt)
        if not ended:
            return
        strays = self._offspring.strays(self._running)
        for attempt in ended:
            if self._offspring.is_left(attempt, strays, self._running, self._open.values()):
                self._linger(attempt)
            else:
                self._finish(attempt)

    def _hear(self, worker: Worker, mask: int) -> None:
        """A worker says that its call is over; if anything of that is left, it ends with the worker."""
        attempt = self._workers.hear(worker, mask)
        if attempt is None or attempt.over:
            return
        strays = self._offspring.strays(self._running)
        is_left = self._offspring.is_left(attempt, strays, self._running, self._open.values())
        if attempt.why is None and not is_left and self._workers.is_free(worker):
            del self._running[attempt.pid]
            self._finish(attempt)
            self._workers.rest(worker, self._limits.memory_bytes)
            return
        self._workers.retire(worker)
        attempt.give_up_at = attempt.give_up_at or time.monotonic() + KILL_BUDGET_SECONDS
        self._deadlines.add(time.monotonic() + LINGER_SECONDS, self._kill_tree, attempt)

    def _linger(self, attempt: Attempt) -> None:
        """Its process has ended but others of it live: a moment to flush, none if it was being killed."""
        wait = 0.0 if attempt.killing else LINGER_SECONDS
        self._deadlines.add(time.monotonic() + min(wait, KILL_AGAIN_SECONDS), self._check_lingering, attempt)
        attempt.kill_at = time.monotonic() + wait
        attempt.give_up_at = attempt.kill_at + KILL_BUDGET_SECONDS

    def _check_lingering(self, attempt: Attempt) -> None:
        now = time.monotonic()
        strays = self._offspring.strays(self._running)
        is_left = self._offspring.is_left(attempt, strays, self._running, self._open.values())
        if not is_left or now > attempt.give_up_at:
            self._finish(attempt)
            return
        if now >= attempt.kill_at:
            self._offspring.kill(attempt, self._running, self._open.values())
        self._deadlines.add(now + KILL_AGAIN_SECONDS, self._check_lingering, attempt)

    def _finish(self, attempt: Attempt) -> None:
        self._turn_away(attempt)
        self._tell_start(attempt)
        self._report_bytes += attempt.drain(self._reports)
        attempt.over = True
        del self._open[attempt.key]
        lent = not attempt.start.folder
        keep = attempt.start.keep or not lent
        if not keep:
            self._folders.take_back(attempt.folder)
        self._report(attempt.ended(attempt.folder if keep else ""))

    # Stopping

    def _on_timeout(self, attempt: Attempt) -> None:
        text = f"It ran for more than its limit of {self._limits.timeout_seconds:g} s."
        self._stop(attempt, Why.TIMEOUT, text, GRACE_SECONDS)

    def _on_silence(self, attempt: Attempt) -> None:
        limit = self._limits.silence_seconds
        # While the agent is behind, the pipe is not read: that silence is ours.
        heard = time.monotonic() if self._choked else attempt.last_output
        if heard + limit > time.monotonic():
            self._deadlines.add(heard + limit, self._on_silence, attempt)
            return
        self._stop(attempt, Why.SILENCE, f"It wrote nothing for {limit:g} s.", GRACE_SECONDS)

    def _stop(self, attempt: Attempt, why: Why, message: str, grace_seconds: float) -> None:
        if attempt.why is None:
            attempt.why, attempt.message = why, message
            attempt.give_up_at = time.monotonic() + grace_seconds + KILL_BUDGET_SECONDS
            if attempt.exit_status is None and grace_seconds > 0:
                self._offspring.ask_to_end(attempt)
        self._deadlines.add(time.monotonic() + grace_seconds, self._kill_tree, attempt)

    def _kill_tree(self, attempt: Attempt) -> None:
        attempt.killing = True
        attempt.kill_at = 0.0
        if attempt.exit_status is not None:
            # Reaped: _check_lingering goes on with what it left behind.
            return
        if time.monotonic() > attempt.give_up_at:
            # Stuck in the kernel (a dead disk, a driver): the slot is worth more than the wait.
            attempt.message += " It could not be killed."
            self._finish(attempt)
            return
        if attempt.why is Why.PROCESSES and self._offspring.kill_job():
            self._blame_others(attempt)
        else:
            self._offspring.kill(attempt, self._running, self._open.values())
        self._deadlines.add(time.monotonic() + KILL_AGAIN_SECONDS, self._kill_tree, attempt)

    def _blame_others(self, bomb: Attempt) -> None:
        """A tree that grows faster than it can be listed takes the job's other tasks here with it."""
        text = f"Killed together with task {bomb.start.index} of this job, which multiplied its processes."
        for attempt in self._open.values():
            if attempt.why is None:
                attempt.why, attempt.message, attempt.killing = Why.KILLED, text, True

    def _watch(self, now: float) -> None:
        self._watch_at = now + WATCH_SECONDS
        grown_up = [attempt for attempt in self._running.values() if attempt.started + WATCH_SECONDS <= now]
        if not grown_up:
            return
        for attempt, why, text in find_filler(self._spec.folder, grown_up):
            self._stop(attempt, why, text, 0.0)
        if not (self._limits.memory_bytes or self._limits.processes):
            return
        for attempt, why, text in find_greedy(self._offspring, self._running, self._open, self._limits):
            self._stop(attempt, why, text, 0.0)

    # Reports

    def _report(self, report: Report) -> None:
        if not self._reports:
            self._send_by = time.monotonic() + COALESCE_SECONDS
        self._reports.append(report)

    def _tell_start(self, attempt: Attempt) -> None:
        """Before anything else is told of it."""
        started = self._starts.pop(attempt.key, None)
        if started is not None:
            self._report(started)

    def _send(self, now: float) -> None:
        while self._starts:
            key = next(iter(self._starts))
            if self._open[key].started + START_NEWS_SECONDS > now:
                break
            self._report(self._starts.pop(key))
        if not self._reports:
            return
        if not self._waiting or now >= self._send_by or self._report_bytes > BATCH_MOST_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._reports:
            payload = self._encode(self._reports)
            self._reports.clear()
            self._report_bytes = 0
            self._writer.put(payload)
        self._breathe()

    def _breathe(self) -> None:
        """Stop reading pipes while the agent is behind, go on when it has caught up."""
        held = self._writer.held_bytes
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if held else 0)
        if self._selector.get_key(self._control).events != events:
            self._selector.modify(self._control, events, (_CONTROL, None, 0))
        if held > HELD_MOST_BYTES and not self._choked:
            self._choked = True
            for attempt in self._open.values():
                self._turn_away(attempt)
        elif self._choked and held < HELD_MOST_BYTES // 2:
            self._choked = False
            for attempt in self._open.values():
                attempt.last_output = time.monotonic()
                if not attempt.polled and attempt not in self._fresh:
                    self._listen(attempt)

    def _on_terminate(self, _number: int, _frame: object) -> None:
        """The zygote has ended (confine.die_with_parent)."""
        self._leaving = True
