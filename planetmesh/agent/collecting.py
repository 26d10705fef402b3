"""Finds what an attempt made and its job asked for, in a folder that its task cannot reach any more.

What lies there was put there by a foreign program, so nothing is believed: no link is followed, nothing
but ordinary files with one name is opened, and a file that changes while it is read is refused (SECURITY.md
T26, T27, T29). Blocks on the disk: call it in a thread.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

from planetmesh.agent.staging import Stamp, Stopped
from planetmesh.agent.task_folders import give_rights
from planetmesh.errors import BadInput
from planetmesh.logs import clean
from planetmesh.model.blob import Digest, Manifest, ManifestFile
from planetmesh.model.names import PARTS_MOST, safe_parts
from planetmesh.model.patterns import ANY_DEPTH, matches
from planetmesh.model.resources import show_size
from planetmesh.wire.manifest import FILES_MOST, check_names

ENTRIES_MOST = 1_000_000
"""Looked at in one task's folder, wanted or not."""
PIECE_BYTES = 1024 * 1024
NAMED_MOST = 5
"""Of what the folder has instead."""
NAME_MOST_LETTERS = 60

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_FILE = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class OutputRefused(Exception):
    """What the attempt made cannot be taken, or is not there; the text says which file and why."""


class Found(msgspec.Struct, frozen=True):
    """One file that is wanted, as it lay there when it was looked at."""

    name: str
    size: int
    is_program: bool
    identity: tuple[int, ...]
    digest: Digest = Digest("")
    """Empty until it was read."""


class Collected(msgspec.Struct, frozen=True):
    """All that an attempt made, read once."""

    folder: Path
    files: tuple[Found, ...]
    folders: tuple[str, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def manifest(self) -> Manifest:
        files = [ManifestFile(file.name, file.digest, file.size, file.is_program) for file in self.files]
        return Manifest(tuple(files), self.folders)


def collect(
    folder: Path,
    patterns: Sequence[str],
    staged: Mapping[str, Stamp],
    most_bytes: int,
    stop: threading.Event,
    *,
    needs_all: bool = True,
) -> Collected:
    """Find and read everything that the patterns ask for; at least one file for each of them (`needs_all`).

    Staged files that nobody has changed are no outputs, unless a pattern names one exactly. Raises
    OutputRefused, Stopped, or OSError.
    """
    search = _Search(folder, patterns, staged, stop)
    search.run()
    _check_all(search, most_bytes)
    with Reader(folder) as reader:
        read = [_read(reader, file, stop) for file in search.files]
    kept = [file for file in read if file.name in search.exact or not _is_as_staged(file, staged)]
    if needs_all:
        _check_patterns(patterns, [file.name for file in kept], search.seen, staged)
    return Collected(folder, tuple(kept), tuple(search.folders))


class Reader:
    """Opens files that were found, part by part, so that no part can be a link. For one thread."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        self._root = os.open(folder, _FOLDER)
        self._near: tuple[str, int] = ("", self._root)
        """The folder that was used last: the next file is mostly its neighbour."""

    def open(self, file: Found) -> int:
        """A descriptor; raises OutputRefused if it is not what was found any more."""
        above, _, last = file.name.rpartition("/")
        try:
            descriptor = _open_at(last, _FILE, self._folder(above))
        except OSError as error:
            raise unreadable(file.name, error) from error
        if _identity(os.fstat(descriptor)) != file.identity:
            os.close(descriptor)
            raise changed(file.name)
        return descriptor

    def _folder(self, above: str) -> int:
        name, near = self._near
        if above == name:
            return near
        self._leave()
        for part in above.split("/") if above else ():
            below = _open_at(part, _FOLDER, self._near[1])
            self._leave()
            self._near = (above, below)
        return self._near[1]

    def _leave(self) -> None:
        near, self._near = self._near[1], ("", self._root)
        if near != self._root:
            os.close(near)

    def close(self) -> None:
        self._leave()
        os.close(self._root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class _Search:
    """One walk through a folder, by descriptors: nothing is looked up by a path that could have changed."""

    def __init__(
        self, folder: Path, patterns: Sequence[str], staged: Mapping[str, Stamp], stop: threading.Event
    ) -> None:
        self._folder = folder
        self._patterns = patterns
        self._staged = staged
        self._stop = stop
        self.exact = {_plain(pattern) for pattern in patterns}
        self.files: list[Found] = []
        self.folders: list[str] = []
        self.seen: list[str] = []
        """A few names of what lies there, for people."""
        self._entries = 0

    def run(self) -> None:
        root = os.open(self._folder, _FOLDER)
        try:
            self._walk(root, "", 1)
        finally:
            os.close(root)
        self.files.sort(key=lambda file: file.name)
        self.folders.sort()

    def _walk(self, descriptor: int, above: str, depth: int) -> None:
        with os.scandir(descriptor) as entries:
            names = sorted(entry.name for entry in self._counted(entries))
        if not names and above and self._is_wanted(above):
            self.folders.append(above)
        for name in names:
            if self._stop.is_set():
                raise Stopped
            path = above + "/" + name if above else name
            try:
                self._look_at(descriptor, path, name, depth)
            except OSError as error:
                raise unreadable(path, error) from error

    def _counted(self, entries: Iterator[os.DirEntry[str]]) -> Iterator[os.DirEntry[str]]:
        for entry in entries:
            self._entries += 1
            if self._entries > ENTRIES_MOST:
                raise OutputRefused(f"its folder holds more than {ENTRIES_MOST} files")
            yield entry

    def _look_at(self, parent: int, path: str, name: str, depth: int) -> None:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            self._enter(parent, path, name, depth)
            return
        if len(self.seen) < NAMED_MOST:
            self.seen.append(path)
        if not self._is_wanted(path):
            return
        stamp = self._staged.get(path)
        is_untouched = stamp is not None and stamp.fits(status)
        if is_untouched and path not in self.exact:
            return
        kind = _kind(status.st_mode)
        if kind:
            raise refused(path, f"it is {kind}")
        if status.st_nlink != 1 and not is_untouched:
            raise refused(path, "it has more than one name (a hard link)")
        digest = stamp.digest if stamp is not None and is_untouched else Digest("")
        _check_name(path)
        if not status.st_mode & stat.S_IRUSR:
            # Its task took the rights away. The folder is ours now.
            give_rights(name, parent)
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        is_program = bool(status.st_mode & stat.S_IXUSR)
        self.files.append(Found(path, status.st_size, is_program, _identity(status), digest))
        if len(self.files) > FILES_MOST:
            raise OutputRefused(f"it made more than {FILES_MOST} files that its job asks for")

    def _enter(self, parent: int, path: str, name: str, depth: int) -> None:
        if depth >= PARTS_MOST:
            # No name so deep may be taken, so it matters only if somebody asked for it.
            if self._is_wanted(path):
                raise refused(path, "it lies in too many folders")
            return
        descriptor = _open_at(name, _FOLDER, parent)
        try:
            self._walk(descriptor, path, depth + 1)
        finally:
            os.close(descriptor)

    def _is_wanted(self, path: str) -> bool:
        return any(matches(pattern, path) for pattern in self._patterns)


def _check_all(search: _Search, most_bytes: int) -> None:
    """Raise OutputRefused before a byte was read of what would be refused anyway."""
    size = sum(file.size for file in search.files)
    if size > most_bytes:
        largest = max(search.files, key=lambda file: file.size)
        raise OutputRefused(
            f"the files that it made are {show_size(size)} together, {shown(largest.name)} alone "
            f"{show_size(largest.size)}; at most {show_size(most_bytes)} are taken "
            "('output_files_most_bytes')"
        )
    try:
        check_names([file.name for file in search.files], search.folders)
    except BadInput as error:
        raise OutputRefused(error.message[0].lower() + error.message[1:].rstrip(".")) from error


def _check_name(path: str) -> None:
    try:
        safe_parts(path)
    except BadInput as error:
        raise OutputRefused(error.message[0].lower() + error.message[1:].rstrip(".")) from error


def _check_patterns(
    patterns: Sequence[str], names: list[str], seen: list[str], staged: Mapping[str, Stamp]
) -> None:
    for pattern in patterns:
        if not any(matches(pattern, name) for name in names):
            there = ", ".join(map(shown, seen)) if seen else "nothing"
            deeper = f"{ANY_DEPTH}/{pattern}"
            # An input in a folder lies in that folder here too, and what is made beside it is easily missed.
            below = any(matches(deeper, name) for name in seen if name not in staged)
            hint = f" ({shown(deeper)} would match)" if below else ""
            raise OutputRefused(
                f"it made no file that matches {shown(pattern)}{hint}; its folder holds {there}"
            )


def _is_as_staged(file: Found, staged: Mapping[str, Stamp]) -> bool:
    """Touched or written anew, but with the same content."""
    stamp = staged.get(file.name)
    return stamp is not None and stamp.digest == file.digest


def _read(reader: Reader, file: Found, stop: threading.Event) -> Found:
    """The file with its digest."""
    if file.digest:
        return file
    descriptor = reader.open(file)
    try:
        digest = _hash(descriptor, file, stop)
        if _identity(os.fstat(descriptor)) != file.identity:
            raise changed(file.name)
    finally:
        os.close(descriptor)
    return msgspec.structs.replace(file, digest=digest)


def _hash(descriptor: int, file: Found, stop: threading.Event) -> Digest:
    state = hashlib.sha256()
    left = file.size
    # One byte more than there should be: a file that grows shows itself.
    while piece := os.read(descriptor, min(left + 1, PIECE_BYTES)):
        left -= len(piece)
        if left < 0:
            raise changed(file.name)
        state.update(piece)
        if stop.is_set():
            raise Stopped
    if left:
        raise changed(file.name)
    return Digest(state.hexdigest())


def _open_at(name: str, flags: int, parent: int) -> int:
    """Rights that its task took away are given back once: the folder is ours now."""
    try:
        return os.open(name, flags, dir_fd=parent)
    except PermissionError:
        if sys.platform == "win32":
            raise
        give_rights(name, parent)
        return os.open(name, flags, dir_fd=parent)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """What stays the same as long as nobody touches the file; nobody can set the change time."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return ""
    kinds = {
        stat.S_IFLNK: "a link",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a device",
        stat.S_IFCHR: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no ordinary file")


def _plain(pattern: str) -> str:
    """The name that a pattern without wildcards stands for."""
    return "/".join(part for part in pattern.split("/") if part not in {"", "."})


def changed(name: str) -> OutputRefused:
    return refused(name, "it changed while it was read")


def unreadable(name: str, error: OSError) -> OutputRefused:
    return refused(name, f"it cannot be read ({error.strerror})")


def refused(name: str, reason: str) -> OutputRefused:
    return OutputRefused(f"the file {shown(name)} cannot be taken: {reason}")


def shown(name: str) -> str:
    """A name from a task, harmless and short."""
    return repr(clean(name, NAME_MOST_LETTERS))
