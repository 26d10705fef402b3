"""Warm workers: processes forked from the launcher that make calls, one at a time each, of one job.

A worker is under the launcher's confinement and gets nothing of the launcher's but its own end of a
socket. It shares its process with the submitter's code, so what it says is bounded, typed and believed
about its own attempt only. One that is not as it was after a call is killed; docs/adr/0006 has the reasons.
"""

from __future__ import annotations

import array
import importlib
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from typing import NoReturn

import msgspec

assert sys.platform != "win32"  # for the type checker: another way stands there or none

from planetmesh.agent.sandbox import tree
from planetmesh.agent.sandbox.attempt import Attempt, Ground
from planetmesh.agent.sandbox.frames import FrameReader, FrameWriter
from planetmesh.agent.sandbox.messages import Start
from planetmesh.errors import PeerMisbehaved
from planetmesh.wire.worker import END_MOST_BYTES, PIPES, TASK_MARK, WorkerEnd, WorkerTask

WORKER = "planetmesh.child.worker"
"""By name, as if it were a program: a service imports no other."""
PRELOADED = (WORKER, "planetmesh.child.python_call")
MEMORY_SHARE = 0.75
"""Of the limit: a worker that holds more after a call would soon be stopped for what others used."""
NONSENSE = "The call spoke to the launcher in its worker's name."
END_SECONDS = 0.5
SPARE_SECONDS = 2.0
"""An idle worker that there is no room for any more is kept so long."""
END_LOOK_SECONDS = 0.0002

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(WorkerEnd).decode


def preload() -> None:
    """Load what every worker needs; what a zygote has loaded costs its launchers nothing."""
    for name in PRELOADED:
        # Where one cannot be loaded each call will say why; commands need none of this.
        with suppress(ImportError):
            importlib.import_module(name)


class Worker:
    """One process; `attempt` is what it works at."""

    __slots__ = ("attempt", "cpu_seconds", "is_clean", "peer", "pid", "reader", "rss_bytes", "writer")

    def __init__(self, pid: int, peer: socket.socket) -> None:
        self.pid = pid
        self.peer = peer
        self.reader = FrameReader(END_MOST_BYTES)
        self.writer = FrameWriter(peer)
        self.attempt: Attempt | None = None
        self.cpu_seconds = 0.0
        """Of the calls that it has ended."""
        self.is_clean = True
        self.rss_bytes = 0


class Workers:
    """Owned by one launcher. `pids` holds those that live or are not reaped yet."""

    def __init__(self, selector: selectors.BaseSelector, mark: int) -> None:
        """`mark`: first of what the selector gives back with a worker."""
        self.pids: set[int] = set()
        self._selector = selector
        self._mark = mark
        self._all: dict[int, Worker] = {}
        """By process id, until retired or reaped."""
        self._idle: list[Worker] = []
        self._retired: dict[int, Worker] = {}
        """Killed, to be reaped."""
        self._calls = 0
        """Since `end`."""
        self.trim_at: float | None = None

    def begin(self, start: Start, folder: str, env: dict[str, str], ground: Ground) -> Attempt:
        """Have a worker make this call. Raise OSError if there can be none."""
        most_bytes = ground.output_most_bytes
        task = WorkerTask(
            start.index, start.attempt, folder, env, most_bytes, start.call, ground.memory_bytes
        )
        reads: list[int] = []
        writes: list[int] = []
        try:
            for _ in range(PIPES):
                read, write = os.pipe()
                os.set_blocking(read, False)
                reads.append(read)
                writes.append(write)
            worker = self._hand_over(_encode(task), writes, ground)
        except BaseException:
            for fd in reads:
                os.close(fd)
            raise
        finally:
            for fd in writes:
                os.close(fd)
        self._calls += 1
        attempt = Attempt(start, worker.pid, reads, folder, ground.output_most_bytes)
        worker.attempt = attempt
        return attempt

    def hear(self, worker: Worker, mask: int) -> Attempt | None:
        """Read its socket; give the attempt that is over now, by its word or for its misbehaviour."""
        if self._all.get(worker.pid) is not worker:
            return None
        if mask & selectors.EVENT_WRITE:
            try:
                worker.writer.flush()
            except OSError:
                return self._cut_off(worker)
            if not worker.writer.held_bytes:
                self._poll(worker, selectors.EVENT_READ)
        if not mask & selectors.EVENT_READ:
            return None
        return self._listen(worker)

    def is_free(self, worker: Worker) -> bool:
        """It may have another call."""
        return worker.is_clean and worker.pid in self._all and not worker.writer.held_bytes

    def rest(self, worker: Worker, memory_bytes: int) -> None:
        """Its call is over and told; keep it for the next."""
        worker.attempt = None
        if memory_bytes and worker.rss_bytes > memory_bytes * MEMORY_SHARE:
            self.retire(worker)
        else:
            self._idle.append(worker)

    def retire(self, worker: Worker) -> None:
        """Kill it; what it works at ends when it is reaped."""
        if self._all.get(worker.pid) is worker:
            self._let_go(worker)
            self._retired[worker.pid] = worker
            tree.send(worker.pid, signal.SIGKILL)

    def _let_go(self, worker: Worker) -> None:
        del self._all[worker.pid]
        if worker in self._idle:
            self._idle.remove(worker)
        self._selector.unregister(worker.peer)
        worker.peer.close()

    def trim_later(self) -> None:
        """There is less room: let idle ones go in a while, for often it comes back with the next task.

        What a worker has loaded may be half a second of work.
        """
        self.trim_at = time.monotonic() + SPARE_SECONDS

    def trim_if_due(self, now: float, count: int) -> None:
        """Keep so many idle ones at most, once it is time."""
        if self.trim_at is None or now < self.trim_at:
            return
        self.trim_at = None
        for worker in self._idle[: max(0, len(self._idle) - max(0, count))]:
            self.retire(worker)

    def bury(self, pid: int) -> float:
        """A child was reaped. If it was a worker, forget it; how much of its CPU time was told before."""
        worker = self._all.get(pid)
        if worker is not None:
            # Its last word may still be there: it was killed, or left, just after it.
            self._listen(worker)
            self._let_go(worker)
        else:
            worker = self._retired.pop(pid, None)
        self.pids.discard(pid)
        return worker.cpu_seconds if worker is not None else 0.0

    def end(self) -> bool:
        """End all and reap them; False if one does not go. For a launcher that has nothing in hand."""
        for worker in list(self._all.values()):
            self.retire(worker)
        latest = time.monotonic() + END_SECONDS
        for pid in list(self.pids):
            while not _is_reaped(pid):
                if time.monotonic() > latest:
                    return False
                time.sleep(END_LOOK_SECONDS)
            self.bury(pid)
        return True

    def get_ready(self, ground: Ground) -> None:
        """After `end`: if the last job made calls the next may too; a worker that is there saves some ms."""
        if self._calls:
            self._calls = 0
            # It can wait until somebody needs one, who is then told why there is none.
            with suppress(OSError):
                self._idle.append(self._fork(ground))

    def _hand_over(self, payload: bytes, fds: list[int], ground: Ground) -> Worker:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        while self._idle:
            worker = self._idle.pop()
            try:
                self._tell(worker, payload, rights)
            except OSError:
                # It died idle, or does not read.
                self.retire(worker)
                continue
            return worker
        worker = self._fork(ground)
        try:
            self._tell(worker, payload, rights)
        except OSError:
            self.retire(worker)
            raise
        return worker

    def _tell(self, worker: Worker, payload: bytes, rights: list[tuple[int, int, array.array[int]]]) -> None:
        worker.peer.sendmsg([TASK_MARK], rights)
        worker.writer.put(payload)
        if worker.writer.held_bytes:
            self._poll(worker, selectors.EVENT_READ | selectors.EVENT_WRITE)

    def _fork(self, ground: Ground) -> Worker:
        ours, theirs = socket.socketpair()
        launcher = os.getpid()
        try:
            # Threads of the launcher (lent_folders.py) stand in system calls only, so they hold no lock.
            pid = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            _be_worker(theirs.detach(), launcher, ground.nice)
        theirs.close()
        ours.setblocking(False)
        worker = Worker(pid, ours)
        self._all[pid] = worker
        self.pids.add(pid)
        self._selector.register(ours, selectors.EVENT_READ, (self._mark, worker, 0))
        return worker

    def _poll(self, worker: Worker, events: int) -> None:
        self._selector.modify(worker.peer, events, (self._mark, worker, 0))

    def _listen(self, worker: Worker) -> Attempt | None:
        try:
            data = worker.peer.recv(END_MOST_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            return self._cut_off(worker)
        try:
            ends = [_decode(payload) for payload in worker.reader.feed(data)]
        except (PeerMisbehaved, msgspec.DecodeError):
            return self._cut_off(worker, NONSENSE)
        if not ends:
            return None
        attempt, end = worker.attempt, ends[0]
        if attempt is None or len(ends) > 1 or (end.index, end.attempt) != attempt.key or attempt.said:
            return self._cut_off(worker, NONSENSE)
        attempt.said = (end.exit_code, end.message)
        attempt.has_bad_inputs = end.has_bad_inputs and end.exit_code != 0
        # Its own word: it decides about its own account only, and within what was possible.
        cpu_most = (time.monotonic() - attempt.started) * (os.cpu_count() or 1)
        attempt.rusage = (min(end.cpu_seconds, cpu_most), end.max_rss_bytes)
        worker.cpu_seconds += end.cpu_seconds
        worker.rss_bytes = end.rss_bytes
        worker.is_clean = end.is_clean
        return attempt

    def _cut_off(self, worker: Worker, why: str = "") -> Attempt | None:
        """It closed its socket (or has died; then its status will say more) or says what no worker says."""
        attempt = worker.attempt
        worker.is_clean = False
        if attempt is None:
            # Only whoever is still in it speaks while it is idle. If it has just died, this is no harm.
            self.retire(worker)
        elif why:
            attempt.said = (1, why)
        return attempt


def _is_reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _be_worker(fd: int, launcher: int, nice: int) -> NoReturn:
    """In the forked child: let go of all that is the launcher's, then serve until it hangs up."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        os.closerange(3, fd)
        os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))
        if sys.platform == "linux":
            from planetmesh.agent.sandbox import confine

            confine.die_with_parent(launcher, signal.SIGKILL)
            # Like a program that a task starts; what the launcher may not be looked at for is not here.
            confine.prctl(confine.PR_SET_DUMPABLE, 1)
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        importlib.import_module(WORKER).serve(fd)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(1)
