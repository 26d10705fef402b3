"""Work that may kill its process, done in a child: a piece that does so fails alone, the others are done.

One forked child does all pieces. When it dies of one, or runs out of memory, a fresh child begins with that
piece; if that dies too the piece is given up and the next child goes on behind it. So what this costs is a
fork for each task and not for each piece. On Linux a child's memory is bounded, so that it fails before its
task does; elsewhere only the task's own limit stands.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec

assert sys.platform != "win32"  # for the type checker: there are no forks

MIB = 1024 * 1024
TASK_SHARE = 0.9
"""Of a task's memory that a child and this process together may use."""
LEAST_BYTES = 32 * MIB
"""For a child: a task with less than that left will be stopped, and says why itself."""
HEADER_BYTES = 4
FRAME_MOST_BYTES = 512 * MIB
READ_BYTES = 1024 * 1024
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
NO_MEMORY = 77
"""Exit status of a child that ran out of memory."""

_encode = msgspec.msgpack.Encoder().encode


class Died(NamedTuple):
    """Instead of a result."""

    sentence: str
    is_passing: bool
    """This machine had no memory for it; another may."""


def one_by_one(count: int, work: Callable[[int], Any], memory_bytes: int = 0) -> Iterator[Any | Died]:
    """What `work` gives for 0, 1, …, as plain data, or Died; each once, in order.

    `memory_bytes`: what a child may use beyond what this process has; 0: without a bound. Raises RuntimeError
    for any exception of `work` but MemoryError, and OSError if there can be no child.
    """
    number = 0
    while number < count:
        first, child = number, _Child(work, number, count, memory_bytes)
        try:
            for result in child.results():
                yield result
                number += 1
        finally:
            status = child.end()
        if number == first < count:
            yield Died(_why(status, memory_bytes), status == NO_MEMORY and not memory_bytes)
            number += 1


def allowance(task_bytes: int, usual_bytes: int) -> int:
    """What a child may use: what is left of the task's limit, else `usual_bytes`; 0: it cannot be bound."""
    if sys.platform != "linux":
        return 0
    if task_bytes:
        return max(LEAST_BYTES, int(task_bytes * TASK_SHARE) - _statm(1))
    return min(usual_bytes, os.sysconf("SC_PHYS_PAGES") * PAGE_BYTES)


class _Child:
    """One process and the pipe that it tells its results through."""

    def __init__(self, work: Callable[[int], Any], first: int, count: int, memory_bytes: int) -> None:
        # What waits in a buffer would be written by both.
        sys.stdout.flush()
        sys.stderr.flush()
        self._fd, write = os.pipe()
        self._is_sane = False
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self._fd)
            os.close(write)
            raise
        if self._pid == 0:
            os.close(self._fd)
            _serve(write, work, range(first, count), memory_bytes)
        os.close(write)

    def results(self) -> Iterator[Any]:
        """Until it ends, whatever the reason."""
        while head := self._read(HEADER_BYTES):
            size = int.from_bytes(head, "big")
            body = self._read(size) if size <= FRAME_MOST_BYTES else b""
            try:
                error, content = msgspec.msgpack.decode(body, type=tuple[str, Any])
            except msgspec.MsgspecError:
                return
            if error:
                raise RuntimeError(error)
            yield content
        self._is_sane = True

    def end(self) -> int:
        """Reap it; how it ended, as `waitstatus_to_exitcode` says it. Unless it has ended it is killed."""
        os.close(self._fd)
        if not self._is_sane:
            os.kill(self._pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _read(self, size: int) -> bytes:
        """So much, or less at its end."""
        held = bytearray()
        while len(held) < size and (data := os.read(self._fd, min(size - len(held), READ_BYTES))):
            held += data
        return bytes(held)


def _serve(fd: int, work: Callable[[int], Any], numbers: range, memory_bytes: int) -> NoReturn:
    """In the child: never returns, so that nothing of what stands around the work is done twice."""
    status = 1
    try:
        if memory_bytes:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            most = _statm(5) + memory_bytes
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
        for number in numbers:
            _put(fd, "", work(number))
        status = 0
    except MemoryError:
        status = NO_MEMORY
    except BaseException as error:
        traceback.print_exc()
        _put(fd, f"{type(error).__name__}: {error}", None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _put(fd: int, error: str, content: Any) -> None:
    body = _encode((error, content))
    frame = memoryview(len(body).to_bytes(HEADER_BYTES, "big") + body)
    while frame:
        frame = frame[os.write(fd, frame) :]


def _why(status: int, memory_bytes: int) -> str:
    if status == NO_MEMORY:
        bound = f"the {memory_bytes // MIB} MiB that it may use" if memory_bytes else "there is"
        return f"It needs more memory than {bound}: give its task more."
    if status < 0:
        name = signal.strsignal(-status) or f"signal {-status}"
        if -status in set(signal.Signals):
            name = signal.Signals(-status).name
        memory = " It may have used too much memory." if status == -signal.SIGKILL else ""
        return f"It kills the process that works at it ({name}).{memory}"
    return f"It ends the process that works at it (exit code {status})."


def _statm(field: int) -> int:
    """Bytes that this process has resident (1) or of its own data and stacks (5); 0 if that is not told."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[field]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
