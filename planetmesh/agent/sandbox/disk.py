"""Keeps a task from filling the disk: below a reserve, the task whose folder holds most of it is stopped.

Best effort, a look every half second: files that a task has deleted but keeps open, or hides in a folder
that it took its own rights from, are not seen. Called by watch.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

assert sys.platform != "win32"  # for the type checker: another way stands there or none

from planetmesh.agent.sandbox.attempt import Attempt
from planetmesh.agent.sandbox.messages import MIB, Why

RESERVE_MOST_BYTES = 1024 * MIB
RESERVE_SHARE = 0.05
"""Of a small disk; of its files' numbers too."""
ENTRIES_MOST = 200_000
"""Looked at in one folder: more than that is reason enough."""
BLOCK_BYTES = 512
"""What st_blocks counts, whatever the file system."""


def find_filler(job_folder: str, attempts: Iterable[Attempt]) -> Iterator[tuple[Attempt, Why, str]]:
    """The attempt to stop if the disk is almost full and stopping it would help."""
    disk = os.statvfs(job_folder)
    reserve = min(RESERVE_MOST_BYTES, int(disk.f_blocks * disk.f_frsize * RESERVE_SHARE))
    files_kept = int(disk.f_files * RESERVE_SHARE)
    free = disk.f_bavail * disk.f_frsize
    is_crowded = disk.f_files > 0 and disk.f_favail < files_kept
    if free >= reserve and not is_crowded:
        return
    running = list(attempts)
    used = [_use_of(attempt.folder) for attempt in running]
    which = max(range(len(running)), key=lambda place: used[place][is_crowded])
    if _is_much(used[which], reserve, files_kept):
        yield running[which], Why.DISK, _in_words(used[which], free)
        return
    together = _use_of(job_folder)
    if _is_much(together, reserve, files_kept):
        # Beside their own folders: whose it is cannot be told.
        for attempt in running:
            yield attempt, Why.DISK, _in_words(together, free)


def _is_much(used: tuple[int, int], reserve_bytes: int, reserve_files: int) -> bool:
    """Taking it away would help; else somebody outside this job fills the disk."""
    size, files = used
    return size * 2 >= reserve_bytes or (reserve_files > 0 and files * 2 >= reserve_files)


def _in_words(used: tuple[int, int], free: int) -> str:
    size, files = used
    return f"It filled the disk: {size / MIB:.0f} MiB in {files} files; {free / MIB:.0f} MiB are left there."


def _use_of(folder: str) -> tuple[int, int]:
    """Bytes on the disk and number of files below a folder."""
    size = files = 0
    waiting = [folder]
    while waiting and files < ENTRIES_MOST:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            # Gone while we looked, or closed to us.
            continue
    return size, files
