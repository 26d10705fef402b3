"""Which blobs there are and what uses them: nothing that is used goes, nothing else stays for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from store_rows import job

from planetmesh.errors import BadInput, MissingBlobs
from planetmesh.model.blob import Digest
from planetmesh.model.ids import JobId, new_job_id
from planetmesh.paths import Home
from planetmesh.store import blobs
from planetmesh.store.blobs import Ledger
from planetmesh.store.changes import Changes
from planetmesh.store.store import Store

ONE, TWO = JobId("0000000001"), JobId("0000000002")


def digest(number: int) -> Digest:
    return Digest(f"{number:064x}")


def digests(*numbers: int) -> list[Digest]:
    return [digest(number) for number in numbers]


@pytest.fixture
async def ledger(home: Home, store: Store) -> AsyncIterator[Ledger]:
    ledger = await Ledger.open(home)
    yield ledger
    await ledger.close()


async def all_loose(ledger: Ledger, before: float) -> set[Digest]:
    found: set[Digest] = set()
    after: int | None = 0
    while after is not None:
        page = await ledger.loose(before, after)
        found.update(page.digests)
        after = page.after
    return found


async def test_what_is_there(ledger: Ledger) -> None:
    await ledger.add({digest(1): 10, digest(2): 20}, 1.0)
    await ledger.add({digest(2): 20}, 2.0)
    assert await ledger.sizes_of(digests(1, 2, 3)) == {digest(1): 10, digest(2): 20}
    assert await ledger.totals() == blobs.Totals(2, 30)
    assert await ledger.page() == (digests(1, 2), None)
    assert not await ledger.used(digests(1))


async def test_uses_are_kept_whole_or_not_at_all(ledger: Ledger) -> None:
    await ledger.add({digest(1): 10}, 1.0)
    with pytest.raises(MissingBlobs) as refused:
        await ledger.add_uses(ONE, dict.fromkeys(digests(*range(1, 20)), 10), 1.0)
    assert digest(2) in refused.value.message
    assert digest(1) not in refused.value.message
    assert "and 8 more" in refused.value.message
    assert not await ledger.used(digests(1))
    with pytest.raises(BadInput):
        await ledger.add_uses(ONE, {digest(1): 11}, 1.0)
    for _twice in range(2):
        await ledger.add_uses(ONE, {digest(1): 10}, 1.0)
    assert await ledger.used(digests(1)) == {digest(1)}


async def test_only_what_nothing_used_for_long_goes(ledger: Ledger) -> None:
    await ledger.add({digest(number): 1 for number in range(1, 6)}, 1.0)
    await ledger.add_uses(ONE, dict.fromkeys(digests(1, 2), 1), 1.0)
    await ledger.add({digest(3): 1}, 1.0, TWO)
    await ledger.touch(digests(4), 100.0)
    assert await all_loose(ledger, 50.0) == {digest(5)}
    await ledger.add_uses(TWO, dict.fromkeys(digests(1), 1), 1.0)
    assert not await ledger.drop_uses(ONE, 100.0)
    assert not await ledger.used(digests(2))
    assert await ledger.used(digests(1)) == {digest(1)}, "another job uses it still"
    assert await all_loose(ledger, 50.0) == {digest(5)}, "its grace has just begun"
    assert await all_loose(ledger, 101.0) == set(digests(2, 4, 5))


async def test_what_was_used_meanwhile_stays(ledger: Ledger) -> None:
    await ledger.add({digest(number): 1 for number in range(1, 4)}, 1.0)
    found = await all_loose(ledger, 50.0)
    await ledger.add_uses(ONE, dict.fromkeys(digests(1), 1), 60.0)
    await ledger.touch(digests(2), 70.0)
    assert await ledger.remove(sorted(found), 50.0) == digests(3)
    assert set(await ledger.sizes_of(digests(1, 2, 3))) == set(digests(1, 2))


async def test_uses_of_jobs_that_never_came_or_are_gone(ledger: Ledger, store: Store) -> None:
    known = job(1)
    await store.commit(Changes(jobs=[known]))
    await ledger.add({digest(1): 1}, 1.0)
    for each in (known.id, TWO):
        await ledger.add_uses(each, dict.fromkeys(digests(1), 1), 1.0)
    assert await ledger.gone_jobs(1.0) == [], "it may still be on its way"
    assert await ledger.gone_jobs(2.0) == [TWO]


async def test_sweeps_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "PAGE_ROWS", 3)
    await ledger.add({digest(number): 1 for number in range(1, 8)}, 1.0)
    await ledger.add_uses(ONE, dict.fromkeys(digests(*range(1, 8)), 1), 1.0)
    assert (await ledger.loose(50.0)).digests == ()
    assert [await ledger.drop_uses(ONE, 2.0) for _ in range(3)] == [True, True, False]
    assert await ledger.page(3) == (digests(4, 5, 6), 6)
    assert len(await all_loose(ledger, 50.0)) == 7
    assert not await ledger.drop_uses(ONE, 2.0)


async def test_many_at_once(ledger: Ledger) -> None:
    many = {digest(number * 7919): number for number in range(30_000)}
    await ledger.add(many, 1.0)
    owner = new_job_id()
    await ledger.add_uses(owner, many, 2.0)
    assert await ledger.sizes_of(many) == many
    assert await all_loose(ledger, 50.0) == set()


async def test_it_is_there_after_a_restart(home: Home, ledger: Ledger) -> None:
    await ledger.add({digest(1): 10}, 1.0, ONE)
    await ledger.close()
    again = await Ledger.open(home)
    assert await again.used(digests(1, 2)) == {digest(1)}
    assert home.blobs_database.stat().st_mode & 0o077 == 0
    await again.close()
