"""Single files of a shelf: opened so that no link or pipe leads astray, written anew, translated errors."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from planetmesh.errors import BadInput, MeshError, NotFound, StorageFailed

_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_BINARY = getattr(os, "O_BINARY", 0)
_AT_ONCE = getattr(os, "O_NONBLOCK", 0)
READING = os.O_RDONLY | _NO_FOLLOW | _BINARY
_APPENDING = os.O_WRONLY | os.O_CREAT | _NO_FOLLOW | _BINARY
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _BINARY


@contextmanager
def translated(folder: Path, *, missing: MeshError | None = None) -> Iterator[None]:
    """Turn what the system refuses in a shelf's folder into StorageFailed, or into `missing` for a file."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT and missing is not None:
            raise missing from None
        if error.errno in _FULL:
            raise disk_full(folder) from error
        raise StorageFailed(
            f"Files in {folder} cannot be read or written: {error.strerror or error}.",
            hint="Look at the folder's owner and at its disk.",
        ) from error


def disk_full(folder: Path) -> StorageFailed:
    return StorageFailed(
        f"The disk of {folder} is full.", hint="Free some space there; what has arrived so far is kept."
    )


def open_regular(path: Path) -> int:
    """A descriptor of somebody else's file; raises NotFound, or BadInput for all but an ordinary file."""
    try:
        # Without a wait: a pipe would never let go.
        descriptor = os.open(path, READING | _AT_ONCE)
    except FileNotFoundError:
        raise NotFound(f"There is no file {path}.") from None
    except OSError as error:
        raise BadInput(f"The file {path} cannot be read: {error.strerror or error}.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadInput(f"{path} is no ordinary file.")
    return descriptor


def open_at(path: Path, offset: int) -> int:
    """A descriptor to write on by, from `offset` on; the file is made if it is not there."""
    descriptor = os.open(path, _APPENDING, 0o600)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return descriptor


@contextmanager
def new_file(path: Path, mode: int) -> Iterator[int]:
    """A descriptor of a new file with exactly this mode."""
    descriptor = os.open(path, _NEW, 0o600)
    try:
        yield descriptor
        if mode != 0o600:
            set_mode(path, mode)
    finally:
        os.close(descriptor)


def set_mode(path: Path, mode: int) -> None:
    if sys.platform != "win32":  # where a read-only file could never be removed again
        path.chmod(mode)


def written(descriptor: int, data: bytes | bytearray | memoryview) -> Iterator[memoryview]:
    """Write it all, and give back each part once it is written."""
    left = memoryview(data)
    while left:
        count = os.write(descriptor, left)
        yield left[:count]
        left = left[count:]
