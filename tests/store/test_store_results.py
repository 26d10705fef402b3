"""What came of tasks: the accepted attempts' standard output, joined and one by one, in bounded reads."""

from __future__ import annotations

import pytest
from store_rows import job, tasks

from planetmesh.model.ids import JobId
from planetmesh.model.job import Counts, TaskState
from planetmesh.store import results as results_room
from planetmesh.store.changes import Changes
from planetmesh.store.outputs import Outputs
from planetmesh.store.results import Place, ShortOutput, Stdout
from planetmesh.store.store import Store
from planetmesh.wire.agent import TaskOutput

ONE = job(1, 8)
JOB = ONE.id


def piece(index: int, offset: int, data: bytes, attempt: int = 1, stream: int = 1) -> TaskOutput:
    return TaskOutput(JOB, index, attempt, stream, offset, data)


@pytest.fixture
async def outputs(store: Store, outputs: Outputs) -> Outputs:
    """A job of eight: 0 to 3 COMPLETED (1 by its second attempt), 4 FAILED, 5 RUNNING, the rest untouched."""
    rows = [
        *tasks(ONE, 0, 1, TaskState.COMPLETED),
        *tasks(ONE, 1, 2, TaskState.COMPLETED, attempt=2),
        *tasks(ONE, 2, 4, TaskState.COMPLETED),
        *tasks(ONE, 4, 5, TaskState.FAILED),
        *tasks(ONE, 5, 6, TaskState.RUNNING),
    ]
    counts = Counts(queued=2, running=1, completed=4, failed=1)
    await store.commit(Changes(jobs=[ONE], tasks=rows, counts={JOB: counts}))
    await outputs.append(
        [
            piece(3, 0, b"three\xff\x00"),
            piece(1, 0, b"lost"),
            piece(1, 0, b"one ", attempt=2),
            piece(0, 0, b"noise", stream=2),
            piece(0, 0, b"zero\n"),
            piece(1, 4, b"more\n", attempt=2),
            piece(4, 0, b"failed"),
            piece(5, 0, b"not yet"),
        ]
    )
    return outputs


ALL = b"zero\none more\nthree\xff\x00"


async def joined(outputs: Outputs, start: Place = (0, 0), limit_bytes: int = 1000) -> list[bytes]:
    """All pages, each as one text."""
    pages: list[bytes] = []
    following: Place | None = start
    while following is not None:
        page = await outputs.results(JOB, following, limit_bytes)
        pages.append(b"".join(page.data))
        following = page.following
    return pages


async def test_completed_tasks_are_joined_in_order(outputs: Outputs) -> None:
    assert await joined(outputs) == [ALL]
    assert await joined(outputs, (2, 0)) == [b"three\xff\x00"]
    assert (await outputs.results(JobId("nosuchjob0"))).data == ()


@pytest.mark.parametrize("limit_bytes", range(1, 30))
async def test_pages_of_any_size_make_the_same_text(outputs: Outputs, limit_bytes: int) -> None:
    pages = await joined(outputs, limit_bytes=limit_bytes)
    assert b"".join(pages) == ALL
    assert max(map(len, pages)) <= max(limit_bytes, len(b"three\xff\x00"))


async def test_a_read_looks_at_so_many_tasks_and_pieces_only(
    outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_room, "TASKS_MOST", 1)
    assert await joined(outputs) == [b"zero\n", b"one more\n", b"three\xff\x00", b"", b"", b""]
    monkeypatch.setattr(results_room, "PIECES_MOST", 1)
    assert (await joined(outputs))[:3] == [b"zero\n", b"one ", b"more\n"]


async def test_outputs_come_one_by_one_up_to_a_limit(outputs: Outputs) -> None:
    wanted = [(0, 1), (1, 2), (2, 1), (3, 1)]
    assert await outputs.stdouts(JOB, wanted, 100) == [
        Stdout(b"zero\n", is_cut=False, kept_bytes=5),
        Stdout(b"one more\n", is_cut=False, kept_bytes=9),
        Stdout(b"", is_cut=False),
        Stdout(b"three\xff\x00", is_cut=False, kept_bytes=7),
    ]
    assert await outputs.stdouts(JOB, wanted, 6) == [
        Stdout(b"zero\n", is_cut=False, kept_bytes=5),
        Stdout(b"one mo", is_cut=True, kept_bytes=9),
        Stdout(b"", is_cut=False),
        Stdout(b"three\xff", is_cut=True, kept_bytes=7),
    ]
    assert len(await outputs.stdouts(JOB, wanted, 100, limit_bytes=1)) == 1, "one always comes"
    assert len(await outputs.stdouts(JOB, wanted, 100, limit_bytes=6)) == 2
    assert await outputs.stdouts(JobId("nosuchjob0"), wanted[:1], 9) == [Stdout(b"", is_cut=False)]


async def test_outputs_that_were_not_kept_whole_are_found(
    store: Store, outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        *tasks(ONE, 0, 1, TaskState.COMPLETED, stdout_bytes=2000),
        *tasks(ONE, 1, 2, TaskState.COMPLETED, attempt=2, stdout_bytes=9),
        *tasks(ONE, 2, 3, TaskState.COMPLETED, stdout_bytes=1100),
        *tasks(ONE, 3, 4, TaskState.COMPLETED, stdout_bytes=2**70),
        *tasks(ONE, 4, 5, TaskState.FAILED, stdout_bytes=5000),
    ]
    await store.commit(Changes(tasks=rows))
    await outputs.append([piece(2, 0, b"x" * 600), piece(2, 600, b"y" * 500)])
    found = await outputs.short(JOB)
    assert found.found == (ShortOutput(0, 5, 2000), ShortOutput(3, 7, 2**63 - 1))
    assert (await outputs.short(JOB, 1)).found == found.found[1:]
    assert (await outputs.short(JobId("nosuchjob0"))).following is None
    monkeypatch.setattr(results_room, "TASKS_MOST", 1)
    assert [(await outputs.short(JOB, start)).following for start in (0, 1, 3, 4)] == [1, 3, 4, None]


async def test_an_output_ends_where_a_piece_of_it_was_lost(outputs: Outputs) -> None:
    await outputs.append([piece(2, 0, b"begin"), piece(2, 9, b"end")])
    assert await outputs.stdouts(JOB, [(2, 1)], 100) == [Stdout(b"begin", is_cut=True, kept_bytes=8)]
