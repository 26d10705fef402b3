"""One SQLite file: how it is opened, checked, migrated, written, read and copied.

Two lanes, each one thread with one connection of its own: the writer runs whole transactions, one at a
time (docs/adr/0002-one-writer-thread.md), the reader looks while the writer writes. Knows no table.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import msgspec

from planetmesh.errors import StorageFailed
from planetmesh.store.failures import BACKUP_MARK, damaged, translated

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

BUSY_SECONDS = 5.0
"""For a backup program or a curious person with the file open; we ourselves never wait for us."""
CACHE_KIB = 16 * 1024
"""Holds the hot end of the tables; small enough for a Raspberry Pi."""
CHECKPOINT_PAGES = 4000
"""16 MiB of log before a commit folds it into the file, should nobody ask for it earlier."""
LOG_KEPT_BYTES = 32 * 1024 * 1024
"""A log that grew beyond this is cut when it is next started over."""
VACUUM_PAGES = 512
"""Freed pages given back to the disk at a time: 2 MiB, a few milliseconds."""

# No mmap: a bad sector would then end the process by a signal instead of an error we can tell.
# auto_vacuum comes first: it can only be chosen while the file is empty.
_PRAGMAS = (
    "PRAGMA auto_vacuum=INCREMENTAL",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA cache_size=-{CACHE_KIB}",
    f"PRAGMA journal_size_limit={LOG_KEPT_BYTES}",
    f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA trusted_schema=OFF",
)


class Sizes(msgspec.Struct, frozen=True):
    """Bytes on disk, for metrics."""

    database_bytes: int
    log_bytes: int


_Then = Callable[[Any], None]
_Errand = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop, _Then | None]


def _tell(
    answer: asyncio.Future[Any], result: Any, failure: BaseException | None, then: _Then | None
) -> None:
    is_waited_for = not answer.done()
    if failure is not None:
        if is_waited_for:
            answer.set_exception(failure)
        return
    if is_waited_for:
        answer.set_result(result)
    if then is not None:
        then(result)


class Lane:
    """One thread with one connection, which no other thread touches.

    A queue of its own rather than an executor: a commit is made for every turn of the engine, and the
    executor's two chained futures and its locks cost a tenth of the coordinator's time.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._queue: SimpleQueue[_Errand | None] = SimpleQueue()
        self._thread = Thread(target=self._serve, name=f"{path.stem}-{name}", daemon=True)
        self._thread.start()
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def open(self, set_up: Callable[[sqlite3.Connection], None]) -> None:
        def work() -> None:
            self._connection = _connect(self._path)
            set_up(self._connection)

        await self._run(work)

    async def run(self, work: Work[T], then: Callable[[T], None] | None = None) -> T:
        """Run `work` on this lane's thread; whatever SQLite refuses comes back as StorageFailed.

        `then` is called in the loop when it is done, also if the caller has been cancelled meanwhile.
        """
        return await self._run(lambda: work(self._open_connection()), then)

    async def close(self) -> None:
        """Wait for what is under way, then let the file go. Closing twice is fine."""
        if self._closed:
            return
        try:
            await self._run(self._disconnect)
        finally:
            self._closed = True
            self._queue.put(None)

    async def _run(self, work: Callable[[], T], then: Callable[[T], None] | None = None) -> T:
        if self._closed:
            raise StorageFailed(f"The database {self._path} is closed.")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._queue.put((work, answer, loop, then))
        with translated(self._path):
            return await answer

    def _serve(self) -> None:
        """The thread: one errand after the other until the end."""
        while (errand := self._queue.get()) is not None:
            work, answer, loop, then = errand
            result, failure = None, None
            try:
                result = work()
            except BaseException as error:
                failure = error
            # A loop that has been closed meanwhile has nobody who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_tell, answer, result, failure, then)
            del errand, work, answer, result, failure, then

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StorageFailed(f"The database {self._path} is closed.")
        return self._connection


class Database:
    """An open database file. Make one with `open`, and `close` it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = Lane(path, "writer")
        self._reader = Lane(path, "reader")

    @classmethod
    async def open(
        cls, path: Path, migrations: Sequence[str], *, beside: dict[str, Path] | None = None
    ) -> Database:
        """Open or make the file at `path`, check it and bring it up to date.

        `beside` names further databases that reads may look into, by schema name.
        Raises StorageFailed if the file is damaged, newer than this program, or cannot be used.
        """
        database = cls(path)
        try:
            with translated(path):
                _make_private(path)
            await database._writer.open(lambda connection: _prepare(connection, path, migrations))
            await database._reader.open(lambda connection: _prepare_reader(connection, beside or {}))
        except BaseException:
            await database.close()
            raise
        return database

    async def write(self, work: Work[T], then: Callable[[T], None] | None = None) -> T:
        """Run `work` in one transaction: all of it is on disk when this returns, nothing when it raises.

        `then` is called in the loop once it is on disk, also if the caller has been cancelled meanwhile.
        """
        return await self._writer.run(lambda connection: _transact(connection, work), then)

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one consistent view of what is committed."""
        return await self._reader.run(lambda connection: _look(connection, work))

    async def checkpoint(self) -> None:
        """Fold the log into the file, to be begun anew, and give freed pages back. For quiet moments."""
        await self._writer.run(_checkpoint)

    async def check(self) -> None:
        """Compare every index with its table; raises StorageFailed. Slow on big files: on demand only."""
        path = self.path
        await self._reader.run(lambda connection: _check(connection, path, "integrity_check"))

    async def backup(self, target: Path) -> None:
        """Write a whole, compact copy (0600) to `target` while the mesh goes on."""
        with translated(self.path):
            await asyncio.to_thread(_copy, self.path, target)

    def sizes(self) -> Sizes:
        return Sizes(_size(self.path), _size(_log_of(self.path)))

    async def close(self) -> None:
        """Close both lanes; the writer last, since it folds the log into the file."""
        try:
            await self._reader.close()
        finally:
            await self._writer.close()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, cached_statements=256, uri=False)


def _prepare(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    _check(connection, path, "quick_check")
    _migrate(connection, path, migrations)


def _prepare_reader(connection: sqlite3.Connection, beside: dict[str, Path]) -> None:
    for schema, path in beside.items():
        path.stat()  # ATTACH would make a missing file
        connection.execute("ATTACH ? AS " + schema, (str(path),))
    for pragma in ("PRAGMA query_only=ON", f"PRAGMA cache_size=-{CACHE_KIB}", "PRAGMA temp_store=MEMORY"):
        connection.execute(pragma)
    # One connection alone folds the log: two that do so at once is a corner we stay out of.
    connection.execute("PRAGMA wal_autocheckpoint=0")


def _check(connection: sqlite3.Connection, path: Path, pragma: str) -> None:
    findings = [row[0] for row in connection.execute(f"PRAGMA {pragma}(3)")]
    if findings != ["ok"]:
        raise damaged(path, "; ".join(findings))


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        raise StorageFailed(
            f"The database {path} was written by a newer planetmesh "
            f"(schema {version}, known {len(migrations)}).",
            hint="Upgrade planetmesh on this machine.",
        )
    if 0 < version < len(migrations):
        _copy(path, path.with_name(f"{path.name}{BACKUP_MARK}schema-{version}"))
    for number, script in enumerate(migrations[version:], version + 1):
        try:
            connection.executescript(f"BEGIN IMMEDIATE;{script};PRAGMA user_version={number};COMMIT;")
        except BaseException:
            _roll_back(connection)
            raise


def _transact(connection: sqlite3.Connection, work: Work[T]) -> T:
    try:
        connection.execute("BEGIN IMMEDIATE")
        result = work(connection)
        connection.execute("COMMIT")
        return result
    except BaseException:
        _roll_back(connection)
        raise


def _look(connection: sqlite3.Connection, work: Work[T]) -> T:
    connection.execute("BEGIN")
    try:
        return work(connection)
    finally:
        _roll_back(connection)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _checkpoint(connection: sqlite3.Connection) -> None:
    # Gives back a page for each step; only a script is stepped to its end.
    connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
    # Not cut: a commit that makes the log longer costs the disk twice what one over its old pages does.
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()


def _copy(path: Path, target: Path) -> None:
    unfinished = target.with_name(f".{target.name}.new")
    unfinished.unlink(missing_ok=True)
    _make_private(unfinished)
    try:
        connection = _connect(path)
        try:
            connection.execute("VACUUM INTO ?", (str(unfinished),))
        finally:
            connection.close()
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def _make_private(path: Path) -> None:
    """Make the file 0600 before SQLite sees it; its log and index files take the mode over."""
    # An existing file is not opened here: closing any descriptor of it would drop SQLite's own locks.
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    path.chmod(0o600)


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
