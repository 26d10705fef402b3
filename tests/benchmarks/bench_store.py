"""Rows a second and milliseconds a commit of the store, as the engine uses it.

    python tests/benchmarks/bench_store.py [FOLDER]

Takes some ten seconds. Half the rows of each commit are new, half are ends of earlier ones. FOLDER is
where the database lies: what is measured is mostly that disk's fsync.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Counts, Job, JobSpec, Outcome, Range, Task, TaskState
from planetmesh.paths import Home
from planetmesh.settings import Settings
from planetmesh.store.changes import Changes
from planetmesh.store.outputs import Outputs
from planetmesh.store.store import Store
from planetmesh.wire.agent import TaskOutput

SECONDS = 1.0
"""For each line of the table."""
MOST = 10_000_000
NODE = NodeId("0123456789abcdef" * 2)


def _show(label: str, rows: int, samples: list[float]) -> None:
    samples.sort()
    p50, p99 = samples[len(samples) // 2], samples[int(len(samples) * 0.99)]
    rate = rows / sum(samples)
    print(f"{label:34} {rate:10,.0f} rows/s   p50 {p50 * 1e3:7.2f} ms   p99 {p99 * 1e3:7.2f} ms")


def measure_fsync(folder: Path) -> None:
    samples = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(bytes(4096))
            started = time.perf_counter()
            os.fsync(file.fileno())
            samples.append(time.perf_counter() - started)
    _show("fsync after 4 KiB", len(samples), samples)


def _job(number: int, count: int) -> Job:
    spec = JobSpec(type="command", payload={"argv": ["true"]}, inputs=Range(1, count))
    return Job(id=JobId(f"b{number:09}"), spec=spec, submitter="bench", created_at=float(number))


def _turn(job: Job, turn: int, size: int) -> list[Task]:
    """The rows of one commit: some starts, and the ends of what the turn before started."""
    starts, before = max(1, size // 2), turn - 1
    rows = [Task(job.id, turn * starts + i, TaskState.ASSIGNED, 1, NODE) for i in range(starts)]
    ends = size - starts if turn else 0
    return rows + [
        Task(
            job_id=job.id,
            index=before * starts + i,
            state=TaskState.COMPLETED,
            attempt=1,
            node_id=NODE,
            started_at=1.7e9,
            finished_at=1.7e9,
            exit_code=0,
            outcome=Outcome.OK,
        )
        for i in range(ends)
    ]


async def measure_commits(store: Store, number: int, size: int) -> None:
    job = _job(number, MOST)
    await store.commit(Changes(jobs=[job]))
    samples: list[float] = []
    rows, counts = 0, Counts(queued=MOST)
    while sum(samples) < SECONDS:
        tasks = _turn(job, len(samples), size)
        for task in tasks:
            before = TaskState.ASSIGNED if task.ended else TaskState.QUEUED
            counts.move(before, task.state)
        changes = Changes(tasks=tasks, counts={job.id: counts})
        started = time.perf_counter()
        await store.commit(changes)
        samples.append(time.perf_counter() - started)
        rows += len(changes.tasks)
    _show(f"commit of {size} tasks", rows, samples)


async def measure_outputs(outputs: Outputs, callers: int) -> None:
    samples: list[float] = []
    turn = 0
    while sum(samples) < SECONDS:
        pieces = [
            TaskOutput(JobId("b000000001"), i, callers, 1, turn * 100, bytes(100)) for i in range(callers)
        ]
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for piece in pieces:
                group.create_task(outputs.append([piece]))
        samples.append(time.perf_counter() - started)
        turn += 1
    _show(f"output, {callers} callers of 100 bytes", turn * callers, samples)


async def measure_reads(store: Store) -> None:
    for first in range(1000, 101_000, 5000):
        made = [_job(n, 1) for n in range(first, first + 5000)]
        ended = [Job(**{f: getattr(j, f) for f in j.__struct_fields__} | {"completed_at": 1.0}) for j in made]
        await store.commit(Changes(jobs=ended, counts={j.id: Counts(completed=1) for j in ended}))
    for label, read in (
        ("list the newest 100 of 100,000 jobs", lambda: store.jobs(100)),
        ("one job", lambda: store.job(JobId("b000050000"))),
        ("100 tasks in the middle", lambda: store.tasks(JobId("b000000512"), 20_000, 100)),
        ("jobs by state", store.job_states),
        ("load", store.load),
    ):
        samples = []
        for _ in range(20):
            started = time.perf_counter()
            await read()
            samples.append(time.perf_counter() - started)
        _show(label, len(samples), samples)


async def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        home = Home(Path(folder))
        measure_fsync(home.root)
        store = await Store.open(home)
        outputs = await Outputs.open(home, Settings())
        for size in (1, 8, 64, 512):
            await measure_commits(store, size, size)
        for callers in (1, 8, 64):
            await measure_outputs(outputs, callers)
        await measure_reads(store)
        sizes = store.sizes()
        print(f"mesh.db {sizes.database_bytes:,} bytes, log {sizes.log_bytes:,} bytes")
        await outputs.close()
        await store.close()
        started = time.perf_counter()
        store = await Store.open(home)
        print(f"open with its check: {time.perf_counter() - started:.3f} s")
        await store.close()


if __name__ == "__main__":
    asyncio.run(main())
