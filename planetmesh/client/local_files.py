"""Files of this machine that are to travel: looked at, read, and watched for changes meanwhile.

Blocks on the disk: call it in threads. What is refused is named as the user named it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import msgspec

from planetmesh.blobs.files import open_regular
from planetmesh.blobs.hashing import pieces
from planetmesh.errors import BadInput, MeshError, NotFound, TooLarge
from planetmesh.model.blob import Digest
from planetmesh.model.names import PARTS_MOST, made_portable
from planetmesh.wire.manifest import FILES_MOST

SMALL_BYTES = 64 * 1024
"""Up to here a file is read at once, and sent and fetched together with others."""


class Stamp(msgspec.Struct, frozen=True):
    """What is another once a file was written to or replaced."""

    device: int
    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class LocalFile(msgspec.Struct, frozen=True):
    """A file as it was when it was looked at."""

    shown: str
    """As its user called it."""
    path: str
    """Without links, absolute."""
    name: str
    """In the task's folder, or in the tree that it belongs to."""
    stamp: Stamp
    executable: bool = False

    @property
    def size(self) -> int:
        return self.stamp.size


class LocalTree(msgspec.Struct, frozen=True):
    """A folder with all that is in it."""

    shown: str
    name: str
    """Below the task's folder; empty: the task's folder itself."""
    files: tuple[LocalFile, ...]
    """Their names are relative to the tree."""
    folders: tuple[str, ...] = ()
    """Those with nothing in them."""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def look_at(path: Path, name: str, *, shown: str = "") -> LocalFile:
    """A file that its user named: links are followed. Raises NotFound, or BadInput for no ordinary file."""
    shown = shown or str(path)
    real = os.path.realpath(path)
    try:
        status = os.stat(real)  # noqa: PTH116  one call for each of 100 000 files: no Path for each
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {shown}.") from error
    except (OSError, ValueError) as error:
        raise unreadable(shown, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise BadInput(f"{shown} is a folder where a file is needed.")
    return _file(shown, real, name, status)


def _file(shown: str, real: str, name: str, status: os.stat_result) -> LocalFile:
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(
            f"{shown} is no ordinary file: it cannot be sent.", hint="Write what it gives into a file first."
        )
    return LocalFile(shown, real, name, Stamp.of(status), bool(status.st_mode & stat.S_IXUSR))


def unreadable(shown: str, error: Exception) -> BadInput:
    return BadInput(f"{shown} cannot be read: {getattr(error, 'strerror', None) or error}.")


def has_changed(file: LocalFile) -> BadInput:
    return BadInput(
        f"The file {file.shown} changed while it was read: nothing was submitted.",
        hint="Wait until it is complete, and try again.",
    )


# Folders


def look_into(path: Path, name: str, *, shown: str = "") -> LocalTree:
    """A folder that its user named, with all below it. Raises BadInput for what must not travel.

    A link below it is followed only to what lies in the same folder: one that leads out of it would send
    what its user never named.
    """
    walk = _Walk(shown or str(path), os.path.realpath(path))
    files, folders = walk.run()
    return LocalTree(walk.shown, name, tuple(files), tuple(folders))


class _Walk:
    def __init__(self, shown: str, root: str) -> None:
        self.shown = shown
        self._root = root
        self._count = 0

    def run(self) -> tuple[list[LocalFile], list[str]]:
        files: list[LocalFile] = []
        folders: list[str] = []
        for found in self._below(self._root, "", "", 0):
            if isinstance(found, str):
                folders.append(found)
            else:
                files.append(found)
        return files, folders

    def _below(self, folder: str, local: str, name: str, depth: int) -> Iterator[LocalFile | str]:
        """Files below it, and names of empty folders. `local`: its own name relative to the root."""
        if depth > PARTS_MOST:  # a circle of links has no end
            raise BadInput(f"{self._show(local)}: so many folders in each other cannot be sent.")
        entries = self._list(folder, local)
        if not entries and name:
            yield name
        for entry in entries:
            below = f"{local}{os.sep}{entry.name}" if local else entry.name
            staged = made_portable(entry.name)
            yield from self._entry(entry, below, f"{name}/{staged}" if name else staged, depth)

    def _list(self, folder: str, local: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise unreadable(self._show(local), error) from error
        self._count += len(entries)
        if self._count > FILES_MOST:
            raise TooLarge(f"The folder {self.shown} has more than {FILES_MOST} files.")
        return entries

    def _entry(self, entry: os.DirEntry[str], local: str, name: str, depth: int) -> Iterator[LocalFile | str]:
        shown = self._show(local)
        try:
            real = self._follow(entry, shown) if entry.is_symlink() else entry.path
            status = os.stat(real, follow_symlinks=False)  # noqa: PTH116  as above
        except OSError as error:
            raise unreadable(shown, error) from error
        if stat.S_ISDIR(status.st_mode):
            yield from self._below(real, local, name, depth + 1)
        else:
            yield _file(shown, real, name, status)

    def _follow(self, entry: os.DirEntry[str], shown: str) -> str:
        real = os.path.realpath(entry.path)
        if not _is_within(real, self._root):
            raise BadInput(
                f"The link {shown} leads out of the folder {self.shown}.",
                hint="Put what it leads to into the folder, or remove the link.",
            )
        if not os.path.lexists(real):
            raise BadInput(f"The link {shown} leads nowhere.", hint="Remove it, or make what it leads to.")
        if _is_within(os.path.realpath(os.path.dirname(entry.path)), real):  # noqa: PTH120
            raise BadInput(f"The link {shown} leads to a folder that it lies in itself.", hint="Remove it.")
        return real

    def _show(self, local: str) -> str:
        return os.path.join(self.shown, local) if local else self.shown  # noqa: PTH118  as the user wrote it


def _is_within(path: str, folder: str) -> bool:
    try:
        return os.path.commonpath([folder, path]) == folder
    except ValueError:  # two drives of Windows
        return False


# Reading


class Stopped(Exception):
    """Nobody waits for this any more."""


class Watched(msgspec.Struct):
    """Shared with a thread that reads a large file: how far it is, and whether it is to stop."""

    stopped: bool = False
    done_bytes: int = 0


def digest_of(file: LocalFile, watched: Watched) -> Digest:
    """Its name as a blob, in flat memory. Raises BadInput if it changes meanwhile."""
    state = sha256()
    descriptor = open_unchanged(file)
    try:
        for piece in _pieces(descriptor, file.size):
            if watched.stopped:
                raise Stopped
            state.update(piece)
            watched.done_bytes += len(piece)
        refuse_changed(file, descriptor)
    except OSError as error:
        raise unreadable(file.shown, error) from error
    finally:
        os.close(descriptor)
    return Digest(state.hexdigest())


def read_whole(file: LocalFile) -> bytes:
    """All of a small file; raises BadInput if it changed since it was looked at."""
    descriptor = open_unchanged(file)
    try:
        content = b"".join(_pieces(descriptor, file.size))
        refuse_changed(file, descriptor)
    except OSError as error:
        raise unreadable(file.shown, error) from error
    finally:
        os.close(descriptor)
    if len(content) != file.size:
        raise has_changed(file)
    return content


def _pieces(descriptor: int, size: int) -> Iterator[bytes | memoryview]:
    """A small file at once, without a large buffer for each of 100 000."""
    if size > SMALL_BYTES:
        yield from pieces(descriptor, size)
    else:
        while size and (data := os.read(descriptor, size)):
            yield data
            size -= len(data)


def open_unchanged(file: LocalFile) -> int:
    """A descriptor of it, if it is still the file that was looked at."""
    try:
        descriptor = open_regular(Path(file.path))
    except NotFound as error:
        raise NotFound(f"The file {file.shown} is gone: nothing was submitted.") from error
    except MeshError as error:
        raise BadInput(error.message.replace(file.path, file.shown)) from error
    try:
        refuse_changed(file, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def refuse_changed(file: LocalFile, descriptor: int) -> None:
    if Stamp.of(os.fstat(descriptor)) != file.stamp:
        raise has_changed(file)
