"""Blobs in a folder: `ab/<digest>` for each whole one, `partial/<digest>` for each that is arriving.

A file stands under its digest only once its bytes were hashed and are on the disk: whatever happens, no
wrong blob is found there. One process and one `Shelf` for a folder; its calls block, and any thread may
make them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from planetmesh.blobs.digest import checked
from planetmesh.blobs.durable import sync_files, sync_folder, sync_folders
from planetmesh.blobs.files import READING, new_file, open_regular, set_mode, translated, written
from planetmesh.blobs.hashing import digest_of, hash_of, pieces
from planetmesh.blobs.partial import Partial
from planetmesh.blobs.room import Room
from planetmesh.errors import NotFound, TooLarge, WrongDigest, WrongOffset
from planetmesh.model.blob import Digest, is_digest

if TYPE_CHECKING:
    from hashlib import _Hash

PRIVATE = 0o600
READ_ONLY = 0o444
"""For blobs that are linked into the folders of tasks, which may run as another user."""
PARTIAL_KEEP_SECONDS = 86400.0
"""A partial blob that nobody has gone on with for so long is dropped."""


class Entry(msgspec.Struct, frozen=True):
    """One blob as it lies there. `used_at`: its file's time of change, which `touch` sets."""

    digest: Digest
    size: int
    used_at: float


class Added(msgspec.Struct, frozen=True):
    """What came of putting something there."""

    digest: Digest
    size: int
    is_new: bool


class Shelf:
    """See the module. Made in a thread: it makes the folder and counts what lies there."""

    def __init__(self, folder: Path, *, room: Room | None = None, file_mode: int = PRIVATE) -> None:
        self.folder = folder
        self.room = room or Room(folder)
        self._file_mode = file_mode
        self._partials = folder / "partial"
        self._lock = threading.Lock()
        self._arriving: set[str] = set()
        """Names of files in `partial` that somebody writes."""
        self._numbers = count()
        self.blobs = 0
        """How many whole ones there are."""
        with translated(folder):
            for each in (folder, self._partials):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._shards = {path.name for path in folder.iterdir()}
            self._sweep_private()
        for entry in self.entries():
            self.blobs += 1
            self.room.found(entry.size)
        for path in self._partials.iterdir():
            self.room.found(path.stat().st_size)

    # Looking

    def has(self, digest: Digest) -> bool:
        return self._path(digest).exists()

    def size(self, digest: Digest) -> int:
        """Raises NotFound."""
        with translated(self.folder, missing=_missing(digest)):
            return self._path(digest).stat().st_size

    def open(self, digest: Digest) -> int:
        """A descriptor to read it by, which the caller closes; it stays whole if the blob is removed.

        Raises NotFound.
        """
        with translated(self.folder, missing=_missing(digest)):
            return os.open(self._path(digest), READING)

    def read(self, digest: Digest, most_bytes: int) -> bytes:
        """All of a small one; raises NotFound, or TooLarge."""
        descriptor = self.open(digest)
        try:
            with translated(self.folder):
                size = os.fstat(descriptor).st_size
                if size > most_bytes:
                    raise TooLarge(f"The blob {digest} has {size} bytes; {most_bytes} is the limit here.")
                return b"".join(bytes(piece) for piece in pieces(descriptor, size))
        finally:
            os.close(descriptor)

    def path(self, digest: Digest) -> Path:
        """Where it lies, to be linked or copied by; raises NotFound. Never write to it."""
        path = self._path(digest)
        if not path.exists():
            raise _missing(digest)
        return path

    def entries(self) -> Iterator[Entry]:
        """All there are, in no order; those that come or go meanwhile may be among them."""
        for shard in sorted(self._shards):
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.folder / shard) as files:
                for file in files:
                    if is_digest(file.name) and file.name[:2] == shard:
                        with suppress(FileNotFoundError):
                            status = file.stat(follow_symlinks=False)
                            yield Entry(Digest(file.name), status.st_size, status.st_mtime)

    # Putting

    def partial_size(self, digest: Digest) -> int:
        """Bytes of it that have arrived so far; nothing of those on their way at this moment is promised."""
        try:
            with translated(self.folder, missing=_missing(digest)):
                return (self._partials / checked(digest)).stat().st_size
        except NotFound:
            return 0

    def open_partial(self, digest: Digest, size: int, offset: int = 0) -> Partial:
        """Begin a blob of `size` bytes, or go on with it at `offset`: then what is there is read once more.

        Raises WrongOffset if not so much is there, TooLarge or StorageFailed if there is no room. Two may
        arrive under one name: the second begins at 0, and whoever is whole first stands.
        """
        name = checked(digest)
        with self._lock:
            is_free = name not in self._arriving
            if not is_free:
                name = Digest(f"{digest}.{next(self._numbers)}")
            self._arriving.add(name)
        try:
            return self._open_partial(self._partials / name, digest, size, offset)
        except BaseException:
            self._arriving.discard(name)
            raise

    def _open_partial(self, path: Path, digest: Digest, size: int, offset: int) -> Partial:
        with translated(self.folder):
            have = path.stat().st_size if path.exists() else 0
            if offset not in (0, have) or offset > size:
                raise WrongOffset(
                    f"Of this blob {have} bytes are here: it cannot go on at {offset}.",
                    hint=f"Send it from byte {have} on, or from the beginning.",
                    have=have,
                )
            if have and not offset:
                path.unlink()
                self.room.freed(have)
            begun = _read_again(path, offset) if offset else (sha256(), 0)
        self.room.promise(size - offset)
        try:
            return Partial(path, digest, size, self.room, begun, settle=self._settle, release=self._release)
        except BaseException:
            self.room.take_back(size - offset)
            raise

    def put_bytes(self, content: bytes) -> Added:
        digest = digest_of(content)
        return Added(digest, len(content), bool(self.put_many([(digest, content)])))

    def put_file(self, source: Path | int, *, most_bytes: int | None = None) -> Added:
        """A copy of a file that exists: a path, which must not be a link, or a descriptor.

        It is read once, hashed on the way. Raises TooLarge if there is more of it than `most_bytes`, BadInput
        if it is no regular file, NotFound if it is not there.
        """
        descriptor = source if isinstance(source, int) else open_regular(source)
        try:
            return self._copy_in(descriptor, most_bytes)
        finally:
            if not isinstance(source, int):
                os.close(descriptor)

    def put_many(self, blobs: Iterable[tuple[Digest, bytes]]) -> list[Digest]:
        """Several small ones, with one wait for the disk; returns those that were new.

        Raises WrongDigest if one is not what its name says; then none is kept.
        """
        wanted = {digest: content for digest, content in blobs if not self._is_here(digest, content)}
        size = sum(map(len, wanted.values()))
        self.room.promise(size)
        paths = {digest: self._private_path(digest) for digest in wanted}
        new: list[Digest] = []
        try:
            with translated(self.folder):
                for digest, content in wanted.items():
                    with new_file(paths[digest], self._file_mode) as descriptor:
                        for _part in written(descriptor, content):
                            pass
                sync_files(self.folder, list(paths.values()))
                self._make_shards(wanted)
                for digest, path in paths.items():
                    if self._move(digest, path):
                        new.append(digest)
                        self.room.written(len(wanted[digest]))
                sync_folders(self.folder, {self._path(digest).parent for digest in wanted})
            return new
        finally:
            self.room.take_back(size - sum(len(wanted[digest]) for digest in new))
            for digest in wanted.keys() - set(new):
                paths[digest].unlink(missing_ok=True)

    def _is_here(self, digest: Digest, content: bytes) -> bool:
        if digest_of(content) != digest:
            raise WrongDigest(f"The bytes that came as {digest} are others.", hint="Send them again.")
        return self.has(digest)

    def _copy_in(self, descriptor: int, most_bytes: int | None) -> Added:
        path = self._private_path(Digest("file"))
        state, size = sha256(), 0
        try:
            with translated(self.folder), new_file(path, self._file_mode) as target:
                for piece in pieces(descriptor):
                    _refuse_too_long(size + len(piece), most_bytes)
                    self._write_piece(target, piece)
                    size += len(piece)
                    state.update(piece)
                os.fsync(target)
            digest = Digest(state.hexdigest())
            is_new = self._take_in(digest, path)
        except BaseException:
            path.unlink(missing_ok=True)
            self.room.freed(size)
            raise
        if not is_new:
            self.room.freed(size)
        return Added(digest, size, is_new)

    def _write_piece(self, target: int, piece: memoryview) -> None:
        self.room.promise(len(piece))
        try:
            for _part in written(target, piece):
                pass
        except BaseException:
            self.room.take_back(len(piece))
            raise
        self.room.written(len(piece))

    # Upkeep

    def touch(self, digest: Digest) -> None:
        """Note that it was used now; nothing happens if it is gone."""
        with suppress(NotFound), translated(self.folder, missing=_missing(digest)):
            os.utime(self._path(digest))

    def remove(self, digest: Digest) -> bool:
        """Whether it was there. Those who read it now read on."""
        path = self._path(digest)
        with self._lock, translated(self.folder):
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                return False
            self.blobs -= 1
        self.room.freed(size)
        return True

    def sweep_partials(self, now_wall: float, keep_seconds: float = PARTIAL_KEEP_SECONDS) -> int:
        """Drop those that nobody has gone on with for so long; returns how many."""
        dropped = 0
        with self._lock, translated(self.folder):
            for path in self._partials.iterdir():
                status = path.stat()
                if path.name not in self._arriving and status.st_mtime < now_wall - keep_seconds:
                    path.unlink()
                    self.room.freed(status.st_size)
                    dropped += 1
        return dropped

    # Inside

    def _path(self, digest: Digest) -> Path:
        """The one place where a digest becomes a path; raises BadInput for what is none."""
        name = checked(digest)
        return self.folder / name[:2] / name

    def _private_path(self, digest: Digest) -> Path:
        """For a blob that comes whole or not at all; removed at the next start if it was left."""
        return self._partials / f"{digest}.{next(self._numbers)}"

    def _sweep_private(self) -> None:
        for path in self._partials.iterdir():
            if not is_digest(path.name):
                path.unlink()

    def _make_shards(self, digests: Iterable[Digest]) -> None:
        new = {digest[:2] for digest in digests} - self._shards
        for name in new:
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        if new:
            sync_folder(self.folder)
            self._shards |= new

    def _move(self, digest: Digest, path: Path) -> bool:
        """Give a whole file its name, unless another has it already."""
        target = self._path(digest)
        with self._lock:
            if target.exists():
                return False
            path.replace(target)
            self.blobs += 1
            return True

    def _settle(self, partial: Partial) -> bool:
        """Called by a partial that is whole, right, on disk and closed."""
        set_mode(partial.path, self._file_mode)
        is_new = self._take_in(partial.digest, partial.path)
        if not is_new:
            self.room.freed(partial.have)
        return is_new

    def _take_in(self, digest: Digest, path: Path) -> bool:
        """Give a whole file its name for good, or remove it if another has that. Whether it was new."""
        with translated(self.folder):
            self._make_shards([digest])
            is_new = self._move(digest, path)
            if not is_new:
                path.unlink()
            # Also for another's name: it may be so new that it would not survive a power cut yet.
            sync_folder(self._path(digest).parent)
        return is_new

    def _release(self, partial: Partial) -> None:
        with self._lock:
            self._arriving.discard(partial.path.name)
        if not is_digest(partial.path.name) and partial.path.exists():
            # Nobody would find it again.
            partial.path.unlink()
            self.room.freed(partial.have)


def _missing(digest: Digest) -> NotFound:
    return NotFound(f"There is no blob {digest} here.", hint="It was never sent, or no job uses it any more.")


def _refuse_too_long(size: int, most_bytes: int | None) -> None:
    if most_bytes is not None and size > most_bytes:
        raise TooLarge(f"The file is longer than {most_bytes} bytes.")


def _read_again(path: Path, size: int) -> tuple[_Hash, int]:
    descriptor = os.open(path, READING)
    try:
        return hash_of(descriptor, size)
    finally:
        os.close(descriptor)
