"""A blob that is arriving: written and hashed piece by piece, put on its shelf once it is whole and right.

Whatever ends a transfer in the middle, `close` (or a crash) leaves its bytes for the next one to go on from.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from planetmesh.blobs.files import open_at, translated, written
from planetmesh.blobs.room import Room
from planetmesh.errors import Conflict, MeshError, TooLarge, WrongDigest
from planetmesh.model.blob import Digest

if TYPE_CHECKING:
    from hashlib import _Hash

SYNC_BYTES = 64 * 1024 * 1024
"""So often what was written is pressed to the disk: a large file must not end in one long wait."""


class Partial:
    """Made by `Shelf.open_partial`. Leave it by `finish`, `drop` or `close`.

    Each call waits for the one before, so `close` may come while another thread writes.
    """

    def __init__(
        self,
        path: Path,
        digest: Digest,
        size: int,
        room: Room,
        begun: tuple[_Hash, int],
        *,
        settle: Callable[[Partial], bool],
        release: Callable[[Partial], None],
    ) -> None:
        """`begun`: the hash of the bytes that are there, and how many.

        `settle` moves the whole file to its place, `release` hears of every end; both are the shelf's.
        """
        self.path = path
        self.digest = digest
        self.size = size
        self._state, have = begun
        self.have = have
        """Bytes that are there: where the next ones go."""
        self._room = room
        self._settle = settle
        self._release = release
        self._unsynced = 0
        self._fed: deque[bytes] = deque()
        self._fed_until = have
        self._trouble: MeshError | None = None
        """Why what was fed could not be written: nothing after it may be."""
        self._lock = threading.RLock()
        self._ended = False
        with translated(path.parent):
            self._descriptor = open_at(path, self.have)
        self._promised = size - self.have

    @property
    def is_lasting(self) -> bool:
        """Whether what has arrived can be gone on with later: another with this name was not there first."""
        return self.path.name == self.digest

    @property
    def backlog(self) -> int:
        """Bytes that were fed and wait to be written."""
        return self._fed_until - self.have

    def feed(self, *data: bytes) -> None:
        """Hand in the next bytes without a wait; any `drain` afterwards, or `close`, writes them."""
        self._fed_until += sum(map(len, data))
        self._fed.extend(data)

    def drain(self) -> None:
        """Write what was fed, in its order, also what comes meanwhile. Raises as `append` does."""
        with self._lock:
            if self._trouble is not None:
                raise self._trouble
            try:
                while self._fed:
                    self._append(self._fed.popleft())
            except MeshError as error:
                self._trouble = error
                raise

    def append(self, *data: bytes | bytearray | memoryview) -> None:
        """The next bytes. Raises TooLarge beyond the size that was said, StorageFailed on a full disk."""
        with self._lock:
            for each in data:
                self._append(each)
            self._fed_until = self.have

    def _append(self, data: bytes | bytearray | memoryview) -> None:
        self._refuse_ended()
        if self.have + len(data) > self.size:
            raise TooLarge(f"More than the {self.size} bytes came that were announced.")
        with translated(self.path.parent):
            for part in written(self._descriptor, data):
                self._state.update(part)
                self.have += len(part)
                self._promised -= len(part)
                self._room.written(len(part))
            self._unsynced += len(data)
            if self._unsynced >= SYNC_BYTES:
                os.fsync(self._descriptor)
                self._unsynced = 0

    def finish(self) -> bool:
        """Put it on the shelf, on disk when this returns. Whether it was new there.

        Raises Conflict while bytes are missing (they may still come), WrongDigest if it is not what its name
        says: then it is dropped.
        """
        with self._lock:
            self.drain()
            self._refuse_ended()
            self._refuse_wrong()
            try:
                with translated(self.path.parent):
                    os.fsync(self._descriptor)
                    self._close_file()
                    return self._settle(self)
            finally:
                self.close()

    def _refuse_ended(self) -> None:
        if self._ended:
            raise Conflict("This transfer was broken off.", hint="Ask how much has arrived, and go on there.")

    def _refuse_wrong(self) -> None:
        if self.have != self.size:
            raise Conflict(
                f"Of {self.size} bytes only {self.have} have arrived.", hint="Send the rest: nothing is lost."
            )
        if self._state.hexdigest() != self.digest:
            self.drop()
            raise WrongDigest(
                "What arrived is not what its name says: its SHA-256 differs.",
                hint="It changed on the way, or while it was read. Send it again from the beginning.",
            )

    def drop(self) -> None:
        """Forget what has arrived."""
        with self._lock:
            if self._ended:
                return
            self._fed.clear()
            self._close_file()
            try:
                with translated(self.path.parent):
                    self.path.unlink(missing_ok=True)
                self._room.freed(self.have)
            finally:
                self.close()

    def close(self) -> None:
        """Let it lie as it is, to be gone on with later; what was fed is part of it. Twice is fine."""
        with self._lock:
            if not self._ended and self._descriptor >= 0:
                with suppress(MeshError):
                    self.drain()
            self._close_file()
            if not self._ended:
                self._ended = True
                self._room.take_back(self._promised)
                self._release(self)

    def _close_file(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
