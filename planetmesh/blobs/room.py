"""How much a shelf may hold: asked before bytes are written, so that nothing is begun that cannot end."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from planetmesh.blobs.files import disk_full
from planetmesh.errors import TooLarge
from planetmesh.model.resources import show_size


class Room:
    """Counts the bytes of one shelf, those on the disk and those promised to transfers under way."""

    def __init__(
        self,
        folder: Path,
        *,
        quota_bytes: int = 0,
        reserve_bytes: int = 0,
        read_free: Callable[[Path], int] | None = None,
    ) -> None:
        """`quota_bytes` 0: no limit but the disk, of which `reserve_bytes` always stay free."""
        self._folder = folder
        self._read_free = read_free or (lambda path: shutil.disk_usage(path).free)
        self._lock = threading.Lock()
        self.quota_bytes = quota_bytes
        self.reserve_bytes = reserve_bytes
        self.used_bytes = 0
        """On the disk, partial ones included."""
        self.promised_bytes = 0
        """Not written yet, but somebody is about to."""

    @property
    def free_bytes(self) -> int:
        """What may still be promised."""
        left = self._read_free(self._folder) - self.promised_bytes - self.reserve_bytes
        if self.quota_bytes:
            left = min(left, self.quota_bytes - self.used_bytes - self.promised_bytes)
        return max(0, left)

    def promise(self, size: int) -> None:
        """Put so much aside; raises TooLarge beyond the quota, StorageFailed if the disk has not so much."""
        with self._lock:
            taken = self.used_bytes + self.promised_bytes
            if self.quota_bytes and taken + size > self.quota_bytes:
                raise TooLarge(
                    f"There is no room for {show_size(size)} more: files take {show_size(taken)} of the "
                    f"{show_size(self.quota_bytes)} that they may.",
                    hint="What no job uses any more goes by itself after a while; "
                    "an operator can raise 'blob_quota_bytes'.",
                )
            if self._read_free(self._folder) - self.promised_bytes - self.reserve_bytes < size:
                raise disk_full(self._folder)
            self.promised_bytes += size

    def written(self, size: int) -> None:
        """So much of what was promised is on the disk now."""
        with self._lock:
            self.promised_bytes -= size
            self.used_bytes += size

    def take_back(self, size: int) -> None:
        """So much of what was promised will not come."""
        with self._lock:
            self.promised_bytes -= size

    def freed(self, size: int) -> None:
        with self._lock:
            self.used_bytes -= size

    def found(self, size: int) -> None:
        """It lay there already."""
        with self._lock:
            self.used_bytes += size
