"""What makes files stay after a power cut: one by one, or many at once."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

MANY = 16
"""From so many files on, one flush of their whole file system is quicker than each for itself."""


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last."""
    if sys.platform == "win32":
        return  # a folder cannot be opened there; NTFS keeps names in its journal
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(folder: Path, paths: Sequence[Path]) -> None:
    """Make what was written into these files last; all of them lie below `folder`."""
    if len(paths) < MANY or not _sync_file_system(folder):
        for path in paths:
            _sync_file(path)


def sync_folders(root: Path, folders: Iterable[Path]) -> None:
    """Make the names in these folders last; all of them lie below `root`."""
    each = list(folders)
    if len(each) < MANY or not _sync_file_system(root):
        for folder in each:
            sync_folder(folder)


def _sync_file(path: Path) -> None:
    # Windows flushes only what may be written.
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_file_system(folder: Path) -> bool:
    """Whether this system can flush one file system, and has."""
    if sys.platform != "linux":
        return False
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Python has no name for it. Since Linux 5.8 it says when a write failed.
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(descriptor)
    return True
