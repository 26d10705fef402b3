"""Builders that name only what matters, and the comparison of counters with rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from planetmesh.model.ids import JobId
from planetmesh.model.job import Counts, Job, JobSpec, Range, Task, TaskState
from planetmesh.paths import Home
from planetmesh.store.jobs import CountsRow, counts_row
from planetmesh.store.tasks import STATES, count_tasks


def job(number: int = 0, count: int = 10, **changes: object) -> Job:
    """A job of `count` tasks with the id `j000…number`."""
    fields = {"id": JobId(f"j{number:09}"), "submitter": "me", "created_at": 1000.0 + number, **changes}
    spec = fields.pop("spec", None) or JobSpec(
        type="command", payload={"argv": ["true"]}, inputs=Range(1, count)
    )
    return Job(spec=spec, **fields)


def tasks(of: Job, first: int, end: int, state: TaskState, **changes: object) -> list[Task]:
    return [Task(of.id, index, state, **{"attempt": 1, **changes}) for index in range(first, end)]


def counted(of: Job, rows: list[Task]) -> Counts:
    """The counters of a job that has these rows."""
    counts = Counts(queued=of.spec.inputs.count)
    for task in {task.index: task for task in rows}.values():
        counts.move(TaskState.QUEUED, task.state)
    return counts


def verify(home: Home) -> None:
    """Compare the counters in each job's row with its tasks, one by one."""
    with closing(sqlite3.connect(home.database)) as connection:
        jobs = connection.execute(
            "SELECT number, id, total, completed_at, rest, queued, assigned, running, retrying, completed, "
            "failed, cancelled FROM jobs"
        ).fetchall()
        for number, job_id, total, completed_at, rest, *stored in jobs:
            without_row = TaskState.QUEUED if completed_at is None else TaskState.CANCELLED
            seen = _count(connection, number, total, without_row if rest is None else STATES[rest])
            assert tuple(stored) == seen, f"job {job_id} says {stored}, its tasks {seen}"


def _count(connection: sqlite3.Connection, number: int, total: int, without_row: TaskState) -> CountsRow:
    counts = Counts(queued=total)
    seen = count_tasks(connection, number)
    for state, count in seen.items():
        counts.move(TaskState.QUEUED, state, count)
    counts.move(TaskState.QUEUED, without_row, total - sum(seen.values()))
    return counts_row(counts)
