"""The user's folder that fetched files are laid into: never out of it, never over something else.

Names below it come from nodes and have been checked; what lies there may come from anybody, so each folder
on the way is opened by itself and no link is followed. A file arrives under another name beside its own, is
read again from the start if it goes on, and gets its name once it is whole, right, and on the disk.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import groupby
from pathlib import Path

from planetmesh.blobs.durable import sync_files
from planetmesh.blobs.hashing import hash_of
from planetmesh.client.wanted import Wanted
from planetmesh.errors import BadInput, Conflict, MeshError, PeerMisbehaved, StorageFailed, WrongDigest

SHOWN = 5
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_PART = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Target:
    """Blocks on the disk: call it in threads. Its errors name files as the user will see them."""

    def __init__(self, folder: Path, *, overwrite: bool) -> None:
        self.folder = folder
        self._overwrite = overwrite

    def shown(self, name: str) -> str:
        return str(self.folder / name)

    def prepare(self) -> None:
        """Make the folder if it is not there."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"The folder {self.folder} cannot be made: {error.strerror}.", hint="Name another: -o DIR"
            ) from error

    def present(self, files: Iterable[Wanted], *, so_far: str = "nothing was written") -> set[str]:
        """Names of those that lie there already with the same content.

        Raises Conflict where something else does, unless it may be replaced; `so_far` says what was written.
        """
        found: set[str] = set()
        other: list[str] = []
        for file in files:
            with self._translated(file.name), self._place(file.name, make=False) as place:
                if place is None or (status := place.status(file.leaf)) is None:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    raise Conflict(f"{self.shown(file.name)} is a folder, and a file is to be there.")
                if self._is_same(place, status, file):
                    found.add(file.name)
                elif not self._overwrite:
                    other.append(self.shown(file.name))
        if other:
            more = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
            verb = "exists" if len(other) == 1 else "exist"
            raise Conflict(
                f"{', '.join(other[:SHOWN])}{more} {verb} already with other content; {so_far}.",
                hint="--overwrite replaces them; -o DIR names another folder.",
            )
        return found

    def _is_same(self, place: Place, status: os.stat_result, file: Wanted) -> bool:
        if not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
            return False
        descriptor = place.open(file.leaf, _READ, 0)
        try:
            return hash_of(descriptor)[0].hexdigest() == file.digest
        finally:
            os.close(descriptor)

    def make_folders(self, names: Iterable[str]) -> None:
        for name in names:
            with self._translated(name), self._place(f"{name}/.", make=True):
                pass

    def begin(self, file: Wanted) -> Part:
        """Open its unfinished part, with what is there of it. Raises Conflict if somebody writes it now."""
        with self._translated(file.name):
            return Part(self, file)

    def finish(self, part: Part) -> None:
        """Give a whole file its name, on the disk when this returns; raises WrongDigest."""
        part.verify()
        with self._translated(part.file.name), self._place(part.file.name, make=True) as place:
            part.sync()
            self._name(_there(place), part.file)
        part.close()

    def lay(self, files: Sequence[tuple[Wanted, bytes]]) -> None:
        """Write many small files, verified already; on the disk when this returns, with one wait for all."""
        ordered = sorted(files, key=lambda each: each[0].name.rpartition("/")[0])
        for group in _by_folder(ordered):
            with self._translated(group[0][0].name), self._place(group[0][0].name, make=True) as place:
                for file, content in group:
                    _write_anew(_there(place), file, content)
        with self._translated(ordered[0][0].name):
            sync_files(self.folder, [self.folder / file.part_path for file, _content in ordered])
        for group in _by_folder(ordered):
            with self._translated(group[0][0].name), self._place(group[0][0].name, make=True) as place:
                for file, _content in group:
                    self._name(_there(place), file)

    def _name(self, place: Place, file: Wanted) -> None:
        if not self._overwrite:
            # A link fails where somebody made such a file meanwhile; a move would go over it.
            try:
                place.link(file.part, file.leaf)
            except FileExistsError as error:
                raise Conflict(
                    f"{self.shown(file.name)} exists already.", hint="--overwrite replaces it."
                ) from error
            except OSError:
                # Some file systems know no links.
                if place.status(file.leaf) is not None:
                    raise
            else:
                place.remove(file.part)
                return
        place.move(file.part, file.leaf)

    @contextmanager
    def _place(self, name: str, *, make: bool) -> Iterator[Place | None]:
        """The folder that the name stands in, opened; None if it is not there and is not to be made."""
        place = _open_place(self.folder, name.split("/")[:-1], make=make)
        try:
            yield place
        finally:
            if place is not None:
                place.close()

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except _NoFolder as error:
            raise Conflict(
                f"{self.folder / error.name} is {error.what}, where a folder of fetched files is to be.",
                hint="Remove it, or name another folder: -o DIR",
            ) from error
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFailed(
                    f"The disk of {self.folder} is full.",
                    hint="Make room there; the same command goes on with what has arrived.",
                ) from error
            raise StorageFailed(
                f"{self.shown(name)} cannot be written: {error.strerror or error}.",
                hint="Name another folder: -o DIR",
            ) from error


class _NoFolder(Exception):
    def __init__(self, name: str, what: str) -> None:
        super().__init__(name, what)
        self.name = name
        self.what = what


class Place:
    """An open folder; names in it have one part."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor
        """None on Windows, where no folder can be opened and links are for administrators."""

    def status(self, leaf: str) -> os.stat_result | None:
        try:
            return os.stat(self._at(leaf), dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def open(self, leaf: str, flags: int, mode: int) -> int:
        return os.open(self._at(leaf), flags, mode, dir_fd=self._descriptor)

    def move(self, old: str, new: str) -> None:
        os.replace(self._at(old), self._at(new), src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def link(self, old: str, new: str) -> None:
        os.link(
            self._at(old),
            self._at(new),
            src_dir_fd=self._descriptor,
            dst_dir_fd=self._descriptor,
            follow_symlinks=False,
        )

    def remove(self, leaf: str) -> None:
        os.unlink(self._at(leaf), dir_fd=self._descriptor)

    def below(self, name: str, *, make: bool) -> int | None:
        """A folder in it, opened; on Windows only looked at. Raises FileNotFoundError, or _NoFolder."""
        if make:
            with suppress(FileExistsError):
                os.mkdir(self._at(name), dir_fd=self._descriptor)
        status = os.stat(self._at(name), dir_fd=self._descriptor, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            raise _NoFolder(name, "a link" if stat.S_ISLNK(status.st_mode) else "a file")
        return None if self._descriptor is None else os.open(name, _FOLDER, dir_fd=self._descriptor)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _at(self, leaf: str) -> str:
        return leaf if self._descriptor is not None else str(self._path / leaf)


def _open_place(folder: Path, above: list[str], *, make: bool) -> Place | None:
    # The user's own folder may be a link: its user named it.
    descriptor = None if sys.platform == "win32" else os.open(folder, _FOLDER & ~getattr(os, "O_NOFOLLOW", 0))
    place = Place(folder, descriptor)
    path = folder
    for number, part in enumerate(above):
        try:
            descriptor = place.below(part, make=make)
        except FileNotFoundError:
            if make:
                raise
            return None
        except _NoFolder as error:
            raise _NoFolder("/".join(above[: number + 1]), error.what) from None
        finally:
            place.close()
        path = path / part
        place = Place(path, descriptor)
    return place


def _there(place: Place | None) -> Place:
    if place is None:
        raise FileNotFoundError(errno.ENOENT, "its folder is gone")
    return place


def _by_folder(files: Sequence[tuple[Wanted, bytes]]) -> Iterator[list[tuple[Wanted, bytes]]]:
    for _folder, group in groupby(files, key=lambda each: each[0].name.rpartition("/")[0]):
        yield list(group)


def _open_part(place: Place, file: Wanted, flags: int = 0) -> int:
    """What lies there of it, if that is a plain file of its own; else a new one."""
    status = place.status(file.part)
    if status is not None and (not stat.S_ISREG(status.st_mode) or status.st_nlink > 1):
        place.remove(file.part)
    return place.open(file.part, _PART | flags, 0o777 if file.executable else 0o666)


def _write_anew(place: Place, file: Wanted, content: bytes) -> None:
    descriptor = _open_part(place, file, os.O_TRUNC)
    try:
        _write_all(descriptor, content)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


class Part:
    """A large file's unfinished part. For one thread at a time; leave it by `Target.finish` or `close`."""

    def __init__(self, target: Target, file: Wanted) -> None:
        self.file = file
        self._target = target
        self._state, self.have = sha256(), 0
        """What is there of it already, and how many bytes that is."""
        with target._place(file.name, make=True) as place:  # noqa: SLF001  one thing in two classes
            self._descriptor = _open_part(_there(place), file)
        try:
            self._lock()
            self._read_again()
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                shown = self._target.shown(self.file.name)
                raise Conflict(f"Another command is writing {shown} just now.") from error

    def _read_again(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size > self.file.size:
            os.ftruncate(self._descriptor, 0)
        elif size:
            self._state, self.have = hash_of(self._descriptor, size)

    def write(self, pieces: Sequence[bytes]) -> None:
        """The next bytes. Raises PeerMisbehaved beyond the size that the manifest says, StorageFailed."""
        with self._target._translated(self.file.name):  # noqa: SLF001
            for piece in pieces:
                if self.have + len(piece) > self.file.size:
                    raise wrong_size(self.file)
                _write_all(self._descriptor, piece)
                self._state.update(piece)
                self.have += len(piece)

    def restart(self) -> None:
        """Forget what is there."""
        with self._target._translated(self.file.name):  # noqa: SLF001
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._state, self.have = sha256(), 0

    @property
    def is_right(self) -> bool:
        """Whether all of it is there and is what its name says."""
        return self.have == self.file.size and self._state.hexdigest() == self.file.digest

    def verify(self) -> None:
        """Raise WrongDigest unless it is right; then nothing of it is kept."""
        if not self.is_right:
            self.restart()
            raise wrong_digest(self._target.shown(self.file.name))

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let it lie, to be gone on with later. Closing twice is fine."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def wrong_digest(shown: str) -> WrongDigest:
    return WrongDigest(f"{shown} arrived damaged: its SHA-256 is another.", hint="Fetch again.")


def wrong_size(file: Wanted) -> MeshError:
    return PeerMisbehaved(
        f"Task {file.index} says that {file.name!a} has {file.size} bytes, which is not so: it is not taken.",
        hint="The machine that ran it tells wrong things of its files.",
    )
