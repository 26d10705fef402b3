"""Commit and the reads: what was handed over is what comes back."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from store_rows import counted, job, tasks

from planetmesh.errors import StorageFailed
from planetmesh.model.blob import Digest, Made, StagedFile
from planetmesh.model.identity import CertificateRecord, CertificateState, Role
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Attempt, Counts, Items, JobSpec, JobState, Outcome, Task, TaskState
from planetmesh.model.node import Node, NodeInfo, NodeState, Sandbox
from planetmesh.paths import Home
from planetmesh.store.changes import AuditRow, Changes, FeedRow
from planetmesh.store.store import Store


def test_changes_know_when_they_are_empty() -> None:
    assert not Changes()
    assert Changes(meta={"a": "b"})
    assert Changes(counts={JobId("x"): Counts()})


FILE = StagedFile("a", Digest("cd" * 32), 7, executable=True, is_tree=True)


async def test_a_job_comes_back_whole(store: Store) -> None:
    spec = JobSpec(
        type="script",
        payload={"text": "echo \N{SNOWMAN}", "deep": {"list": [1, 2.5, None, True]}},
        inputs=Items(("a", "b\n", ""), (FILE, None, FILE)),
        files=(FILE,),
        outputs=("*.png",),
        name="snow",
        env={"A": "1"},
        tags=("gpu",),
        partial=True,
    )
    first = job(spec=spec, key="k1")
    await store.commit(Changes(jobs=[first]))
    stored = await store.job(first.id)
    assert stored is not None
    assert stored.job == first
    assert stored.summary.counts == Counts(queued=3)
    assert stored.summary.state is JobState.QUEUED

    later = msgspec.structs.replace(
        first, started_at=2.0, cancelled_at=3.0, cancel_reason="why not", waiting_since=1.5
    )
    await store.commit(Changes(jobs=[later]))
    stored = await store.job(first.id)
    assert stored is not None
    assert stored.job == later
    assert await store.job(JobId("nosuchjob0")) is None


async def test_the_later_of_two_records_stays(store: Store) -> None:
    one = job()
    started, ended = tasks(one, 0, 1, TaskState.ASSIGNED) + tasks(one, 0, 1, TaskState.COMPLETED)
    await store.commit(Changes(jobs=[one], tasks=[started, ended], counts={one.id: counted(one, [ended])}))
    assert await store.task(one.id, 0) == ended


async def test_a_task_comes_back_whole(store: Store) -> None:
    one = job()
    task = Task(
        one.id, 0, TaskState.FAILED, 3, NodeId("a" * 32), 2, 1, (NodeId("b" * 32), NodeId("c" * 32)), 0.0,
        10.5, 11.25, -9, Outcome.SIGNAL, "it was\nkilled \N{SNOWMAN} \0 indeed",
        made=Made(Digest("ab" * 32), 3, 2**40),
        begun_at=7.25,
    )  # fmt: skip
    attempt = Attempt(one.id, 0, 2, NodeId("b" * 32), Outcome.LOST, None, "gone", None, 9.0)
    changes = Changes(jobs=[one], tasks=[task], attempts=[attempt], counts={one.id: counted(one, [task])})
    await store.commit(changes)
    assert await store.task(one.id, 0) == task
    assert await store.attempts(one.id, 0) == [attempt]
    assert await store.attempts(one.id, 1) == []
    assert (await store.jobs(1))[0].error == task.error


async def test_numbers_of_a_peer_that_do_not_fit_spoil_nothing(store: Store) -> None:
    one = job()
    task = tasks(one, 0, 1, TaskState.FAILED, exit_code=2**64 - 1)[0]
    await store.commit(Changes(jobs=[one], tasks=[task], counts={one.id: counted(one, [task])}))
    stored = await store.task(one.id, 0)
    assert stored is not None
    assert stored.exit_code == 2**63 - 1


async def test_tasks_are_paged_as_if_all_had_a_row(store: Store) -> None:
    one = job(count=20)
    rows = tasks(one, 0, 8, TaskState.COMPLETED) + tasks(one, 8, 12, TaskState.FAILED)
    await store.commit(Changes(jobs=[one], tasks=rows, counts={one.id: counted(one, rows)}))
    page = await store.tasks(one.id, 6, 10)
    assert [(t.index, t.state.value) for t in page] == [
        (6, "COMPLETED"), (7, "COMPLETED"), *((i, "FAILED") for i in range(8, 12)),
        *((i, "QUEUED") for i in range(12, 16)),
    ]  # fmt: skip
    failed = await store.tasks(one.id, 9, 2, {TaskState.FAILED})
    assert [t.index for t in failed] == [9, 10]
    queued = await store.tasks(one.id, 0, 100, {TaskState.QUEUED})
    assert [t.index for t in queued] == list(range(12, 20))
    both = await store.tasks(one.id, 0, 100, {TaskState.COMPLETED, TaskState.FAILED})
    assert both == rows
    assert await store.task(one.id, 20) is None
    assert await store.tasks(JobId("nosuchjob0"), 0, 5) == []


@pytest.mark.parametrize("rest", [None, TaskState.FAILED, TaskState.CANCELLED])
async def test_tasks_without_a_row_before_one_that_has_one_are_listed_by_state(
    store: Store, rest: TaskState | None
) -> None:
    """A task far ahead was cancelled by name, so those before it were never placed."""
    one = job(count=12, rest=rest, rest_error="why" if rest else "")
    rows = [
        *tasks(one, 1, 2, TaskState.COMPLETED),
        *tasks(one, 4, 5, TaskState.CANCELLED),
        *tasks(one, 6, 7, TaskState.FAILED, width=2),
        *tasks(one, 9, 10, TaskState.CANCELLED),
    ]
    counts = Counts(queued=7, completed=1, cancelled=2, failed=2)
    counts.move(TaskState.QUEUED, rest or TaskState.QUEUED, 7)
    await store.commit(Changes(jobs=[one], tasks=rows, counts={one.id: counts}))
    whole = await store.tasks(one.id, 0, 100)
    assert [t.index for t in whole] == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11]
    for states in ({TaskState.QUEUED}, {TaskState.CANCELLED}, {TaskState.FAILED}, set(TaskState)):
        wanted = [t for t in whole if t.state in states]
        assert await store.tasks(one.id, 0, 100, states) == wanted
        paged = [
            (await store.tasks(one.id, start, limit, states))
            == [t for t in wanted if t.index >= start][:limit]
            for start in range(13)
            for limit in (1, 2, 5)
        ]
        assert all(paged)
        assert await store.rows(one.id, 0, 100, states) == [t for t in rows if t.state in states]


async def test_never_placed_tasks_of_an_ended_job_are_cancelled(store: Store) -> None:
    one = job(count=3, completed_at=5.0, cancelled_at=4.0)
    await store.commit(Changes(jobs=[one], counts={one.id: Counts(cancelled=3)}))
    assert {t.state for t in await store.tasks(one.id, 0, 5)} == {TaskState.CANCELLED}
    assert (await store.jobs(5))[0].state is JobState.CANCELLED


async def test_lists_and_finds_jobs(store: Store) -> None:
    made = [job(n, 1, key=f"k{n}", submitter="ab"[n % 2]) for n in range(6)]
    named = job(6, spec=JobSpec(type="command", payload={}, name="render-50%_a"))
    await store.commit(Changes(jobs=[*made, named]))
    assert [j.id for j in await store.jobs(3)] == [named.id, made[5].id, made[4].id]
    assert [j.id for j in await store.jobs(3, made[2].id)] == [made[1].id, made[0].id]
    assert [j.id for j in await store.jobs(2, submitter="a")] == [made[4].id, made[2].id]
    assert await store.jobs(3, JobId("nosuchjob0")) == []
    assert await store.find_jobs("render-50%") == [named.id]
    assert await store.find_jobs("render-50_") == []
    assert len(await store.find_jobs("j00000000")) == 7
    assert await store.find_jobs(made[1].id) == [made[1].id]
    assert await store.job_by_key("a", "k2") == made[2].id
    assert await store.job_by_key("b", "k2") is None
    assert await store.job_by_key("me", "") is None


async def test_counts_jobs_by_state(store: Store) -> None:
    ended = job(1, 1, completed_at=2.0)
    failed = job(2, 2, completed_at=2.0)
    waiting, running = job(3), job(4)
    rows = [
        (ended, tasks(ended, 0, 1, TaskState.COMPLETED)),
        (failed, tasks(failed, 0, 1, TaskState.FAILED) + tasks(failed, 1, 2, TaskState.COMPLETED)),
        (running, tasks(running, 0, 1, TaskState.RUNNING)),
    ]
    counts = {of.id: counted(of, its) for of, its in rows}
    all_rows = [task for _, its in rows for task in its]
    await store.commit(Changes(jobs=[ended, failed, waiting, running], tasks=all_rows, counts=counts))
    assert await store.job_states() == {
        JobState.COMPLETED: 1, JobState.FAILED: 1, JobState.QUEUED: 1, JobState.RUNNING: 1,
    }  # fmt: skip
    assert [j.id for j in await store.jobs(9, live=True)] == [running.id, waiting.id]
    assert [j.id for j in await store.jobs(9, live=False)] == [failed.id, ended.id]


async def test_nodes_certificates_meta_feed_and_audit(store: Store) -> None:
    info = NodeInfo(
        hostname="desk", os="linux", arch="x86_64", version="1", python="3.11", cpus=8, memory_bytes=1 << 34,
        sandbox=Sandbox("landlock", proven=True),
    )  # fmt: skip
    desk = Node(id=NodeId("a" * 32), name="desk", info=info, state=NodeState.HEALTHY, tags=("x",))
    shelf = Node(id=NodeId("b" * 32), name="shelf", draining=True)
    certificate = CertificateRecord("0a", Role.AGENT, desk.id, "ff", 9.0, CertificateState.ACTIVE)
    feed = [FeedRow(n, "job", 1.5, b'{"n":%d}' % n) for n in (1, 2, 3)]
    audit = [AuditRow(1.0, "me", "revoke", "desk"), AuditRow(2.0, "me", "drain", "shelf", "now")]
    await store.commit(
        Changes(
            nodes=[desk, shelf], certificates=[certificate], meta={"name": "home"}, feed=feed, audit=audit
        )
    )
    snapshot = await store.load()
    assert snapshot.nodes == [desk, shelf]
    assert snapshot.certificates == [certificate]
    assert snapshot.meta == {"name": "home"}
    assert snapshot.feed_number == 3
    assert await store.feed_after(1, 10) == feed[1:]
    assert await store.feed_after(0, 1) == feed[:1]
    newest, oldest = await store.audit(5)
    assert (newest.action, newest.detail, newest.at) == ("drain", "now", 2.0)
    assert await store.audit(5, before=newest.number) == [oldest]

    revoked = msgspec.structs.replace(certificate, state=CertificateState.REVOKED)
    gone = Changes(removed_nodes=[desk.id], certificates=[revoked], meta={"name": "lab"})
    await store.commit(gone)
    snapshot = await store.load()
    assert (snapshot.nodes, snapshot.certificates, snapshot.meta) == ([shelf], [revoked], {"name": "lab"})


async def test_a_refused_commit_keeps_nothing_and_the_next_one_works(store: Store) -> None:
    good, feed = job(1), [FeedRow(1, "job", 1.0, b"{}")]
    await store.commit(Changes(feed=feed))
    stranger = tasks(job(2), 0, 3, TaskState.ASSIGNED)
    with pytest.raises(StorageFailed, match="no job"):
        await store.commit(Changes(jobs=[good], tasks=stranger))
    with pytest.raises(StorageFailed):
        await store.commit(Changes(jobs=[good], feed=feed))  # the number is taken
    assert await store.jobs(9) == []
    rows = tasks(good, 0, 3, TaskState.ASSIGNED)
    await store.commit(Changes(jobs=[good], tasks=rows, counts={good.id: counted(good, rows)}))
    assert await store.tasks(good.id, 0, 3) == rows


async def test_counters_are_taken_when_commit_is_called(store: Store) -> None:
    one, counts = job(), Counts(queued=10)
    async with asyncio.TaskGroup() as group:
        group.create_task(store.commit(Changes(jobs=[one], counts={one.id: counts})))
        await asyncio.sleep(0)
        counts.queued = 99
    assert (await store.jobs(1))[0].counts.queued == 10


async def test_a_cancelled_caller_leaves_the_store_in_order(store: Store) -> None:
    one = job()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await store.commit(Changes(jobs=[one]))
    await store.commit(Changes(meta={"after": "1"}))
    assert (await store.load()).meta == {"after": "1"}


async def test_reads_see_one_commit_and_never_half_of_one(store: Store) -> None:
    one = job(count=400)
    await store.commit(Changes(jobs=[one]))
    done = asyncio.Event()

    async def write() -> None:
        for first in range(0, 400, 8):
            rows = tasks(one, 0, first + 8, TaskState.RUNNING)
            await store.commit(Changes(tasks=rows, counts={one.id: counted(one, rows)}))
        done.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        while not done.is_set():
            running = await store.tasks(one.id, 0, 400, {TaskState.RUNNING})
            assert len(running) % 8 == 0


async def test_a_closed_store_says_so(home: Home) -> None:
    store = await Store.open(home)
    await store.close()
    await store.close()
    with pytest.raises(StorageFailed, match="closed"):
        await store.commit(Changes(meta={"a": "b"}))
    with pytest.raises(StorageFailed, match="closed"):
        await store.jobs(1)


async def test_reads_do_not_grow_with_the_number_of_tasks(store: Store) -> None:
    async def steps_with(count: int, number: int) -> int:
        """SQLite's own steps for what is asked most often, in hundreds."""
        one, steps = job(number, count), 0
        rows = tasks(one, 0, count - 1, TaskState.COMPLETED)
        await store.commit(Changes(jobs=[one], tasks=rows, counts={one.id: counted(one, rows)}))

        def tick() -> int:
            nonlocal steps
            steps += 1
            return 0

        await store._database._reader.run(lambda c: c.set_progress_handler(tick, 100))
        await store.jobs(100)
        await store.task(one.id, count - 2)
        await store.tasks(one.id, 0, 5, {TaskState.FAILED, TaskState.RUNNING})
        await store.load()
        await store.job_states()
        return steps

    assert await steps_with(10, 1) < 50
    assert await steps_with(10_000, 2) < 50
