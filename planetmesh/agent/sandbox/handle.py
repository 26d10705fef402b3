"""The agent's side: start the zygote, open launchers, hear their reports in the event loop.

`Zygote.start()` runs before the agent has a thread or a loop; everything else runs inside the loop.
"""

from __future__ import annotations

import array
import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

import msgspec

from planetmesh.agent.sandbox.frames import RECEIVE_BYTES, FrameReader, FrameWriter
from planetmesh.agent.sandbox.messages import (
    Adopt,
    Close,
    Command,
    Kill,
    LauncherSpec,
    Limits,
    Ready,
    Recall,
    Refused,
    Report,
    Rest,
    Rested,
    Slots,
    Start,
)
from planetmesh.errors import Conflict, NotAllowed, PeerMisbehaved, Unreachable

assert sys.platform != "win32"  # tells the type checker; windows.py stands in its place

OPEN_TIMEOUT_SECONDS = 10.0
"""A launcher stands after some ten milliseconds; a machine that swaps may take seconds."""
CLOSE_TIMEOUT_SECONDS = 7.0
"""The zygote's own budget is 5 s and a bit."""
REST_TIMEOUT_SECONDS = 1.0
"""A launcher answers at once; one that does not is closed instead."""
FRAME_MOST_BYTES = 16 * 1024 * 1024
"""Of reports; a launcher sends at most about 1 MiB."""
BUFFER_BYTES = 1024 * 1024
"""Asked of the kernel for a launcher's socket, so that a batch goes in one send."""

OnReports = Callable[[list[Report]], None]
OnLost = Callable[[str], None]


def _zygote_entry() -> Callable[[int], NoReturn]:
    if sys.platform == "linux":
        from planetmesh.agent.sandbox.zygote import zygote_main

        return zygote_main
    raise Conflict("Tasks can be started on Linux only so far.", hint="Run the agent on Linux.")


def _own_program() -> list[str]:
    frozen = bool(getattr(sys, "frozen", False))
    return [sys.executable, "_zygote"] if frozen else [sys.executable, "-m", "planetmesh", "_zygote"]


class LauncherHandle:
    """One job's launcher. Made by Zygote.open."""

    def __init__(self, peer: socket.socket, on_reports: OnReports, on_lost: OnLost) -> None:
        self._peer = peer
        self._on_reports = on_reports
        self._on_lost = on_lost
        self._reader = FrameReader(FRAME_MOST_BYTES)
        self._writer = FrameWriter(peer)
        self._decode = msgspec.msgpack.Decoder(list[Report]).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[Ready] = self._loop.create_future()
        self._rested: asyncio.Future[bool] | None = None
        self._gone = asyncio.Event()
        self._is_closing = False
        self._is_writing = False
        self.ready: Ready | None = None
        self._loop.add_reader(peer.fileno(), self._receive)

    @property
    def is_gone(self) -> bool:
        return self._gone.is_set()

    def start(self, batch: Sequence[Start]) -> None:
        """Hand over attempts; what exceeds the slots waits in the launcher."""
        self._command(batch)

    def kill(self, index: int, attempt: int, grace_seconds: float = 2.0) -> None:
        self._command([Kill(index, attempt, grace_seconds)])

    def set_slots(self, count: int) -> None:
        self._command([Slots(count)])

    def recall(self, count: int) -> None:
        """Ask for starts that still wait; `Recalled` says which came back."""
        self._command([Recall(count)])

    def pause(self) -> None:
        """Hear no more for now; the launcher notices and stops reading what its tasks write."""
        if not self._gone.is_set():
            self._loop.remove_reader(self._peer.fileno())

    def resume(self) -> None:
        if not self._gone.is_set():
            self._loop.add_reader(self._peer.fileno(), self._receive)

    def listen(self, on_reports: OnReports, on_lost: OnLost) -> None:
        """Hear its reports with these from now on."""
        self._on_reports, self._on_lost = on_reports, on_lost

    def adopt(self, job_id: str, env: dict[str, str], limits: Limits, slots: int) -> None:
        """Have an idle launcher serve another job."""
        self._command([Adopt(job_id, env, limits, slots)])

    async def rest(self) -> bool:
        """Say that the job is over; True if the launcher is as good as new, else it has left."""
        if self._gone.is_set():
            return False
        self._is_closing = True
        self._rested = self._loop.create_future()
        self._command([Rest()])
        try:
            async with asyncio.timeout(REST_TIMEOUT_SECONDS):
                is_clean = await self._rested
        except TimeoutError:
            is_clean = False
        if not is_clean:
            await self.close()
        else:
            self._is_closing = False
        return is_clean

    async def close(self) -> None:
        """Kill what runs and wait until the launcher has left. `on_lost` is not called."""
        self._is_closing = True
        self._command([Close()])
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                    await self._gone.wait()
        finally:
            # However the wait ended: in a task that is being cancelled, Python 3.11.2 raises CancelledError
            # instead of TimeoutError.
            if not self._gone.is_set():
                self._kill()
                self.abandon("")

    async def opened(self, spec: LauncherSpec) -> Ready:
        """Send the specification and wait for the answer. Raise NotAllowed or Unreachable."""
        self._send(self._encode(spec))
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
                self.ready = await asyncio.shield(self._opened)
        except TimeoutError:
            raise Unreachable(
                "The launcher did not stand in time; this machine may be out of memory."
            ) from None
        finally:
            if self.ready is None:
                self.abandon("")
        return self.ready

    def abandon(self, reason: str) -> None:
        """Let go of the socket: the launcher sees that, kills its tasks and leaves."""
        if self._gone.is_set():
            return
        self._gone.set()
        self._loop.remove_reader(self._peer.fileno())
        self._loop.remove_writer(self._peer.fileno())
        self._peer.close()
        if not self._opened.done():
            self._opened.set_exception(Unreachable(reason or "The launcher ended before it stood."))
            # Whoever waits gets it; if nobody does any more it is no news.
            self._opened.exception()
        elif not self._is_closing and reason:
            self._on_lost(reason)
        if self._rested is not None and not self._rested.done():
            self._rested.set_result(False)

    def _kill(self) -> None:
        """For a launcher that does not listen: it has not hung up, so the number is still its own."""
        if self.ready is not None and not self._gone.is_set():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.ready.pid, signal.SIGKILL)

    def _command(self, batch: Sequence[Command]) -> None:
        if batch and not self._gone.is_set():
            self._send(self._encode(batch))

    def _send(self, payload: bytes) -> None:
        try:
            self._writer.put(payload)
        except OSError:
            # The reader sees the end, after the last reports.
            return
        if self._writer.held_bytes and not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self._peer.fileno(), self._send_more)

    def _send_more(self) -> None:
        try:
            self._writer.flush()
        except OSError:
            self._loop.remove_writer(self._peer.fileno())
            return
        if not self._writer.held_bytes:
            self._is_writing = False
            self._loop.remove_writer(self._peer.fileno())

    def _receive(self) -> None:
        try:
            data = self._peer.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.abandon("The job's launcher on this node ended unexpectedly.")
            return
        try:
            for payload in self._reader.feed(data):
                self._deliver(self._decode(payload))
        except (PeerMisbehaved, msgspec.DecodeError):
            self._kill()
            self.abandon("The job's launcher on this node sent nonsense and was cut off.")

    def _deliver(self, reports: list[Report]) -> None:
        if self._opened.done():
            if self._rested is not None and not self._rested.done() and isinstance(reports[-1], Rested):
                self._rested.set_result(True)
                reports = reports[:-1]
            if reports:
                self._on_reports(reports)
            return
        match reports[0] if reports else None:
            case Ready() as ready:
                self._opened.set_result(ready)
            case Refused(message):
                self._opened.set_exception(NotAllowed(message))
            case _:
                raise PeerMisbehaved("A launcher spoke before it was ready.")


class Zygote:
    """Made once, before the agent's loop; opens launchers for as long as the agent lives."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self._control = control

    @classmethod
    def start(cls, command: Sequence[str] | None = None) -> Zygote:
        """Fork the zygote; call before any thread or event loop exists in this process.

        With `command` it is that program started again (`planetmesh _zygote`), with the number of its
        descriptor as last argument.
        """
        zygote_main = _zygote_entry()
        if command is None and "uvloop" in sys.modules:
            # In every child forked from a process that has used libuv, it closes and reopens descriptors
            # by their old numbers: those of a zygote would be its launchers' sockets.
            command = _own_program()
        ours, theirs = socket.socketpair()
        if command is not None:
            number = str(theirs.fileno())
            process = subprocess.Popen(
                [*command, number], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )
            process.returncode = 0
            theirs.close()
            return cls(process.pid, ours)
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            zygote_main(theirs.detach())
        theirs.close()
        return cls(pid, ours)

    async def open(self, spec: LauncherSpec, on_reports: OnReports, on_lost: OnLost) -> LauncherHandle:
        """Open a launcher for one job and wait until it stands confined.

        Raise NotAllowed if it cannot be confined as promised, Unreachable if it does not come up.
        """
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        ours.setblocking(False)
        with theirs:
            try:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
                self._control.sendmsg([b"L"], rights)
            except OSError as error:
                ours.close()
                raise Conflict(
                    "The process that starts tasks on this node has ended.", hint="Restart this agent."
                ) from error
        handle = LauncherHandle(ours, on_reports, on_lost)
        await handle.opened(spec)
        return handle

    def close(self) -> None:
        """Let go: the zygote kills all launchers and tasks and leaves; wait for it, bounded by its budget."""
        self._control.close()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            return

    def kill(self) -> None:
        """End the zygote at once (its launchers end by themselves). For a close that hangs."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
