"""Restart: replaying what was saved gives the same tables, whatever the order of commits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from store_rows import counted, job, tasks, verify

from planetmesh.model.ids import NodeId
from planetmesh.model.job import ENDED, Counts, Job, Outcome, Task, TaskState
from planetmesh.paths import Home
from planetmesh.store.changes import Changes
from planetmesh.store.store import Store

TASKS = 12
_nodes = st.sampled_from([NodeId("a" * 32), NodeId("b" * 32)])
_times = st.none() | st.floats(0, 2e9)


@st.composite
def _histories(draw: st.DrawFn) -> list[list[Task]]:
    """Commits of three jobs' tasks; rows appear in the order of the index, ended ones stay as they are."""
    placed = [0, 0, 0]
    ended: set[tuple[int, int]] = set()
    commits = []
    for _ in range(draw(st.integers(1, 5))):
        rows = []
        for _ in range(draw(st.integers(0, 8))):
            number = draw(st.integers(0, 2))
            index = draw(st.integers(0, min(placed[number], TASKS - 1)))
            if (number, index) in ended:
                continue
            placed[number] = max(placed[number], index + 1)
            task = draw(_tasks(job(number, TASKS), index))
            if task.ended:
                ended.add((number, index))
            rows.append(task)
        commits.append(rows)
    return commits


@st.composite
def _tasks(draw: st.DrawFn, of: Job, index: int) -> Task:
    return Task(
        job_id=of.id,
        index=index,
        state=draw(st.sampled_from(TaskState)),
        attempt=draw(st.integers(0, 5)),
        node_id=draw(st.none() | _nodes),
        failures=draw(st.integers(0, 5)),
        losses=draw(st.integers(0, 5)),
        excluded=tuple(draw(st.lists(_nodes, max_size=2, unique=True))),
        retry_at=draw(st.floats(0, 1e6)),
        started_at=draw(_times),
        finished_at=draw(_times),
        exit_code=draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
        outcome=draw(st.none() | st.sampled_from(Outcome)),
        error=draw(st.text(max_size=20)),
    )


@given(_histories())
@settings(max_examples=25, deadline=None)
def test_what_was_saved_is_what_is_restored(
    new_folder: Callable[[], Path], commits: list[list[Task]]
) -> None:
    asyncio.run(_replay(Home(new_folder()), commits))


async def _replay(home: Home, commits: list[list[Task]]) -> None:
    jobs = {made.id: made for made in (job(number, TASKS) for number in range(3))}
    rows: dict[tuple[str, int], Task] = {}
    store = await Store.open(home)
    await store.commit(Changes(jobs=list(jobs.values())))
    for commit in commits:
        rows.update({task.key: task for task in commit})
        counts = {of.id: counted(of, [t for t in rows.values() if t.job_id == of.id]) for of in jobs.values()}
        await store.commit(Changes(tasks=commit, counts=counts))
    await store.close()
    verify(home)

    store = await Store.open(home)
    restored = (await store.load()).jobs
    await store.close()
    assert [r.job for r in restored] == list(jobs.values())
    for one in restored:
        stored = [t for t in rows.values() if t.job_id == one.job.id]
        expected = sorted((_awake(t) for t in stored), key=lambda t: t.index)
        assert one.tasks == [t for t in expected if t.state not in ENDED]
        assert one.counts == counted(one.job, expected)
        assert one.next_index == max((t.index for t in stored), default=-1) + 1
        failed = [t.error for t in expected if t.state is TaskState.FAILED]
        assert one.first_error == (failed[0] if failed else "")


def _awake(task: Task) -> Task:
    state = TaskState.QUEUED if task.state is TaskState.RETRYING else task.state
    return msgspec.structs.replace(task, state=state, retry_at=0.0)


async def test_counters_ahead_of_delayed_rows_are_put_right(store: Store) -> None:
    """A start may ride on a later commit than its counters: the rows decide what has not ended."""
    one = job(count=10)
    rows = tasks(one, 0, 2, TaskState.COMPLETED) + tasks(one, 2, 4, TaskState.ASSIGNED)
    ahead = Counts(queued=6, assigned=0, running=2, completed=2)
    await store.commit(Changes(jobs=[one], tasks=rows, counts={one.id: ahead}))
    restored = (await store.load()).jobs[0]
    assert restored.counts == Counts(queued=6, assigned=2, completed=2)
    await store.commit(Changes(counts={one.id: restored.counts}))


async def test_rows_that_skipped_an_index_are_filled_up(store: Store) -> None:
    """One task far ahead was cancelled by name: those before it were never placed."""
    one = job(count=10)
    rows = tasks(one, 0, 1, TaskState.COMPLETED) + tasks(one, 4, 5, TaskState.CANCELLED)
    await store.commit(Changes(jobs=[one], tasks=rows, counts={one.id: counted(one, rows)}))
    restored = (await store.load()).jobs[0]
    assert restored.next_index == 5
    assert restored.tasks == [Task(one.id, index) for index in (1, 2, 3)]
    assert restored.counts == Counts(queued=8, completed=1, cancelled=1)
    assert [t.state.value[:2] for t in await store.tasks(one.id, 0, 7)] == [
        "CO",
        "QU",
        "QU",
        "QU",
        "CA",
        "QU",
        "QU",
    ]
    assert [t.index for t in await store.tasks(one.id, 1, 2)] == [1, 2]


async def test_ended_jobs_are_not_loaded(store: Store) -> None:
    one = job(count=1, completed_at=2.0)
    rows = tasks(one, 0, 1, TaskState.COMPLETED)
    await store.commit(Changes(jobs=[one], tasks=rows, counts={one.id: counted(one, rows)}))
    assert (await store.load()).jobs == []
