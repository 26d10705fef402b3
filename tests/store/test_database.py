"""The file itself: its mode, its checks, its migrations, and what is left after a crash."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from store_rows import job, tasks, verify

from planetmesh.errors import StorageFailed
from planetmesh.model.job import TaskState
from planetmesh.paths import Home
from planetmesh.store.changes import Changes
from planetmesh.store.database import Database
from planetmesh.store.schema import MESH
from planetmesh.store.store import Store

FIRST = "CREATE TABLE words(word TEXT NOT NULL)"
SECOND = "ALTER TABLE words ADD COLUMN length INTEGER; UPDATE words SET length = length(word);"


async def _add(database: Database, word: str) -> None:
    await database.write(lambda c: c.execute("INSERT INTO words(word) VALUES(?)", (word,)))


async def _words(database: Database) -> list[tuple[object, ...]]:
    return await database.read(lambda c: c.execute("SELECT * FROM words ORDER BY word").fetchall())


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: _mode(path) for path in folder.iterdir()}


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
async def test_nobody_else_can_read_the_files(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        database = await Database.open(tmp_path / "a.db", [FIRST])
        await _add(database, "one")
        await database.backup(tmp_path / "copy.db")
    finally:
        os.umask(before)
    assert _modes(tmp_path) == dict.fromkeys(["a.db", "a.db-wal", "a.db-shm", "copy.db"], 0o600)
    await database.close()
    (tmp_path / "a.db").chmod(0o644)
    await (await Database.open(tmp_path / "a.db", [FIRST])).close()
    assert _mode(tmp_path / "a.db") == 0o600


async def test_the_pragmas_that_keep_promises(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "a.db", [FIRST])
    asked = ("journal_mode", "synchronous", "foreign_keys", "auto_vacuum")

    def ask(connection: sqlite3.Connection) -> list[object]:
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in asked]

    assert await database._writer.run(ask) == ["wal", 2, 1, 2]
    with pytest.raises(StorageFailed):
        await database.read(lambda c: c.execute("INSERT INTO words VALUES('x')"))
    await database.close()


async def test_an_old_file_is_migrated_after_a_copy_was_made(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = await Database.open(path, [FIRST])
    await _add(database, "three")
    await database.close()

    database = await Database.open(path, [FIRST, SECOND])
    assert await _words(database) == [("three", 5)]
    await database.close()
    copy = tmp_path / "a.db.backup-schema-1"
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT * FROM words").fetchall() == [("three",)]
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    if sys.platform != "win32":
        assert _mode(copy) == 0o600

    with pytest.raises(StorageFailed, match="newer"):
        await Database.open(path, [FIRST])


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = await Database.open(path, [FIRST])
    await _add(database, "three")
    await database.close()
    with pytest.raises(StorageFailed):
        await Database.open(path, [FIRST, SECOND + "INSERT INTO nowhere VALUES(1);"])
    database = await Database.open(path, [FIRST])
    assert await _words(database) == [("three",)]
    await database.close()


OLD_ROWS = (
    "INSERT INTO nodes VALUES('n1', 'desk', NULL, 'OFFLINE', 0, '[]', 1.0, 5.0, NULL, '[]')",
    (
        "INSERT INTO jobs(number, id, submitter, key, name, type, priority, partial, total, created_at, "
        "cancel_reason, queued) VALUES(1, 'j000000000', 'me', '', '', 'command', 0, 0, 3, 5.0, '', 3)"
    ),
    (
        "INSERT INTO tasks(job, idx, state, attempt, node, failures, losses, excluded, started_at, error) "
        "VALUES(1, 0, 2, 1, 'n1', 0, 0, '', 7.0, '')"
    ),
)


async def test_a_mesh_of_schema_2_goes_on_and_there_is_a_way_back(home: Home) -> None:
    spec = msgspec.json.encode(job(count=3).spec)
    old = await Database.open(home.database, MESH[:2])
    for row in OLD_ROWS:
        await old.write(lambda c, row=row: c.execute(row))
    await old.write(lambda c: c.execute("INSERT INTO specs VALUES(1, ?)", (spec,)))
    await old.close()

    store = await Store.open(home)
    snapshot = await store.load()
    await store.close()
    assert [(task.index, task.begun_at) for task in snapshot.jobs[0].tasks] == [(0, None)]
    assert snapshot.jobs[0].job.waiting_since is None
    assert snapshot.learned == {}

    with pytest.raises(StorageFailed, match="newer"):
        await Database.open(home.database, MESH[:2])
    copy = home.database.with_name(f"{home.database.name}.backup-schema-2")
    back = await Database.open(copy, MESH[:2])
    assert await back.read(lambda c: c.execute("SELECT id FROM jobs").fetchall()) == [("j000000000",)]
    await back.close()


async def test_a_damaged_file_is_named_with_its_copies(home: Home) -> None:
    store = await Store.open(home)
    one = job(count=5000)
    await store.commit(Changes(jobs=[one], tasks=tasks(one, 0, 5000, TaskState.QUEUED, error="x" * 40)))
    copy = await store.backup()
    await store.close()
    with home.database.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(os.urandom(4096 * 20))
    with pytest.raises(StorageFailed, match="damaged") as failure:
        await Store.open(home)
    assert copy.name in failure.value.hint

    shutil.copy(copy, home.database)
    store = await Store.open(home)
    assert len(await store.tasks(one.id, 0, 9999)) == 5000
    await store.check()
    await store.close()


async def test_a_file_that_is_no_database(home: Home) -> None:
    home.database.write_bytes(b"My shopping list: " + b"milk " * 2000)
    with pytest.raises(StorageFailed, match="damaged") as failure:
        await Store.open(home)
    assert "no copy" in failure.value.hint
    home.database.unlink()
    home.database.mkdir()
    with pytest.raises(StorageFailed):
        await Store.open(home)


async def test_an_empty_file_is_a_new_database(home: Home) -> None:
    home.database.touch()
    store = await Store.open(home)
    assert (await store.load()).jobs == []
    await store.close()


@pytest.mark.parametrize("lost_bytes", [1, 100, 4096, 5000])
async def test_a_torn_end_of_the_log_loses_only_what_was_not_finished(
    home: Home, new_folder: Callable[[], Path], lost_bytes: int
) -> None:
    store = await Store.open(home)
    one, rows = job(count=100), tasks(job(), 0, 50, TaskState.QUEUED)
    await store.commit(Changes(jobs=[one], tasks=rows[:25]))
    whole = store.sizes().log_bytes
    await store.commit(Changes(tasks=rows[25:], meta={"late": "x" * 20_000}))
    torn = Home(new_folder())
    _copy_torn(home, torn, keep_bytes=max(whole, store.sizes().log_bytes - lost_bytes))
    await store.close()
    store = await Store.open(torn)
    snapshot = await store.load()
    await store.close()
    assert snapshot.jobs[0].next_index == 25
    assert snapshot.meta == {}


def _copy_torn(home: Home, torn: Home, keep_bytes: int) -> None:
    """What a power cut leaves of a commit that was not acknowledged: its last pages missing."""
    shutil.copy(home.database, torn.database)
    log = Path(f"{home.database}-wal").read_bytes()
    Path(f"{torn.database}-wal").write_bytes(log[:keep_bytes])


async def test_the_log_is_begun_anew_after_a_checkpoint_and_keeps_its_room(store: Store) -> None:
    sizes = []
    for turn in range(4):
        await store.commit(Changes(meta={str(n): f"{turn}" * 1000 for n in range(1000)}))
        await store.checkpoint()
        assert store.sizes().database_bytes > 1_000_000
        sizes.append(store.sizes().log_bytes)
    assert sizes[1] > 1_000_000
    assert len(set(sizes[1:])) == 1


async def test_the_log_stays_small_without_anybody_asking(store: Store) -> None:
    for turn in range(40):
        await store.commit(Changes(meta={str(n): f"{turn}" * 1000 for n in range(1000)}))
    assert store.sizes().log_bytes < 40_000_000


CRASHING = """
import asyncio, sys
from pathlib import Path
from store_rows import counted, job, tasks
from planetmesh.model.job import TaskState
from planetmesh.paths import Home
from planetmesh.store.changes import Changes
from planetmesh.store.store import Store

async def main():
    store = await Store.open(Home(Path(sys.argv[1])))
    one, rows = job(count=10**6), []
    await store.commit(Changes(jobs=[one]))
    for batch in range(2000):
        rows += tasks(one, batch * 50, batch * 50 + 50, TaskState.COMPLETED)
        await store.commit(Changes(tasks=rows[-50:], counts={one.id: counted(one, rows)}))
        print(batch + 1, flush=True)

asyncio.run(main())
"""


def _kill_after(home: Home, acknowledged: int) -> int:
    """Kill a process in the midst of its commits; the last one it was told to be on disk."""
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])}
    command = [sys.executable, "-c", CRASHING, str(home.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        last = 0
        while last < acknowledged:
            last = int(process.stdout.readline())
        process.kill()
        last = max([last, *map(int, process.stdout.read().split())])
    assert process.returncode not in (0, 1)
    return last


@pytest.mark.parametrize("acknowledged", [1, 7, 23])
async def test_kill_in_the_middle_of_a_commit_loses_nothing_acknowledged(
    home: Home, acknowledged: int
) -> None:
    last = await asyncio.to_thread(_kill_after, home, acknowledged)
    store = await Store.open(home)
    restored = (await store.load()).jobs[0]
    await store.close()
    verify(home)
    assert restored.next_index % 50 == 0, "half a commit was kept"
    assert restored.next_index in (last * 50, last * 50 + 50)
