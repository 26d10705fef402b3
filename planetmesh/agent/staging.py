"""Lays a task's files into a folder that its task cannot reach yet. Blocks on the disk: call it in a thread.

The task gets files of its own: it may change them, and neither the cache nor another task sees that. Only
where tasks run as another user than the agent, large files are the cache's own under a second name: that
user cannot write to them.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from planetmesh.agent.sandbox.folders import TaskUser
from planetmesh.errors import StorageFailed, TooLarge
from planetmesh.model.blob import Digest, Manifest, StagedFile
from planetmesh.model.resources import show_size
from planetmesh.wire.manifest import FILES_MOST, check_names

FILE_MODE = 0o644
PROGRAM_MODE = 0o755
LINK_LEAST_BYTES = 16 * 1024 * 1024
"""From here on a copy costs more than it is worth."""
PIECE_BYTES = 1024 * 1024
LOOK_BYTES = 16 * 1024 * 1024
"""After so much is written the disk is looked at again."""
RESERVE_MOST_BYTES = 1024 * 1024 * 1024
RESERVE_SHARE = 0.05
"""Of a small disk. Where a task fills it beyond the same, the launcher stops it."""
FILE_COST_BYTES = 4096
"""What even an empty file may take of the disk."""

_FICLONE = 0x40049409
_NO_CLONES = {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM}
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}


class Blobs(Protocol):
    """Where the bytes are; a shelf."""

    def open(self, digest: Digest) -> int:
        """A descriptor to read it by, which the caller closes."""

    def path(self, digest: Digest) -> Path: ...


class Placed(msgspec.Struct, frozen=True):
    """One file as it will lie in the task's folder."""

    name: str
    digest: Digest
    size: int
    executable: bool


class Layout(msgspec.Struct, frozen=True):
    """All of a task's files, checked against each other."""

    files: tuple[Placed, ...] = ()
    folders: tuple[str, ...] = ()
    """Those without a file in them."""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


class Stamp(msgspec.Struct, frozen=True):
    """By what a staged file is known again, if nobody has changed it."""

    digest: Digest
    device: int
    inode: int
    changed_ns: int = -1
    """-1: nobody could have changed it."""

    def fits(self, found: os.stat_result) -> bool:
        is_same = (found.st_dev, found.st_ino) == (self.device, self.inode)
        return is_same and self.changed_ns in (-1, found.st_ctime_ns)


class Stopped(Exception):
    """The task's files are not wanted any more."""


def lay_out(files: Sequence[StagedFile], manifests: Mapping[Digest, Manifest]) -> Layout:
    """Where everything will lie. Raises BadInput for two files in one place, TooLarge for too many."""
    placed: list[Placed] = []
    folders: dict[str, None] = {}
    for file in files:
        if not file.is_tree:
            placed.append(Placed(file.name, file.digest, file.size, file.executable))
            continue
        manifest = manifests[file.digest]
        above = f"{file.name}/" if file.name else ""
        placed += [
            Placed(above + each.name, each.digest, each.size, each.executable) for each in manifest.files
        ]
        folders |= dict.fromkeys(above + name for name in manifest.folders)
        if file.name and not manifest.files and not manifest.folders:
            folders[file.name] = None
    if len(placed) + len(folders) > FILES_MOST:
        raise TooLarge(f"The task's folder would hold {len(placed)} files; {FILES_MOST} is the limit.")
    check_names([file.name for file in placed], list(folders))
    return Layout(tuple(placed), tuple(folders))


class Stager:
    """Lays files for one task; used once, in one thread."""

    def __init__(
        self,
        folder: Path,
        blobs: Blobs,
        user: TaskUser | None,
        stop: threading.Event,
        *,
        reserve_bytes: int = 0,
        read_free: Callable[[Path], int] | None = None,
    ) -> None:
        """`user`: whose the files are to be, where that is not the agent's own."""
        self._folder = folder
        self._blobs = blobs
        self._user = user
        self._stop = stop
        self._reserve_bytes = reserve_bytes
        self._read_free = read_free or free_bytes
        self._unlooked = 0
        self._can_clone = sys.platform == "linux"

    def lay(self, layout: Layout) -> dict[str, Stamp]:
        """Put everything into the folder; by name how to know each file again.

        Raises Stopped, StorageFailed for a disk without room, and MeshError or OSError for the rest.
        """
        self._look_now(min(layout.size, LOOK_BYTES))
        for name in _all_folders(layout):
            path = self._folder / name
            path.mkdir()
            self._finish(path, PROGRAM_MODE)
        return {file.name: self._lay_file(file) for file in layout.files}

    def _lay_file(self, file: Placed) -> Stamp:
        if self._stop.is_set():
            raise Stopped
        path = self._folder / file.name
        if self._user is not None and file.size >= LINK_LEAST_BYTES and not file.executable:
            try:
                os.link(self._blobs.path(file.digest), path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            else:
                status = path.lstat()
                return Stamp(file.digest, status.st_dev, status.st_ino)
        return self._copy(file, path)

    def _copy(self, file: Placed, path: Path) -> Stamp:
        source = self._blobs.open(file.digest)
        try:
            mode = PROGRAM_MODE if file.executable else FILE_MODE
            target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            try:
                if not self._clone(source, target, file.size):
                    self._write(source, target, file.size)
                self._finish(target, mode)
                return self._checked(os.fstat(target), file)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _checked(self, status: os.stat_result, file: Placed) -> Stamp:
        if status.st_size != file.size:
            raise StorageFailed(
                f"The file {file.name!a} has {status.st_size} bytes here, not {file.size} as its job says."
            )
        return Stamp(file.digest, status.st_dev, status.st_ino, status.st_ctime_ns)

    def _clone(self, source: int, target: int, size: int) -> bool:
        """Share the bytes with the cache's file until one of both is changed, where the disk can."""
        if not self._can_clone or size < PIECE_BYTES or sys.platform != "linux":
            return False
        import fcntl

        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as error:
            if error.errno not in _NO_CLONES:
                raise
            self._can_clone = False
            return False
        return True

    def _write(self, source: int, target: int, size: int) -> None:
        self._look(FILE_COST_BYTES)
        for count in _pieces(source, target, size):
            self._look(count)
            if self._stop.is_set():
                raise Stopped

    def _look(self, size: int) -> None:
        """See that the disk has room for what comes, every now and then."""
        self._unlooked += size
        if self._unlooked < LOOK_BYTES and size < LOOK_BYTES:
            return
        self._look_now(size)

    def _look_now(self, size: int) -> None:
        self._unlooked = 0
        needed = self._reserve_bytes + size
        if self._read_free(self._folder) < needed:
            raise StorageFailed(
                f"The disk has no room for the task's files: less than {show_size(needed)} is left.",
                hint="Free some space on the node.",
            )

    def _finish(self, made: Path | int, mode: int) -> None:
        """The mode whatever the agent's umask is, and the owner. Nobody else can reach it yet."""
        if sys.platform != "win32":
            os.chmod(made, mode)  # noqa: PTH101  of a descriptor, mostly
            if self._user is not None:
                os.chown(made, self._user.uid, self._user.gid)


def free_bytes(folder: Path) -> int:
    import shutil

    return shutil.disk_usage(folder).free


def reserve_of(folder: Path) -> int:
    """Kept free on a disk for its owner and for the agent's own writing."""
    import shutil

    return min(RESERVE_MOST_BYTES, int(shutil.disk_usage(folder).total * RESERVE_SHARE))


def _all_folders(layout: Layout) -> list[str]:
    """Every folder that must be made, those above before those below."""
    found: set[str] = set()
    for name in (*(f"{folder}/." for folder in layout.folders), *(file.name for file in layout.files)):
        above = name.rpartition("/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return sorted(found)


def _pieces(source: int, target: int, size: int) -> Iterator[int]:
    """Copy from where both stand; after each piece its size."""
    if sys.platform == "linux" and size > PIECE_BYTES:
        try:
            while count := os.copy_file_range(source, target, LOOK_BYTES):
                yield count
        except OSError as error:
            if error.errno not in _NO_CLONES:
                raise
        else:
            return
    while data := os.read(source, min(size + 1, PIECE_BYTES)):
        left = memoryview(data)
        while left:
            left = left[os.write(target, left) :]
        yield len(data)
