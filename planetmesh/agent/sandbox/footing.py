"""What a task could have done to its launcher without a word, so that it is seen before the next job.

A process may set the limits, the rank and the processors of another one of its user; it may change the job
folder's mode, and leave things there and in shared memory. Looked at by launcher.py; Linux.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import NamedTuple

assert sys.platform == "linux"  # tells the type checker; nobody imports this elsewhere

from planetmesh.agent.sandbox.views import SHARED_MEMORY

_LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))


class _Facts(NamedTuple):
    limits: tuple[tuple[int, int], ...]
    nice: int
    policy: int
    processors: frozenset[int]
    folder_mode: int


class Footing:
    """Made once the launcher is confined and before anybody writes into its folder."""

    def __init__(self, folder: str, *, has_own_memory: bool) -> None:
        self._folder = folder
        self._cleared = (folder, SHARED_MEMORY) if has_own_memory else (folder,)
        """Others' things in the system's shared memory say nothing about our tasks."""
        self._before = self._look()

    def is_unchanged(self) -> bool:
        """All stands as it did before the first task, and nothing lies around."""
        try:
            return self._look() == self._before and not any(map(os.listdir, self._cleared))
        except OSError:
            # A task took the launcher's rights on the folder.
            return False

    def _look(self) -> _Facts:
        return _Facts(
            tuple(resource.getrlimit(which) for which in _LIMITS),
            os.getpriority(os.PRIO_PROCESS, 0),
            os.sched_getscheduler(0),
            frozenset(os.sched_getaffinity(0)),
            os.lstat(self._folder).st_mode,
        )
