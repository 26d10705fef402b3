"""Which blobs the coordinator holds and which jobs use them, in a database of its own: `Ledger`.

A row is written after the file it tells of and removed before it, so it never promises too much. What uses
a blob is written before the job is handed in: submits and uploads need nothing of the engine's transactions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from planetmesh.errors import BadInput, MissingBlobs, TooLarge
from planetmesh.model.blob import Digest
from planetmesh.model.ids import JobId
from planetmesh.model.resources import show_size
from planetmesh.paths import Home
from planetmesh.store.database import Database, Sizes
from planetmesh.store.schema import BLOBS

AT_ONCE = 1000
"""Digests in one statement."""
NAMED_MOST = 10
"""Missing blobs that an error names."""
PAGE_ROWS = 4096
"""Looked at or deleted at a time: a few milliseconds, so that no transfer waits long for a sweep."""
TOUCH_SECONDS = 60.0
"""A blob's time need not be exacter than this."""


class Totals(msgspec.Struct, frozen=True):
    blobs: int
    size: int


class Loose(msgspec.Struct, frozen=True):
    """Blobs of one page that nothing uses. `after`: where the next page begins; None after the last."""

    digests: tuple[Digest, ...]
    after: int | None


class Ledger:
    """Make one with `Ledger.open`, after `Store.open` of the same home; `close` it at the end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, home: Home) -> Ledger:
        """Open or make `home.blobs_database`; raises StorageFailed if it is damaged or unusable."""
        return cls(await Database.open(home.blobs_database, BLOBS, beside={"mesh": home.database}))

    async def close(self) -> None:
        await self._database.close()

    # What is there

    async def add(
        self,
        sizes: Mapping[Digest, int],
        now_wall: float,
        job_id: JobId | None = None,
        *,
        brought_most: int | None = None,
    ) -> None:
        """These are on the shelf now, and the job uses them: its tasks brought them. Safe to repeat.

        Raises TooLarge, and changes nothing, if they would have brought more than `brought_most` bytes.
        """
        await self._database.write(lambda connection: _add(connection, sizes, now_wall, job_id, brought_most))

    async def sizes_of(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Of those that are there."""
        asked = list(digests)
        return await self._database.read(lambda connection: _sizes(connection, asked))

    async def touch(self, digests: Iterable[Digest], now_wall: float) -> dict[Digest, int]:
        """Let their grace begin anew: somebody is about to use them. Returns the sizes of those there."""
        asked = list(digests)
        return await self._database.write(lambda connection: _touch(connection, asked, now_wall))

    async def totals(self) -> Totals:
        query = "SELECT count(*), coalesce(sum(size), 0) FROM blobs"
        return await self._database.read(lambda each: Totals(*each.execute(query).fetchone()))

    async def page(self, after: int = 0) -> tuple[list[Digest], int | None]:
        """All there are, page by page: these, and where to go on; None after the last."""
        query = "SELECT number, digest FROM blobs WHERE number > ? ORDER BY number LIMIT ?"

        def look(connection: sqlite3.Connection) -> tuple[list[Digest], int | None]:
            rows = connection.execute(query, (after, PAGE_ROWS)).fetchall()
            return [_name(row[1]) for row in rows], rows[-1][0] if len(rows) == PAGE_ROWS else None

        return await self._database.read(look)

    async def used(self, digests: Iterable[Digest]) -> set[Digest]:
        """Those that any job uses."""
        asked = list(digests)
        return await self._database.read(lambda connection: _used(connection, asked))

    # What uses them

    async def add_uses(self, job_id: JobId, sizes: Mapping[Digest, int], now_wall: float) -> None:
        """The job uses all of these, and says how large they are.

        Raises MissingBlobs if one is not there, BadInput if one has another size; then it uses none.
        """
        await self._database.write(lambda connection: _add_uses(connection, job_id, sizes, now_wall))

    async def drop_uses(self, job_id: JobId, now_wall: float) -> bool:
        """The job is gone. Frees a bounded piece; whether there is more, so that others come between."""
        return await self._database.write(lambda connection: _drop_uses(connection, job_id, now_wall))

    async def gone_jobs(self, before_wall: float) -> list[JobId]:
        """Jobs with uses from before then that the mesh does not know, or no longer."""
        query = (
            "SELECT id FROM jobs AS own WHERE used_at < ? AND NOT EXISTS("
            "SELECT 1 FROM mesh.jobs WHERE mesh.jobs.id = own.id) LIMIT ?"
        )
        return await self._database.read(
            lambda each: [JobId(row[0]) for row in each.execute(query, (before_wall, PAGE_ROWS))]
        )

    async def brought(self, job_id: JobId) -> int:
        """Bytes that its tasks have brought by now, in all attempts."""
        query = "SELECT brought FROM jobs WHERE id = ?"
        row = await self._database.read(lambda each: each.execute(query, (job_id,)).fetchone())
        return int(row[0]) if row else 0

    # What goes

    async def loose(self, before_wall: float, after: int = 0) -> Loose:
        """Those of one page that nothing has used since then."""
        return await self._database.read(lambda connection: _loose(connection, before_wall, after))

    async def remove(self, digests: Iterable[Digest], before_wall: float) -> list[Digest]:
        """Forget those of them that still nothing uses; returns them, so that their files may go."""
        asked = list(digests)
        return await self._database.write(lambda connection: _remove(connection, asked, before_wall))

    async def checkpoint(self) -> None:
        await self._database.checkpoint()

    def sizes(self) -> Sizes:
        return self._database.sizes()


def _key(digest: Digest) -> bytes:
    return bytes.fromhex(digest)


def _name(key: bytes) -> Digest:
    return Digest(key.hex())


def _slices(digests: Sequence[Digest]) -> Iterator[tuple[str, list[bytes]]]:
    """The digests as keys, some at a time, and the marks that stand for them in a statement."""
    for start in range(0, len(digests), AT_ONCE):
        keys = [_key(digest) for digest in digests[start : start + AT_ONCE]]
        yield ",".join("?" * len(keys)), keys


def _add(
    connection: sqlite3.Connection,
    sizes: Mapping[Digest, int],
    now_wall: float,
    job_id: JobId | None,
    brought_most: int | None,
) -> None:
    connection.executemany(
        "INSERT INTO blobs(digest, size, created_at, used_at) VALUES (?, ?, ?, ?) "
        "ON CONFLICT(digest) DO UPDATE SET used_at = excluded.used_at",
        ((_key(digest), size, now_wall, now_wall) for digest, size in sizes.items()),
    )
    if job_id is not None:
        job, new = _add_uses(connection, job_id, sizes, now_wall)
        _count_brought(connection, job, new, brought_most)


def _sizes(connection: sqlite3.Connection, digests: list[Digest]) -> dict[Digest, int]:
    found: dict[Digest, int] = {}
    for marks, keys in _slices(digests):
        rows = connection.execute(f"SELECT digest, size FROM blobs WHERE digest IN ({marks})", keys)
        found.update((_name(key), size) for key, size in rows)
    return found


def _touch(connection: sqlite3.Connection, digests: list[Digest], now_wall: float) -> dict[Digest, int]:
    for marks, keys in _slices(digests):
        connection.execute(
            f"UPDATE blobs SET used_at = ? WHERE used_at < ? AND digest IN ({marks})",
            (now_wall, now_wall - TOUCH_SECONDS, *keys),
        )
    return _sizes(connection, digests)


def _used(connection: sqlite3.Connection, digests: list[Digest]) -> set[Digest]:
    found: set[Digest] = set()
    for marks, keys in _slices(digests):
        query = f"SELECT digest FROM blobs WHERE digest IN ({marks}) AND {_USED}"
        found.update(_name(row[0]) for row in connection.execute(query, keys))
    return found


def _add_uses(
    connection: sqlite3.Connection,
    job_id: JobId,
    sizes: Mapping[Digest, int],
    now_wall: float,
) -> tuple[int, int]:
    """The job's number, and the bytes of those that it did not use before."""
    connection.execute("INSERT OR IGNORE INTO jobs(id, used_at) VALUES (?, ?)", (job_id, now_wall))
    (job,) = connection.execute("SELECT number FROM jobs WHERE id = ?", (job_id,)).fetchone()
    found: dict[int, int] = {}
    for marks, keys in _slices(list(sizes)):
        query = f"SELECT number, digest, size FROM blobs WHERE digest IN ({marks})"
        for number, key, size in connection.execute(query, keys):
            _refuse_other_size(_name(key), sizes, size)
            found[number] = size
    if len(found) != len(sizes):
        there = _sizes(connection, list(sizes))
        raise missing_blobs([each for each in sizes if each not in there])
    added = 0
    for number in sorted(found):  # the tree of uses grows at its end
        new = connection.execute("INSERT OR IGNORE INTO uses VALUES (?, ?)", (job, number)).rowcount
        added += found[number] * new
    return job, added


def _count_brought(connection: sqlite3.Connection, job: int, size: int, most: int | None) -> None:
    if not size:
        return
    query = "UPDATE jobs SET brought = brought + ? WHERE number = ? RETURNING brought"
    (brought,) = connection.execute(query, (size, job)).fetchone()
    if most is not None and brought > most:
        raise brought_too_much(brought, most)


def brought_too_much(together: int, most: int) -> TooLarge:
    """The error of a task whose job has brought, or would have, more than it may."""
    return TooLarge(
        f"The job's tasks would have brought {show_size(together)} together; {show_size(most)} is the limit "
        "of one job ('job_files_most_bytes').",
        hint="An operator can raise it, or let the tasks make less.",
    )


def _refuse_other_size(digest: Digest, said: Mapping[Digest, int], size: int) -> None:
    if said[digest] != size:
        raise BadInput(f"The blob {digest} has {size} bytes, not {said[digest]}.")


def missing_blobs(digests: list[Digest]) -> MissingBlobs:
    """The error of a job that names files which are not here."""
    shown = ", ".join(digests[:NAMED_MOST])
    more = f" and {len(digests) - NAMED_MOST} more" if len(digests) > NAMED_MOST else ""
    return MissingBlobs(
        f"Files that the job names are not with the coordinator: {shown}{more}.",
        hint="Send them first; what no job uses is kept for a while only.",
    )


def _drop_uses(connection: sqlite3.Connection, job_id: JobId, now_wall: float) -> bool:
    row = connection.execute("SELECT number FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        return False
    query = "SELECT blob FROM uses WHERE job = ? ORDER BY blob LIMIT ?"
    numbers = connection.execute(query, (row[0], PAGE_ROWS)).fetchall()
    connection.executemany("UPDATE blobs SET used_at = ? WHERE number = ?", ((now_wall, *n) for n in numbers))
    connection.executemany("DELETE FROM uses WHERE job = ? AND blob = ?", ((row[0], *n) for n in numbers))
    if len(numbers) == PAGE_ROWS:
        return True
    connection.execute("DELETE FROM jobs WHERE number = ?", row)
    return False


_USED = "EXISTS(SELECT 1 FROM uses WHERE blob = number)"
_UNUSED = f"used_at < ? AND NOT {_USED}"


def _loose(connection: sqlite3.Connection, before_wall: float, after: int) -> Loose:
    query = "SELECT max(number) FROM (SELECT number FROM blobs WHERE number > ? ORDER BY number LIMIT ?)"
    (last,) = connection.execute(query, (after, PAGE_ROWS)).fetchone()
    if last is None:
        return Loose((), None)
    query = f"SELECT digest FROM blobs WHERE number > ? AND number <= ? AND {_UNUSED}"
    rows = connection.execute(query, (after, last, before_wall))
    return Loose(tuple(_name(row[0]) for row in rows), last)


def _remove(connection: sqlite3.Connection, digests: list[Digest], before_wall: float) -> list[Digest]:
    query = f"DELETE FROM blobs WHERE digest = ? AND {_UNUSED}"
    return [digest for digest in digests if connection.execute(query, (_key(digest), before_wall)).rowcount]
