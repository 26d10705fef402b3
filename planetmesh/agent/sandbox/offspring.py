"""All processes below one launcher, and which attempt each belongs to.

The launcher is the subreaper of its tasks: what a task orphans becomes the launcher's own child. So after
an attempt's end one look at the launcher's children tells whether anything was left behind (Linux).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection, Mapping

assert sys.platform != "win32"  # for the type checker: another way stands there or none

from planetmesh.agent.sandbox import environment, tree
from planetmesh.agent.sandbox.attempt import Attempt
from planetmesh.agent.sandbox.tree import Process

CHILDREN_MOST_BYTES = 1024 * 1024
KIB = 1024


class Offspring:
    """Made before confinement: it keeps one file of /proc open."""

    def __init__(self, job_folder: str) -> None:
        self.is_scoped = False
        """Set once confined: signals from here reach this job's processes only."""
        self.workers: Collection[int] = ()
        """Process ids of warm workers: of the launcher, whatever they do at the moment."""
        self._job_folder = job_folder
        self._me = os.getpid()
        try:
            self._children = os.open(f"/proc/self/task/{self._me}/children", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            # A kernel without CONFIG_PROC_CHILDREN.
            self._children = -1

    def strays(self, running: Mapping[int, Attempt]) -> list[int]:
        """Children of the launcher that are not a task's first process: somebody's orphans."""
        return [pid for pid in self._direct() if pid not in running and pid not in self.workers]

    def is_left(
        self, attempt: Attempt, strays: list[int], running: Mapping[int, Attempt], others: Collection[Attempt]
    ) -> bool:
        """Whether one of the strays lives and is this attempt's, or nobody's who still runs.

        One that has ended since the strays were listed has left its children to the launcher: only when no
        new ones are there has everybody been seen.
        """
        seen: set[int] = set()
        for _ in range(tree.STOP_ROUNDS):
            fresh = [pid for pid in strays if pid not in seen]
            if not fresh:
                return False
            for pid in fresh:
                process = tree.look_at(pid)
                if process is None or process.state in "ZX":
                    continue
                if self._is_his(attempt, process, others):
                    return True
            seen.update(fresh)
            strays = self.strays(running)
        return True

    def members(
        self,
        attempt: Attempt,
        running: Mapping[int, Attempt],
        others: Collection[Attempt],
        processes: dict[int, Process],
    ) -> list[int]:
        """All processes of one attempt in a snapshot."""
        roots = [] if attempt.exit_status is not None else [attempt.pid]
        roots += [
            pid
            for pid in tree.children_of(self._me, processes)
            if pid not in running
            and pid not in self.workers
            and self._is_his(attempt, processes[pid], others)
        ]
        return tree.below(roots, processes)

    def kill(self, attempt: Attempt, running: Mapping[int, Attempt], others: Collection[Attempt]) -> None:
        """SIGKILL all of one attempt that can be seen now; the caller comes again."""
        tree.kill_once(lambda processes: self.members(attempt, running, others, processes))

    def ask_to_end(self, attempt: Attempt) -> None:
        """SIGTERM to the attempt's process group, and SIGCONT so that a stopped one hears it."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            try:
                os.killpg(attempt.pid, number)
            except (ProcessLookupError, PermissionError):
                return

    def kill_job(self) -> bool:
        """SIGKILL all processes of the job in one call, which no fork can outrun; False where it cannot.

        The kernel keeps the signal inside the launcher's Landlock domain; elsewhere -1 means everybody.
        """
        if not self.is_scoped:
            return False
        tree.send(-1, signal.SIGKILL)
        return True

    def kill_all(self) -> None:
        """Leave nothing alive below this process."""
        self.kill_job()
        tree.kill_until_none(tree.descendants_of(self._me), reap_all)

    def rss_bytes(self, high_water: int) -> int:
        return high_water if sys.platform == "darwin" else high_water * KIB

    def _direct(self) -> list[int]:
        if self._children < 0:
            return tree.children_of(self._me, tree.snapshot())
        return [int(pid) for pid in os.pread(self._children, CHILDREN_MOST_BYTES, 0).split()]

    def _is_his(self, attempt: Attempt, process: Process, others: Collection[Attempt]) -> bool:
        """By session, then by the marker that it inherited. What hides both belongs to who ends first.

        A process in the middle of an exec has no marker to be read, for as long as the kernel takes.
        """
        if process.session == attempt.pid:
            return True
        if any(process.session == other.pid for other in others):
            return False
        mark = tree.marker_of(process.pid)
        if mark == self._mark(attempt):
            return True
        if any(mark == self._mark(other) for other in others):
            return False
        return attempt.exit_status is not None or attempt.said is not None

    def _mark(self, attempt: Attempt) -> str:
        return environment.marker(self._job_folder, *attempt.key)


def reap_all() -> None:
    """Collect every child that has ended."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
