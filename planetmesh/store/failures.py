"""What SQLite and the system say when they refuse, in words a person can act on.

The only place that reads SQLite's error codes; everything leaves the room as StorageFailed.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from planetmesh.errors import StorageFailed

BACKUP_MARK = ".backup-"
"""Copies of a database lie beside it: `mesh.db.backup-…`."""

_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_UNWRITABLE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")


def backup_copies(path: Path) -> list[Path]:
    """The copies beside a database, newest first."""
    copies = path.parent.glob(f"{path.name}{BACKUP_MARK}*")
    return sorted(copies, key=lambda copy: copy.stat().st_mtime, reverse=True)


def damaged(path: Path, detail: str) -> StorageFailed:
    """The error for a database that cannot be trusted, naming what can be put in its place."""
    copies = backup_copies(path)
    hint = (
        f"Stop planetmesh, move {path.name} and its -wal and -shm files away, "
        f"and copy the newest whole one back: {', '.join(copy.name for copy in copies)}."
        if copies
        else f"There is no copy beside it. Restore {path.name} from a backup of your own, "
        "or move it away to begin anew."
    )
    return StorageFailed(f"The database {path} is damaged: {detail}.", hint=hint)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the database at `path` into StorageFailed."""
    try:
        yield
    except sqlite3.Error as error:
        raise _from_sqlite(error, path) from error
    except OSError as error:
        raise _from_system(error, path) from error
    except (OverflowError, UnicodeError, msgspec.MsgspecError) as error:
        raise StorageFailed(f"A value does not fit the database {path}: {error}.") from error


def _from_sqlite(error: sqlite3.Error, path: Path) -> StorageFailed:
    name = getattr(error, "sqlite_errorname", "") or type(error).__name__
    if name.startswith("SQLITE_FULL"):
        return _disk_full(path)
    if name.startswith(_DAMAGED):
        return damaged(path, str(error))
    if name.startswith("SQLITE_IOERR"):
        return StorageFailed(
            f"The disk refused to read or write {path} ({name}).",
            hint="Look at the space left and at the system's log; nothing of this change was kept.",
        )
    if name.startswith(_UNWRITABLE):
        return StorageFailed(
            f"The database {path} cannot be written ({error}).", hint="Look at the file's owner and its disk."
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StorageFailed(
            f"Another program holds the database {path}.", hint="Close whatever else has it open."
        )
    return StorageFailed(f"The database {path} refused a statement ({name}: {error}).")


def _from_system(error: OSError, path: Path) -> StorageFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(path)
    return StorageFailed(
        f"The database {path} cannot be used: {error.strerror or error}.",
        hint="Look at the file's owner and its disk.",
    )


def _disk_full(path: Path) -> StorageFailed:
    return StorageFailed(
        f"The disk is full: {path} could not be written, and nothing of this change was kept.",
        hint="Free some space there; planetmesh goes on by itself.",
    )
