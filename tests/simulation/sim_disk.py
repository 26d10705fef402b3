"""Disks: an outbox's folder that a power cut may tear, and databases that may be slow or full.

`SimSegment` stands for `agent.segment.Segment`; what was not synced may be lost, torn, or come back. A
`SimDatabase` stands for `store.database.Database`: real SQLite in memory, kept when the process dies.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from planetmesh.agent.segment import _HEADER, HEADER_BYTES
from planetmesh.errors import StorageFailed
from planetmesh.store.database import _look, _transact

# An agent's disk


class SimFile:
    def __init__(self) -> None:
        self.data = bytearray()
        self.synced_bytes = 0


class SimPath(str):
    """A file's name in a folder."""

    __slots__ = ("folder",)
    folder: SimFolder

    @property
    def name(self) -> str:
        return str(self)


class SimFolder:
    """The outbox's folder. Each life of the process has a handle of its own on it (`lend`)."""

    def __init__(self, seed: str) -> None:
        self.files: dict[str, SimFile] = {}
        self.is_full = False
        self._listed: dict[str, SimFile] = {}
        """The names that a power cut leaves for certain."""
        self._random = random.Random(seed)

    def mkdir(self, **_options: Any) -> None:
        """It is there."""

    def iterdir(self) -> Iterator[SimPath]:
        for name in list(self.files):
            path = SimPath(name)
            path.folder = self
            yield path

    def sync(self) -> None:
        self._listed = dict(self.files)

    def cut_power(self) -> int:
        """What was not synced is there or not, or half; returns how many bytes were lost."""
        before = sum(len(file.data) for file in self.files.values())
        for name in sorted(self.files.keys() | self._listed.keys()):
            if (self.files.get(name) is not self._listed.get(name)) and self._random.random() < 0.5:
                if name in self._listed:
                    self.files[name] = self._listed[name]
                else:
                    del self.files[name]
        for file in self.files.values():
            kept = self._random.choice((file.synced_bytes, len(file.data)))
            if self._random.random() < 0.5:
                kept = self._random.randint(file.synced_bytes, len(file.data))
            del file.data[kept:]
            file.synced_bytes = len(file.data)
        self._listed = dict(self.files)
        return max(0, before - sum(len(file.data) for file in self.files.values()))

    def copy(self, seed: str) -> SimFolder:
        """As it is on another machine after somebody copied the home."""
        other = SimFolder(seed)
        for name, file in self.files.items():
            other.files[name] = SimFile()
            other.files[name].data += file.data
            other.files[name].synced_bytes = len(file.data)
        other.sync()
        return other


class SimSegment:
    """The same calls as `Segment`."""

    def __init__(self, folder: SimFolder, first: int, file: SimFile) -> None:
        self.first = first
        self.count = 0
        self.size = 0
        self._folder = folder
        self._file = file

    @classmethod
    def create(cls, folder: SimFolder, first: int) -> SimSegment:
        if folder.is_full:
            raise OSError(28, "No space left on device")
        name = f"{first:020d}"
        assert name not in folder.files, "a segment of the outbox was made twice"
        folder.files[name] = SimFile()
        return cls(folder, first, folder.files[name])

    @classmethod
    def recover(cls, path: SimPath) -> tuple[SimSegment, bool]:
        segment = cls(path.folder, int(path), path.folder.files[path])
        for record in segment.records():
            segment.count += 1
            segment.size += HEADER_BYTES + len(record)
        return segment, len(segment._file.data) == segment.size

    @property
    def end(self) -> int:
        return self.first + self.count

    def continue_writing(self) -> None:
        del self._file.data[self.size :]
        self._file.synced_bytes = min(self._file.synced_bytes, self.size)

    def append(self, records: Iterable[bytes], count: int) -> None:
        block = b"".join(records)
        if self._folder.is_full:
            raise OSError(28, "No space left on device")
        self._file.data += block
        self.size += len(block)
        self.count += count

    def sync(self) -> None:
        self._file.synced_bytes = len(self._file.data)

    def records(self, offset: int = 0) -> Iterator[bytes]:
        while offset + HEADER_BYTES <= len(self._file.data):
            length, checksum = _HEADER.unpack_from(self._file.data, offset)
            payload = bytes(self._file.data[offset + HEADER_BYTES : offset + HEADER_BYTES + length])
            if len(payload) < length or zlib.crc32(payload) != checksum:
                return
            yield payload
            offset += HEADER_BYTES + length

    def close(self) -> None:
        """Nothing is held open."""

    def remove(self) -> None:
        name = f"{self.first:020d}"
        if self._folder.files.get(name) is self._file:
            del self._folder.files[name]


def sync_folder(folder: SimFolder) -> None:
    folder.sync()


# A coordinator's disk


class SimDisk:
    """How the coordinator's disk behaves now; its databases share it."""

    def __init__(self, seed: str) -> None:
        self.slow_seconds = 0.0
        """The longest that a commit takes now; 0 for a good disk."""
        self.is_full = False
        self.random = random.Random(seed)


class SimDatabase:
    """One file. A commit counts from some moment while it is waited for: a crash may fall on either side."""

    def __init__(self, disk: SimDisk, migrations: Sequence[str]) -> None:
        self._disk = disk
        self.on_written: Callable[[], None] = lambda: None
        """Called when a write counts, although whoever waits for it may die before he is told."""
        self._connection = sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)
        self._connection.execute("PRAGMA foreign_keys=ON")
        for script in migrations:
            self._connection.executescript(script)

    async def write(
        self, work: Callable[[sqlite3.Connection], Any], then: Callable[[Any], None] | None = None
    ) -> Any:
        disk = self._disk
        seconds = disk.random.uniform(0.0, disk.slow_seconds) if disk.slow_seconds else 0.001
        early = disk.random.random() < 0.5
        if disk.is_full:
            await asyncio.sleep(seconds)
            raise StorageFailed("The simulated disk is full.")
        if not early:
            await asyncio.sleep(seconds)
        result = _transact(self._connection, work)
        self.on_written()
        if then is not None:
            then(result)
        if early:
            await asyncio.sleep(seconds)
        return result

    async def read(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        await asyncio.sleep(0.001)
        return self.look(work)

    def look(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        """At once, for the tests' own questions."""
        return _look(self._connection, work)

    def sizes(self) -> Any:
        raise AssertionError("nobody asks a simulated database for its size")

    async def checkpoint(self) -> None:
        """There is no log to fold."""

    async def close(self) -> None:
        """Kept for the next life."""
