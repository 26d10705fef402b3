"""What a backup takes out of the database: the members, as of one moment, and no jobs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from store_rows import job, tasks

from planetmesh.errors import StorageFailed
from planetmesh.model.identity import CertificateRecord, CertificateState, Role
from planetmesh.model.ids import NodeId
from planetmesh.model.job import Counts, TaskState
from planetmesh.model.node import Node
from planetmesh.paths import Home
from planetmesh.store.changes import AuditRow, Changes, FeedRow
from planetmesh.store.members import KEPT, copy_of_members
from planetmesh.store.schema import MESH
from planetmesh.store.store import Store

LEAVE_OUT = {
    "jobs": "would run again what has run since",
    "specs": "of jobs",
    "tasks": "of jobs",
    "attempts": "of jobs",
    "swept_jobs": "of jobs",
    "more_inputs": "of jobs",
    "feed": "only its last row, which holds the number",
    "sqlite_sequence": "SQLite's own",
}


def rows(path: Path, table: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


def opened(content: bytes, path: Path) -> Path:
    path.write_bytes(content)
    return path


async def filled(store: Store) -> None:
    record = CertificateRecord(
        serial="1a", role=Role.AGENT, id="a" * 32, spki_hash="x", not_after=2e9, state=CertificateState.ACTIVE
    )
    one = job(1, 3)
    await store.commit(
        Changes(
            nodes=[Node(id=NodeId("a" * 32), name="desk")],
            certificates=[record],
            audit=[AuditRow(1.0, "anna", "submit", "j", "command", address="10.0.0.1")],
            meta={"tuning": '{"prefill_most": 7}'},
            jobs=[one],
            tasks=tasks(one, 0, 3, TaskState.QUEUED),
            counts={one.id: Counts(queued=3)},
            feed=[FeedRow(number, "job", 1.0, b"{}") for number in (1, 2, 900)],
        )
    )


async def test_members_and_settings_go_along_and_jobs_do_not(home: Home, store: Store, tmp_path: Path):
    await filled(store)
    copy = opened(copy_of_members(home), tmp_path / "copy.db")
    for table in KEPT:
        assert rows(copy, table) == rows(home.database, table), table
        assert rows(copy, table) or table == "learned", table
    assert [row[0] for row in rows(copy, "feed")] == [900]
    assert not [
        table for table in LEAVE_OUT if table not in {"feed", "sqlite_sequence"} and rows(copy, table)
    ]


async def test_every_table_is_taken_or_left_for_a_reason(home: Home, store: Store):
    found = rows(home.database, "sqlite_master WHERE type = 'table'")
    assert {name for _type, name, *_ in found} == {*KEPT, *LEAVE_OUT}


async def test_a_store_opens_what_was_copied(home: Home, store: Store, tmp_path: Path):
    await filled(store)
    other = Home(tmp_path / "other")
    other.prepare()
    opened(copy_of_members(home), other.database)
    again = await Store.open(other)
    try:
        await again.check()
        found = await again.load()
        assert [node.name for node in found.nodes] == ["desk"]
        assert (found.jobs, found.feed_number) == ([], 900)
    finally:
        await again.close()


async def test_nothing_is_changed_by_it(home: Home, store: Store):
    await filled(store)
    before = {table: rows(home.database, table) for table in (*KEPT, "jobs", "tasks", "feed")}
    copy_of_members(home)
    assert {table: rows(home.database, table) for table in before} == before
    await store.commit(Changes(meta={"still": "writes"}))


@pytest.mark.parametrize("version", [len(MESH) - 1, len(MESH) + 1])
def test_another_versions_database_is_refused(tmp_path: Path, version: int):
    home = Home(tmp_path)
    with closing(sqlite3.connect(home.database)) as connection:
        connection.execute(f"PRAGMA user_version={version}")
    with pytest.raises(StorageFailed, match="another version"):
        copy_of_members(home)


def test_without_a_database_it_says_so_and_makes_none(tmp_path: Path):
    home = Home(tmp_path)
    with pytest.raises(StorageFailed, match="no database"):
        copy_of_members(home)
    assert not home.database.exists()


def test_a_damaged_one_is_told(tmp_path: Path):
    home = Home(tmp_path)
    home.database.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(StorageFailed, match="damaged"):
        copy_of_members(home)
