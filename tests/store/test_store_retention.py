"""Nothing grows for ever, and no sweep takes long."""

from __future__ import annotations

import pytest
from store_rows import job, tasks

from planetmesh.model.identity import CertificateRecord, CertificateState, Role
from planetmesh.model.ids import JobId
from planetmesh.model.job import Attempt, Counts, Outcome, TaskState
from planetmesh.settings import Settings
from planetmesh.store import retention
from planetmesh.store.changes import AuditRow, Changes, FeedRow
from planetmesh.store.outputs import Outputs
from planetmesh.store.store import Store
from planetmesh.wire.agent import TaskOutput

DAY = 86400.0
SETTINGS = Settings(keep_jobs_seconds=14 * DAY, feed_keep_rows=10)


async def _ended(store: Store, number: int, count: int, completed_at: float) -> JobId:
    one = job(number, count, completed_at=completed_at)
    await store.commit(
        Changes(
            jobs=[one],
            tasks=tasks(one, 0, count, TaskState.COMPLETED),
            attempts=[Attempt(one.id, 0, 1, None, Outcome.LOST, None, "", None, 1.0)],
            counts={one.id: Counts(completed=count)},
        )
    )
    return one.id


async def test_old_jobs_go_with_all_they_had(store: Store, outputs: Outputs) -> None:
    old = await _ended(store, 1, 10, DAY)
    new = await _ended(store, 2, 10, 10 * DAY)
    live = job(3)
    await store.commit(Changes(jobs=[live]))
    await outputs.append([TaskOutput(of, 0, 1, 1, 0, b"hello") for of in (old, new)])
    swept = await store.sweep(16 * DAY, SETTINGS, outputs.drop_job)
    assert (swept.jobs, swept.rows, swept.more) == ([old], 11, False)
    assert [j.id for j in await store.jobs(9)] == [live.id, new]
    assert await store.tasks(old, 0, 10) == []
    assert await store.attempts(old, 0) == []
    assert await outputs.read(old, 0) == []
    assert len(await outputs.read(new, 0)) == 1
    assert (await store.sweep(16 * DAY, SETTINGS)).jobs == []


async def test_a_sweep_is_bounded_and_is_carried_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ROWS_MOST", 100)
    monkeypatch.setattr(retention, "JOBS_MOST", 2)
    for number in range(3):
        await _ended(store, number, 150, DAY + number)
    sweeps = []
    while not sweeps or sweeps[-1].more:
        sweeps.append(await store.sweep(99 * DAY, SETTINGS))
    assert max(swept.rows for swept in sweeps) <= 100
    assert sum(swept.rows for swept in sweeps) == 3 * 151
    assert [len(swept.jobs) for swept in sweeps[:3]] == [2, 1, 0]
    assert await store.jobs(9) == []


async def test_a_new_job_does_not_inherit_rows_of_a_swept_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "ROWS_MOST", 5)
    await _ended(store, 1, 50, DAY)
    assert (await store.sweep(99 * DAY, SETTINGS)).more
    fresh = job(2, 50)
    await store.commit(Changes(jobs=[fresh]))
    restored = (await store.load()).jobs[0]
    assert (restored.next_index, restored.tasks) == (0, [])


async def test_feed_audit_and_expired_certificates_are_bounded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AUDIT_KEEP_ROWS", 4)
    certificates = [
        CertificateRecord(f"{n:02x}", Role.AGENT, "n", "", n * DAY, CertificateState.ACTIVE) for n in (1, 90)
    ]
    await store.commit(
        Changes(
            feed=[FeedRow(n, "job", 1.0, b"{}") for n in range(1, 31)],
            audit=[AuditRow(float(n), "me", "did", "it") for n in range(10)],
            certificates=certificates,
        )
    )
    await store.sweep(60 * DAY, SETTINGS)
    assert [row.number for row in await store.feed_after(0, 99)] == list(range(21, 31))
    assert [row.at for row in await store.audit(99)] == [9.0, 8.0, 7.0, 6.0]
    snapshot = await store.load()
    assert snapshot.certificates == certificates[1:]
    assert snapshot.feed_number == 30


async def test_the_last_feed_number_survives_the_strictest_setting(store: Store) -> None:
    await store.commit(Changes(feed=[FeedRow(n, "job", 1.0, b"{}") for n in (1, 2)]))
    await store.sweep(1.0, Settings(feed_keep_rows=0))
    assert (await store.load()).feed_number == 2


async def test_freed_space_goes_back_to_the_disk(store: Store) -> None:
    await _ended(store, 1, 20_000, DAY)
    await store.checkpoint()
    before = store.sizes().database_bytes
    while (await store.sweep(99 * DAY, SETTINGS)).more:
        pass
    await store.checkpoint()
    assert store.sizes().database_bytes < before / 2
