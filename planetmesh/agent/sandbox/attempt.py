"""One running attempt inside a launcher: its process, its pipes, what it has written.

Belongs to launcher.py. Reads pipes and counts; decides nothing about when to stop an attempt.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from typing import NamedTuple

assert sys.platform != "win32"  # for the type checker: another way stands there or none

from planetmesh.agent.sandbox.messages import Ended, Output, Report, Start, Why

READ_BYTES = 65_536
"""The size of a pipe."""
READS_A_TURN = 8
"""From one pipe before the others have their turn."""
LISTEN_AFTER_SECONDS = 0.004
"""Pipes of a younger attempt are not polled yet: most short tasks end first and are read once, at the end.
Those of a call rest so long after each read, so that many small values come in one piece."""
DRAIN_READS = 64
"""After the end: 4 MiB, more than a pipe can hold unless a stray goes on writing."""


class Attempt:
    """Made by `start_attempt`; not reused."""

    __slots__ = (
        "exit_status",
        "folder",
        "give_up_at",
        "has_bad_inputs",
        "kill_at",
        "killing",
        "last_output",
        "listen_at",
        "message",
        "most_bytes",
        "over",
        "pid",
        "pipes",
        "polled",
        "rusage",
        "said",
        "start",
        "started",
        "why",
        "written",
    )

    def __init__(self, start: Start, pid: int, pipes: list[int], folder: str, most_bytes: int) -> None:
        self.start = start
        self.pid = pid
        self.pipes = pipes
        """Read ends of stdout and stderr, and of a call's values; -1 once closed."""
        self.folder = folder
        self.most_bytes = most_bytes
        self.started = self.last_output = time.monotonic()
        self.listen_at = self.started + LISTEN_AFTER_SECONDS
        """When its pipes are to be polled."""
        self.written = [0] * len(pipes)
        self.why: Why | None = None
        """Set when the launcher decided to stop it."""
        self.message = ""
        self.killing = False
        """SIGKILL has been sent to the tree at least once."""
        self.kill_at = self.give_up_at = 0.0
        self.polled = False
        """Its pipes are in the launcher's selector."""
        self.exit_status: int | None = None
        """Set once its process was reaped; strays of it may still live."""
        self.over = False
        """Its end has been reported."""
        self.rusage = (0.0, 0)
        self.said: tuple[int, str] | None = None
        """Exit code and sentence of a call, from its worker or about it."""
        self.has_bad_inputs = False
        """Its worker says so."""

    @property
    def key(self) -> tuple[int, int]:
        return (self.start.index, self.start.attempt)

    def read(self, which: int, reports: list[Report], reads: int = READS_A_TURN) -> int:
        """Read what pipe `which` holds; return the bytes reported. Closes it at its end."""
        fd = self.pipes[which]
        kept = 0
        for _ in range(reads):
            try:
                data = os.read(fd, READ_BYTES)
            except BlockingIOError:
                break
            if not data:
                self.close(which)
                break
            kept += self._take(which, data, reports)
            if len(data) < READ_BYTES:
                break
        return kept

    def drain(self, reports: list[Report]) -> int:
        """Read what is left in its pipes and close them."""
        kept = 0
        for which in range(len(self.pipes)):
            if self.pipes[which] >= 0:
                kept += self._drain(which, reports)
        return kept

    def close(self, which: int) -> None:
        fd = self.pipes[which]
        if fd >= 0:
            self.pipes[which] = -1
            os.close(fd)

    def ended(self, folder: str) -> Ended:
        """The report of its end; call after the process was reaped."""
        code, number, why = _tell(self.exit_status or 0)
        message = self.message
        if self.said is not None:
            code, number, why = self.said[0], 0, Why.INPUTS if self.has_bad_inputs else Why.EXIT
            message = message or self.said[1]
        elif self.start.call and why is Why.EXIT:
            # It did not come back from its call: whatever it says of itself, there is no result.
            message = message or f"The call ended its worker with exit code {code}."
            code = code or 1
        elif self.start.call:
            message = message or f"The worker of the call was ended by signal {number}."
        cpu_seconds, rss = self.rusage
        index, attempt = self.key
        return Ended(
            index,
            attempt,
            self.why or why,
            code,
            number,
            message,
            time.monotonic() - self.started,
            cpu_seconds,
            rss,
            self.written[0],
            self.written[1],
            folder,
        )

    def _drain(self, which: int, reports: list[Report]) -> int:
        kept = 0
        for _ in range(DRAIN_READS):
            before = self.written[which]
            kept += self.read(which, reports, 1)
            if self.pipes[which] < 0 or self.written[which] == before:
                break
        self.close(which)
        return kept

    def _take(self, which: int, data: bytes, reports: list[Report]) -> int:
        offset = self.written[which]
        self.written[which] = offset + len(data)
        self.last_output = time.monotonic()
        if offset >= self.most_bytes:
            return 0
        kept = data[: self.most_bytes - offset]
        reports.append(Output(self.start.index, self.start.attempt, which + 1, offset, kept))
        return len(kept)


class Ground(NamedTuple):
    """What all attempts of a launcher are started with."""

    null: int
    """Their stdin."""
    nice: int
    output_most_bytes: int
    memory_bytes: int = 0
    """What each may use, 0: as much as there is. Calls are told; somebody else watches."""


def start_attempt(start: Start, folder: str, env: dict[str, str], ground: Ground) -> Attempt:
    """Start the program by vfork: no preexec_fn, no user, no group. Raise OSError or ValueError."""
    if not start.argv:
        raise ValueError("it names no program")
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    try:
        process = subprocess.Popen(
            start.argv,
            stdin=ground.null,
            stdout=out_write,
            stderr=err_write,
            cwd=folder,
            env=env,
            start_new_session=True,
        )
    except BaseException:
        os.close(out_read)
        os.close(err_read)
        raise
    finally:
        os.close(out_write)
        os.close(err_write)
    # The launcher reaps by itself; without this Popen's finaliser would wait for the process too.
    process.returncode = 0
    # Not before: the launcher must keep its own rank to get the processor from a task that forks wildly.
    # Its group, for by now it may have started others.
    os.setpriority(os.PRIO_PGRP, process.pid, ground.nice)
    os.set_blocking(out_read, False)
    os.set_blocking(err_read, False)
    return Attempt(start, process.pid, [out_read, err_read], folder, ground.output_most_bytes)


def not_started(start: Start, error: OSError | ValueError, path: str) -> Ended:
    """The end of an attempt whose program could not be started, in words."""
    program = start.argv[0] if start.argv else ""
    index, attempt = start.index, start.attempt
    if start.call:
        said = error.strerror if isinstance(error, OSError) else str(error)
        return Ended(index, attempt, Why.CANNOT_START, 126, message=f"The call cannot be started: {said}.")
    if isinstance(error, ValueError):
        return Ended(
            index, attempt, Why.CANNOT_START, 126, message=f"{program!r} cannot be started: {error}."
        )
    if error.errno == errno.ENOENT and error.filename == program:
        where = "" if "/" in program else f" in {path}"
        text = f"The program {program!r} was not found on this node{where}, or its interpreter was not."
        return Ended(index, attempt, Why.NOT_FOUND, 127, message=text)
    if error.errno in {errno.EACCES, errno.ENOEXEC, errno.EISDIR, errno.EPERM}:
        text = f"The program {program!r} cannot be executed on this node: {error.strerror}."
        return Ended(index, attempt, Why.NOT_EXECUTABLE, 126, message=text)
    named = f" ({error.filename})" if error.filename and error.filename != program else ""
    text = f"{program!r} cannot be started: {error.strerror}{named}."
    return Ended(index, attempt, Why.CANNOT_START, 126, message=text)


def _tell(status: int) -> tuple[int, int, Why]:
    """A wait status as (exit code, signal, why)."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return 128 + number, number, Why.SIGNAL
    return os.WEXITSTATUS(status), 0, Why.EXIT
