"""Output: kept once, read in both orders, shared commits, woken followers."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
from store_rows import job, tasks

from planetmesh.errors import Conflict, StorageFailed
from planetmesh.model.ids import JobId
from planetmesh.model.job import Counts, TaskState
from planetmesh.paths import Home
from planetmesh.settings import Settings
from planetmesh.store import outputs as outputs_room
from planetmesh.store import pieces as pieces_room
from planetmesh.store.changes import Changes
from planetmesh.store.database import Database
from planetmesh.store.outputs import Outputs
from planetmesh.store.store import Store
from planetmesh.wire.agent import TaskOutput
from planetmesh.wire.api import OutputPiece

JOB, OTHER = job(1).id, job(2).id


def piece(index: int, offset: int, data: bytes, attempt: int = 1, stream: int = 1) -> TaskOutput:
    return TaskOutput(JOB, index, attempt, stream, offset, data)


def told(pieces: list[OutputPiece]) -> list[tuple[int, bytes]]:
    return [(p.index, p.data) for p in pieces]


async def test_pieces_come_back_in_both_orders(outputs: Outputs) -> None:
    await outputs.append([piece(1, 0, b"b1"), piece(0, 0, b"a1"), TaskOutput(OTHER, 0, 1, 1, 0, b"other")])
    await outputs.append([piece(1, 0, b"err", stream=2), piece(1, 2, b"b2"), piece(0, 2, b"a2")])
    followed = await outputs.read(JOB, 0)
    assert told(followed) == [(1, b"b1"), (0, b"a1"), (1, b"err"), (1, b"b2"), (0, b"a2")]
    assert told(await outputs.read(JOB, followed[2].number)) == [(1, b"b2"), (0, b"a2")]
    assert told(await outputs.read(JOB, 0, index=0)) == [(0, b"a1"), (0, b"a2")]
    assert told(await outputs.text(JOB)) == [
        (0, b"a1"), (0, b"a2"), (1, b"b1"), (1, b"err"), (1, b"b2"),
    ]  # fmt: skip
    assert told(await outputs.read(JobId("nosuchjob0"), 0)) == []


async def test_what_was_sent_twice_is_kept_once(outputs: Outputs) -> None:
    sent = [piece(0, 0, b"abc"), piece(0, 3, b"def")]
    await outputs.append(sent)
    await outputs.append(sent)
    await outputs.append([piece(0, 6, b"ghi"), piece(0, 3, b"def"), piece(0, 1, b"bcd"), piece(0, 9, b"")])
    assert [p.data for p in await outputs.read(JOB, 0)] == [b"abc", b"def", b"ghi"]


async def test_a_follower_of_values_gets_what_is_new_as_it_lies_on_the_disk(outputs: Outputs) -> None:
    await outputs.append([piece(0, 0, b"before", stream=3)])
    with outputs.subscribe_values() as fresh:
        assert fresh.take() is None, "what was there before must be read from the disk"
        await outputs.append(
            [piece(0, 0, b"printed"), piece(0, 6, b"a", stream=3), piece(1, 0, b"b", stream=3)]
        )
        assert fresh.news.is_set()
        await outputs.append([piece(0, 6, b"a", stream=3), piece(0, 7, b"c", stream=3)])
        assert fresh.take() == (await outputs.values(0))[1:]
        assert fresh.take() == []


async def test_what_a_caller_wrote_who_was_cancelled_meanwhile_is_told_too(outputs: Outputs) -> None:
    with outputs.subscribe_values() as fresh:
        fresh.take()
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(outputs.append([piece(0, 0, b"a", stream=3)]))
            await asyncio.sleep(0)  # it waits for the disk
            writing.cancel()
        await outputs.append([piece(0, 0, b"a", stream=3), piece(0, 1, b"b", stream=3)])
        assert fresh.take() == await outputs.values(0)
        assert len(await outputs.values(0)) == 2


@pytest.mark.parametrize("bound", ["PAGE_BYTES", "PIECES_MOST"])
async def test_what_is_too_much_for_a_slow_follower_is_read_from_the_disk(
    outputs: Outputs, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs_room, bound, 2)
    with outputs.subscribe_values() as fresh:
        fresh.take()
        await outputs.append([piece(0, 0, b"1", stream=3), piece(1, 0, b"2", stream=3)])
        await outputs.append([piece(2, 0, b"3", stream=3)])
        assert fresh.take() is None
        assert len(await outputs.values(0)) == 3
        await outputs.append([piece(3, 0, b"4", stream=3)])
        assert [each[1].data for each in fresh.take() or ()] == [b"4"]


async def test_a_stream_is_kept_up_to_its_cap_only(home: Home, store: Store) -> None:
    outputs = await Outputs.open(home, Settings(output_most_bytes=10))
    await outputs.append(
        [piece(0, 0, b"12345678"), piece(0, 8, b"90x"), piece(0, 8, b"90"), piece(0, 1 << 62, b"far")]
    )
    await outputs.append([piece(1, -1, b"odd")])
    assert [p.data for p in await outputs.read(JOB, 0)] == [b"12345678", b"90"]
    await outputs.close()


async def test_a_stream_has_only_so_many_pieces_however_small(outputs: Outputs, monkeypatch) -> None:
    monkeypatch.setattr(pieces_room, "PLACES_MOST", 3)
    await outputs.append([piece(0, offset, b"x") for offset in range(0, 10, 2)])
    await outputs.append([piece(0, 20, b"x"), piece(0, 0, b"y", stream=2), piece(0, 0, b"z", attempt=2)])
    assert [p.data for p in await outputs.read(JOB, 0)] == [b"x", b"x", b"x", b"y", b"z"]


async def test_an_odd_piece_does_not_spoil_the_commit_it_shares(outputs: Outputs) -> None:
    odd = [piece(2**64 - 1, 0, b"x"), piece(0, 0, b"x", attempt=-1), piece(0, 0, b"x", stream=4)]
    await outputs.append([*odd, piece(0, 0, b"good")])
    assert told(await outputs.read(JOB, 0)) == [(0, b"good")]


async def test_all_callers_of_a_refused_commit_hear_of_it(outputs: Outputs) -> None:
    def spoil(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE pieces")

    await outputs._database.write(spoil)
    answers = await asyncio.gather(
        *(outputs.append([piece(i, 0, b"x")]) for i in range(3)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [StorageFailed] * 3


async def test_text_shows_the_last_attempt_even_if_it_was_silent(store: Store, outputs: Outputs) -> None:
    one = job(1)
    rows = tasks(one, 0, 1, TaskState.COMPLETED, attempt=2) + tasks(one, 1, 2, TaskState.COMPLETED, attempt=2)
    await store.commit(Changes(jobs=[one], tasks=rows, counts={JOB: Counts(queued=8, completed=2)}))
    await outputs.append([piece(0, 0, b"failed"), piece(1, 0, b"failed"), piece(1, 0, b"good", attempt=2)])
    assert told(await outputs.text(JOB)) == [(1, b"good")]
    assert len(await outputs.read(JOB, 0)) == 3, "followers see every attempt"


async def test_text_is_read_page_by_page(outputs: Outputs) -> None:
    await outputs.append([piece(i, o, b"%d%d" % (i, o)) for o in (0, 2, 4) for i in (2, 1, 0)])
    shown: list[OutputPiece] = []
    while page := await outputs.text(
        JOB, shown[-1].index if shown else 0, shown[-1].number if shown else 0, 5
    ):
        assert len(page) <= 2
        shown += page
    assert [p.data.decode() for p in shown] == [f"{i}{o}" for i in (0, 1, 2) for o in (0, 2, 4)]
    assert len(await outputs.read(JOB, 0, limit_bytes=1)) == 1, "one piece always comes"


async def test_callers_that_come_together_share_a_commit(
    outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = 0
    write = Database.write

    async def counting(self: Database, work, then):  # type: ignore[no-untyped-def]
        nonlocal commits
        commits += 1
        return await write(self, work, then)

    monkeypatch.setattr(Database, "write", counting)
    async with asyncio.TaskGroup() as group:
        for index in range(50):
            group.create_task(outputs.append([piece(index, 0, b"x")]))
    assert len(await outputs.read(JOB, 0)) == 50
    assert commits <= 2


async def test_a_cancelled_leader_leaves_no_caller_waiting(outputs: Outputs) -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        leader = group.create_task(outputs.append([piece(0, 0, b"a")]))
        others = [group.create_task(outputs.append([piece(i, 0, b"b")])) for i in range(1, 4)]
        await asyncio.sleep(0)
        leader.cancel()
        await asyncio.gather(*others)
    assert {p.index for p in await outputs.read(JOB, 0)} >= {1, 2, 3}


async def test_followers_are_woken_and_forgotten(outputs: Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    with outputs.subscribe(JOB) as mine, outputs.subscribe(OTHER) as others:
        await outputs.append([piece(0, 0, b"x")])
        assert mine.is_set()
        assert not others.is_set()
        monkeypatch.setattr(outputs_room, "FOLLOWERS_MOST", 2)
        with pytest.raises(Conflict), outputs.subscribe(JOB):
            pass
    assert outputs._followers == {}


async def test_a_job_is_dropped_and_others_stay(outputs: Outputs) -> None:
    await outputs.append([piece(i, 0, b"x" * 100) for i in range(1500)])
    await outputs.append([TaskOutput(OTHER, 0, 1, 1, 0, b"stays")])
    await outputs.drop_job(JOB)
    await outputs.drop_job(JOB)
    assert await outputs.read(JOB, 0) == []
    assert told(await outputs.read(OTHER, 0)) == [(0, b"stays")]


async def test_outputs_need_the_mesh_beside_them(home: Home) -> None:
    with pytest.raises(StorageFailed):
        await Outputs.open(home, Settings())
    assert not home.database.exists()
