"""A warm worker: takes one task at a time from its launcher, makes the call, says how it ended.

Forked from the launcher (agent/sandbox/workers.py), which has closed all descriptors but the socket. Before
each task this process is put back as it was: folder, environment, umask, signals, streams; if that
cannot be done, or something of the task goes on, the launcher is told and ends this process.
"""

from __future__ import annotations

import array
import ctypes
import importlib
import io
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from planetmesh.child import own_environment
from planetmesh.child.call import Call
from planetmesh.wire.worker import (
    HEADER_BYTES,
    MESSAGE_MOST_LETTERS,
    PIPES,
    CallBlob,
    WorkerEnd,
    WorkerTask,
)

assert sys.platform != "win32"  # for the type checker: there are no forks

UMASK = 0o077
DESCRIPTORS_MOST = 512
"""A worker in which calls have left more open is not used again."""
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
KIB = 1024
_SIGNALS = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))
_LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))


def serve(fd: int) -> NoReturn:
    """Serve the launcher on this socket until it hangs up; then leave at once."""
    _Worker(socket.socket(fileno=fd)).run()
    os._exit(0)


class _Worker:
    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._me = os.getpid()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._flush_native: Callable[[None], int] = ctypes.CDLL(None).fflush
        self._functions: dict[str, Callable[[Call], None]] = {}
        own_environment.wipe()
        os.umask(UMASK)
        sys.argv = ["planetmesh"]
        # A task's folder is where its modules may lie; last, so that none of them stands in for ours.
        sys.path = [path for path in sys.path if path] + [""]
        self._ground = self._look()
        self._path = list(sys.path)
        self._make_streams()

    def run(self) -> None:
        while (received := self._receive()) is not None:
            task, fds = received
            payload = msgspec.msgpack.encode(self._do(task, fds))
            self._peer.sendall(len(payload).to_bytes(HEADER_BYTES, "big") + payload)

    # The launcher

    def _receive(self) -> tuple[WorkerTask, list[int]] | None:
        """The next task and its pipes; None when the launcher has hung up."""
        size = array.array("i").itemsize * PIPES
        mark, ancillary, _, _ = self._peer.recvmsg(1, socket.CMSG_SPACE(size))
        if not mark:
            return None
        fds = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[:size])
        head = self._read(HEADER_BYTES)
        payload = self._read(int.from_bytes(head, "big")) if head else b""
        if not payload or len(fds) != PIPES:
            return None
        return msgspec.msgpack.decode(payload, type=WorkerTask), list(fds)

    def _read(self, size: int) -> bytes:
        held = bytearray()
        while len(held) < size:
            data = self._peer.recv(min(size - len(held), 1024 * 1024))
            if not data:
                return b""
            held += data
        return bytes(held)

    # A task

    def _do(self, task: WorkerTask, fds: list[int]) -> WorkerEnd:
        out, err, values = fds
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.close(out)
        os.close(err)
        before = _cpu_seconds()
        exit_code, message, has_bad_inputs = self._make_call(task, values)
        if os.getpid() != self._me:
            # A child that the call has forked came back from it. It is not the worker.
            os._exit(exit_code)
        is_clean = self._put_back()
        with suppress(OSError):
            os.close(values)
        return WorkerEnd(
            task.index,
            task.attempt,
            exit_code,
            _short(message),
            is_clean,
            max(0.0, _cpu_seconds() - before),
            _rss_bytes(),
            _most_rss_bytes(),
            has_bad_inputs,
        )

    def _make_call(self, task: WorkerTask, values: int) -> tuple[int, str, bool]:
        """Exit code, sentence, and whether it is the inputs' fault alone."""
        blob = msgspec.msgpack.decode(task.call, type=CallBlob)
        try:
            os.chdir(task.folder)
            own_environment.set_to(task.env)
            tempfile = sys.modules.get("tempfile")
            if tempfile is not None:
                # It remembers where the last task's were.
                tempfile.tempdir = None  # type: ignore[attr-defined]
            function = self._functions.get(blob.function) or self._find(blob.function)
        except (OSError, ImportError, AttributeError) as error:
            return 1, f"The call cannot be made on this node: {error}.", False
        call = Call(blob.payload, blob.items, blob.index, task.folder, values, task.values_most_bytes)
        call.memory_bytes = task.memory_bytes
        try:
            function(call)
        except BaseException as error:
            # Whatever it is, also an exit: it ends this task and not the worker.
            import traceback

            with suppress(Exception):
                traceback.print_exc()
            return 1, f"{type(error).__name__}: {_text(error)}", False
        return *call.end(), call.has_bad_inputs

    def _find(self, name: str) -> Callable[[Call], None]:
        module, _, attribute = name.partition(":")
        function: Callable[[Call], None] = getattr(importlib.import_module(module), attribute)
        self._functions[name] = function
        return function

    # Putting back

    def _put_back(self) -> bool:
        """As before the task; False if that was not possible."""
        self._close_streams()
        os.chdir("/")
        os.umask(UMASK)
        sys.path[:] = self._path
        signal.setitimer(signal.ITIMER_REAL, 0)
        is_same = self._look() == self._ground
        return is_same and threading.active_count() == 1 and _has_no_children() and self._has_few_open()

    def _close_streams(self) -> None:
        """What was written goes to the task's pipes; then they are let go, whatever the task did to them."""
        for stream in {sys.stdout, sys.stderr, *self._streams}:
            with suppress(Exception):
                stream.flush()
        self._flush_native(None)
        for standard in range(3):
            os.dup2(self._null, standard)
        if any(stream.closed for stream in self._streams):
            self._make_streams()
        sys.stdin, sys.stdout, sys.stderr = self._streams
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = self._streams  # type: ignore[misc]

    def _make_streams(self) -> None:
        self._streams = (_stream(0, "r"), _stream(1, "w"), _stream(2, "w"))
        sys.stdin, sys.stdout, sys.stderr = self._streams

    def _has_few_open(self) -> bool:
        lowest = os.dup(self._null)
        os.close(lowest)
        return lowest < DESCRIPTORS_MOST

    def _look(self) -> tuple[Any, ...]:
        """What a task could have changed for the next one."""
        return (
            [signal.getsignal(number) for number in _SIGNALS],
            signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            [resource.getrlimit(which) for which in _LIMITS],
            os.getpriority(os.PRIO_PROCESS, 0),
            os.getsid(0),
        )


def _stream(fd: int, mode: str) -> io.TextIOWrapper:
    raw = io.FileIO(fd, mode, closefd=False)
    buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    return io.TextIOWrapper(buffer, "utf-8", "backslashreplace", line_buffering=True)


def _has_no_children() -> bool:
    """No child of the task is left; ended ones are reaped."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if pid == 0:
            return False


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _rss_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0


def _most_rss_bytes() -> int:
    """Of this process, or of the largest child that it has had."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(each.ru_maxrss for each in used) * KIB


def _text(error: BaseException) -> str:
    """What an exception says; its class is the task's, and so is what that does."""
    try:
        return str(error)
    except Exception:
        return "(it cannot be shown)"


def _short(message: str) -> str:
    return message.encode("utf-8", "replace").decode()[:MESSAGE_MOST_LETTERS]
