"""Locks on an identity folder: several `planetmesh` commands of one user run at the same time.

FILES is held for milliseconds while the four files are read or changed together, RENEWAL by the one
process that asks the coordinator for the next certificate. The system lets go when a process dies.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from planetmesh.paths import open_private

FILES = ".files.lock"
RENEWAL = ".renewal.lock"

WAIT_SECONDS = 2.0
"""Many times what reading or writing the files takes."""
LOOK_SECONDS = 0.005


@contextmanager
def holding(folder: Path, name: str, *, wait_seconds: float = 0.0) -> Iterator[bool]:
    """Hold one lock of a folder, if it can be had in time; give whether it is held."""
    with open_private(folder / name) as file:
        until = time.monotonic() + wait_seconds
        held = _try(file.fileno())
        while not held and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
            held = _try(file.fileno())
        yield held


def _try(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
