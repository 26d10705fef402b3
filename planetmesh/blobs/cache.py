"""A shelf that forgets: what was not used for longest goes first, never what somebody needs now.

How lately a blob was used stands in its file's time, so a restart forgets nothing. Any thread may call.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter

import msgspec

from planetmesh.blobs.shelf import Shelf
from planetmesh.errors import StorageFailed
from planetmesh.model.blob import LARGE_BYTES, Digest
from planetmesh.model.resources import show_size

TOUCH_SECONDS = 60.0
"""A file's time need not be exacter than this."""


class Held(msgspec.Struct, frozen=True):
    """What came and went since the last such report, of blobs that are worth telling."""

    added: tuple[Digest, ...] = ()
    dropped: tuple[Digest, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.dropped)


class _Known(msgspec.Struct):
    size: int
    used_at: float


class Cache:
    """Make it in a thread, over a shelf that nobody else puts into or removes from."""

    def __init__(self, shelf: Shelf, most_bytes: int, *, reported_bytes: int = LARGE_BYTES) -> None:
        self.shelf = shelf
        self.most_bytes = most_bytes
        """May be changed at any time; counts at the next `make_room`."""
        self._reported_bytes = reported_bytes
        self._lock = threading.RLock()
        self._known: OrderedDict[Digest, _Known] = OrderedDict()
        """The one used last comes last."""
        self._pins: Counter[Digest] = Counter()
        self._used = 0
        self._awaited = 0
        self._changes: dict[Digest, bool] = {}
        for entry in sorted(shelf.entries(), key=attrgetter("used_at")):
            self._know(entry.digest, entry.size, entry.used_at)

    @property
    def used_bytes(self) -> int:
        """Of whole blobs."""
        return self._used

    def has(self, digest: Digest) -> bool:
        with self._lock:
            return digest in self._known

    # Pins

    def pin(self, digest: Digest) -> bool:
        """Keep it, or what will come so called, until `unpin` was called as often. Whether it is here."""
        with self._lock:
            self._pins[digest] += 1
            return self._use(digest)

    def unpin(self, digest: Digest) -> None:
        with self._lock:
            self._pins[digest] -= 1
            if self._pins[digest] <= 0:
                del self._pins[digest]
            self._use(digest)

    @contextmanager
    def pinned(self, digest: Digest) -> Iterator[bool]:
        """Pinned as long as the block runs; gives whether it is here."""
        here = self.pin(digest)
        try:
            yield here
        finally:
            self.unpin(digest)

    def _use(self, digest: Digest) -> bool:
        known = self._known.get(digest)
        if known is None:
            return False
        self._known.move_to_end(digest)
        now = time.time()
        if now - known.used_at > TOUCH_SECONDS:
            known.used_at = now
            self.shelf.touch(digest)
        return True

    # Coming and going

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """See that so much more may be put on the shelf within the block; raises StorageFailed if not.

        What arrives must be told by `added`.
        """
        with self._lock:
            self.evict(size)
            self._awaited += size
        try:
            yield
        finally:
            with self._lock:
                self._awaited -= size

    def evict(self, size: int = 0) -> list[Digest]:
        """Drop what was not used for longest until `size` more bytes fit; returns what went.

        Raises StorageFailed, and drops nothing, if what is pinned leaves too little.
        """
        with self._lock:
            over = self._used + self._awaited + size - self.most_bytes
            going: list[Digest] = []
            for digest, known in self._known.items():
                if over <= 0:
                    break
                if digest not in self._pins:
                    going.append(digest)
                    over -= known.size
            if over > 0 and size:
                raise StorageFailed(
                    f"Files of running tasks leave no room for {show_size(size)} more in the cache of "
                    f"{show_size(self.most_bytes)}.",
                    hint="It works again when some have ended; a larger cache is a setting of the node.",
                )
            for digest in going:
                self._drop(digest)
            return going

    def added(self, digest: Digest, size: int) -> None:
        """It is on the shelf now."""
        with self._lock:
            if digest not in self._known:
                self._know(digest, size, time.time())
                self._note(digest, size, is_here=True)

    def lost(self, digest: Digest) -> None:
        """It turned out not to be on the shelf, or to be damaged: forget it."""
        with self._lock:
            if digest in self._known:
                self._drop(digest)

    def _know(self, digest: Digest, size: int, used_at: float) -> None:
        self._known[digest] = _Known(size, used_at)
        self._used += size

    def _drop(self, digest: Digest) -> None:
        known = self._known.pop(digest)
        self._used -= known.size
        self._note(digest, known.size, is_here=False)
        self.shelf.remove(digest)

    # What is told

    def held(self) -> list[Digest]:
        """All that is worth telling, and the next report begins from here."""
        with self._lock:
            self._changes.clear()
            return [digest for digest, known in self._known.items() if known.size >= self._reported_bytes]

    def changes(self) -> Held:
        """What came and went since `held` or the last such question."""
        with self._lock:
            changes, self._changes = self._changes, {}
        added = tuple(digest for digest, is_here in changes.items() if is_here)
        return Held(added, tuple(digest for digest, is_here in changes.items() if not is_here))

    def _note(self, digest: Digest, size: int, *, is_here: bool) -> None:
        if size < self._reported_bytes:
            return
        if self._changes.get(digest) is (not is_here):
            del self._changes[digest]
        else:
            self._changes[digest] = is_here
