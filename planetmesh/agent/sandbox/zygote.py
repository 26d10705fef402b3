"""The zygote: a tiny process, forked by the agent before any thread, that forks a launcher per job.

It parses nothing: each byte on its socket comes with one descriptor, the launcher's end of a socket whose
other end the agent holds; the launcher reads its specification from there. The zygote reaps launchers,
kills what a dead launcher leaves behind, and kills everything when the agent's end closes.
"""

from __future__ import annotations

import array
import gc
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

assert sys.platform == "linux"  # tells the type checker; nobody imports this elsewhere

import msgspec

from planetmesh.agent.sandbox import confine, folders, landlock, tree, veil, workers
from planetmesh.agent.sandbox.footing import Footing
from planetmesh.agent.sandbox.frames import RECEIVE_BYTES, FrameReader
from planetmesh.agent.sandbox.launcher import Launcher
from planetmesh.agent.sandbox.messages import LauncherSpec, Ready, Refused, Report
from planetmesh.agent.sandbox.offspring import Offspring, reap_all
from planetmesh.agent.sandbox.wake import wake_on_children
from planetmesh.errors import MeshError

SPEC_TIMEOUT_SECONDS = 10.0
CLOSE_PATIENCE_SECONDS = 0.5
"""When the agent is gone launchers see it too and clear up; then the zygote does it for them."""
SWEEP_SECONDS = 0.05
"""Between two looks while orphans of a dead launcher are still alive."""


def zygote_main(control_fd: int) -> NoReturn:
    """Be the zygote on this descriptor until the agent is gone. Never returns."""
    _leave_after(lambda: _be_zygote(control_fd))


def _be_zygote(control_fd: int) -> None:
    signal.set_wakeup_fd(-1)
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGCHLD,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
    ):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    _close_all_but(control_fd)
    confine.adopt_orphans()
    confine.forbid_inspection()
    workers.preload()
    # It looks for the C library, with a program of its own: once, and not in each launcher.
    landlock.supported_abi()
    # What stands now is shared by all launchers; the collector would touch, and so copy, every page.
    gc.freeze()
    _Zygote(socket.socket(fileno=control_fd)).run()


def _close_all_but(kept: int) -> None:
    """Let go of the agent's descriptors; above all of its end of this very socket."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))


class _Zygote:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._me = os.getpid()
        self._launchers: set[int] = set()
        self._wake = wake_on_children()

    def run(self) -> None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        patience: float | None = None
        while True:
            for fd, _ in poll.poll(patience):
                if fd == self._wake:
                    os.read(self._wake, 4096)
                elif not self._open_launcher():
                    self._end()
                    return
            patience = self._tend()

    def _open_launcher(self) -> bool:
        """Fork a launcher on the descriptor that came; False when the agent is gone."""
        try:
            data, ancillary, _, _ = self._control.recvmsg(1, socket.CMSG_SPACE(array.array("i").itemsize))
        except ConnectionError:
            return False
        if not data:
            return False
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: fds.itemsize])
                self._fork(fds[0])
        return True

    def _fork(self, fd: int) -> None:
        parent = self._me
        try:
            pid = os.fork()
        except OSError as error:
            # The agent sees its end close; the machine has no processes or memory left.
            print(f"planetmesh zygote: cannot fork: {error}", file=sys.stderr)
            os.close(fd)
            return
        if pid == 0:
            _leave_after(lambda: _be_launcher(fd, parent))
        self._launchers.add(pid)
        os.close(fd)

    def _tend(self) -> float | None:
        """Reap; kill orphans, which only a dead launcher can leave here. Return the poll's patience in ms."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return None
            if pid == 0:
                break
            if os.WIFSTOPPED(status):
                # Only a task stops its launcher: no limit would bind it any more, and no cancel reach it.
                tree.send(pid, signal.SIGKILL)
                continue
            self._launchers.discard(pid)
        if not self._orphans(tree.snapshot()):
            return None
        tree.kill_once(self._orphans)
        return SWEEP_SECONDS * 1000

    def _orphans(self, processes: dict[int, tree.Process]) -> list[int]:
        roots = [pid for pid in tree.children_of(self._me, processes) if pid not in self._launchers]
        return tree.below(roots, processes)

    def _end(self) -> None:
        end = time.monotonic() + CLOSE_PATIENCE_SECONDS
        while self._launchers and time.monotonic() < end:
            self._tend()
            time.sleep(SWEEP_SECONDS / 5)
        tree.kill_until_none(tree.descendants_of(self._me), reap_all)


def _leave_after(do: Callable[[], None]) -> NoReturn:
    """Run in a forked child and leave without unwinding into the parent's code."""
    code = 1
    try:
        do()
        code = 0
    except ConnectionError:
        # The agent ended meanwhile, and with it the reason for all that is done here.
        pass
    except BaseException:
        # Nobody above catches it: this is the last place where it can be told.
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _be_launcher(fd: int, zygote: int) -> None:
    """Confine this process as its specification says, tell the agent, serve."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _close_all_but(fd)
    control = socket.socket(fileno=fd)
    control.settimeout(SPEC_TIMEOUT_SECONDS)
    spec = _receive_spec(control)
    user = folders.task_user()
    confine.adopt_orphans()
    offspring = Offspring(spec.folder)
    try:
        reached = confine.confine(spec, user)
    except (MeshError, OSError) as error:
        _tell(control, Refused(f"{error} {getattr(error, 'hint', '')}".strip()))
        return
    confine.die_with_parent(zygote)
    doors = veil.open_doors(os.geteuid())
    abi, is_scoped, is_veiled, has_own_memory = reached
    footing = Footing(spec.folder, has_own_memory=has_own_memory)
    _tell(control, Ready(os.getpid(), os.geteuid(), abi, is_scoped, is_veiled, tuple(doors)))
    offspring.is_scoped = is_scoped
    control.setblocking(False)
    name = user.name if user else _own_name()
    Launcher(spec, control, name, offspring, footing.is_unchanged).run()


def _receive_spec(control: socket.socket) -> LauncherSpec:
    reader = FrameReader()
    while True:
        data = control.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError("The agent left before it said what to launch.")
        for payload in reader.feed(data):
            return msgspec.msgpack.decode(payload, type=LauncherSpec)


def _tell(control: socket.socket, report: Report) -> None:
    payload = msgspec.msgpack.encode([report])
    control.sendall(len(payload).to_bytes(4, "big") + payload)


def _own_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
