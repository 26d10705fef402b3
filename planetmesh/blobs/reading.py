"""A blob that is being read, piece by piece."""

from __future__ import annotations

import os
import threading
from io import FileIO
from typing import Self

from planetmesh.blobs.hashing import PIECE_BYTES


class Reading:
    """Owns the descriptor. `close` may come while another thread reads: it waits for that."""

    def __init__(self, descriptor: int) -> None:
        self._file = FileIO(descriptor)
        self._lock = threading.Lock()
        self.size = os.fstat(descriptor).st_size

    def seek(self, offset: int) -> None:
        with self._lock:
            self._file.seek(offset)

    def read(self, most: int = PIECE_BYTES) -> bytes:
        """The next bytes, fewer only at the end; nothing once it is closed."""
        with self._lock:
            return b"" if self._file.closed else self._file.read(most) or b""

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
