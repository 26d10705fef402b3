"""One file of the outbox: records one after another, each with its length and checksum.

Knows bytes and numbers, no messages. A record cut short by a crash or a full disk is found by its
checksum and cut off; what stands before it is sound.
"""

from __future__ import annotations

import os
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

_HEADER = struct.Struct("<II")
HEADER_BYTES = _HEADER.size
RECORD_MOST_BYTES = 1024 * 1024
"""More than a frame on the wire may hold, so a longer length is damage."""
READ_BYTES = 1024 * 1024


def pack(payload: bytes) -> bytes:
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


class Segment:
    """Records number `first` and up, in the file named after that number."""

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        self.first = first
        self.count = 0
        self.size = 0
        self._descriptor = -1

    @classmethod
    def create(cls, folder: Path, first: int) -> Segment:
        segment = cls(folder / f"{first:020d}", first)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
        segment._descriptor = os.open(segment.path, flags, 0o600)
        return segment

    @classmethod
    def recover(cls, path: Path) -> tuple[Segment, bool]:
        """Read an existing file and count what is sound in it; False if something stands behind that."""
        segment = cls(path, int(path.name))
        for record in segment.records():
            segment.count += 1
            segment.size += HEADER_BYTES + len(record)
        return segment, path.stat().st_size == segment.size

    @property
    def end(self) -> int:
        """The number after its last record."""
        return self.first + self.count

    def continue_writing(self) -> None:
        """Open for appending behind the last sound record."""
        flags = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self.path, flags)
        os.ftruncate(self._descriptor, self.size)

    def append(self, records: Iterable[bytes], count: int) -> None:
        """Write packed records in one go: all, or none and OSError."""
        block = b"".join(records)
        view = memoryview(block)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(block)
        self.count += count

    def sync(self) -> None:
        """Wait until all of it is on the disk. May take long: call it in a thread."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)

    def records(self, offset: int = 0) -> Iterator[bytes]:
        """Sound records from a byte offset on; ends at the first that is not."""
        with self.path.open("rb", buffering=READ_BYTES) as file:
            file.seek(offset)
            while len(header := file.read(HEADER_BYTES)) == HEADER_BYTES:
                length, checksum = _HEADER.unpack(header)
                if length > RECORD_MOST_BYTES:
                    return
                payload = file.read(length)
                if len(payload) < length or zlib.crc32(payload) != checksum:
                    return
                yield payload

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names of new files last through a power cut, where a folder can be synced."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
