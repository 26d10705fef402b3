"""A file for what a command gives (`-o FILE`): there as a whole or not at all, and never over another one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from planetmesh.errors import BadInput, Conflict, MeshError

NAME_KEPT_LETTERS = 60
"""Of the file's name in its temporary one, which must stay below what file systems allow."""


@contextmanager
def new_file(path: Path, *, overwrite: bool) -> Iterator[IO[bytes]]:
    """Write into this; the file has its name once the block has ended well.

    Raises Conflict for a file that is there (unless `overwrite`), BadInput for a place where none can be,
    MeshError if the disk refuses.
    """
    target = Path(os.path.realpath(path))
    _refuse(path, target, overwrite=overwrite)
    temporary = target.with_name(f".{target.name[:NAME_KEPT_LETTERS]}.{os.getpid()}.part")
    try:
        with _open(path, temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            temporary.replace(target)
        else:
            _move_to_free(temporary, path, target)
    except OSError as error:
        raise MeshError(
            f"'{path}' could not be written: {error.strerror or error}.",
            hint="Make room there, or name another place with -o.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _refuse(path: Path, target: Path, *, overwrite: bool) -> None:
    if target.is_dir():
        raise BadInput(f"'{path}' is a folder.", hint="Name a file: -o FILE")
    if not target.parent.is_dir():
        raise BadInput(f"The folder of '{path}' does not exist.")
    if target.exists() and not target.is_file():
        raise BadInput(f"'{path}' is no ordinary file.", hint="Leave -o out: it goes to standard output.")
    if target.exists() and not overwrite:
        raise _is_there(path)


def _is_there(path: Path) -> Conflict:
    return Conflict(f"'{path}' exists already.", hint="--overwrite replaces it.")


def _open(path: Path, temporary: Path) -> IO[bytes]:
    try:
        return temporary.open("xb")
    except OSError as error:
        raise BadInput(f"'{path}' cannot be written: {error.strerror}.") from error


def _move_to_free(temporary: Path, path: Path, target: Path) -> None:
    """A link fails where somebody made such a file meanwhile; a move would go over it."""
    try:
        os.link(temporary, target)
    except FileExistsError as error:
        raise _is_there(path) from error
    except OSError:
        # Some file systems know no links.
        if target.exists():
            raise _is_there(path) from None
        temporary.replace(target)
