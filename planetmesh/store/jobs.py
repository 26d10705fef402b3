"""Jobs: their rows, their counters and what was asked for.

A job's state is never stored: it comes from the counters in its row, which are written in the same
transaction as the tasks they count. Functions here take a connection and run on a lane's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import msgspec

from planetmesh.model.ids import JobId
from planetmesh.model.job import After, Counts, Edits, Items, Job, JobSpec, JobState, TaskState, job_state
from planetmesh.store.changes import MoreInputs
from planetmesh.store.tasks import FAILED, STATES, UNCOMPLETED

_read_items = msgspec.json.Decoder(tuple[str, ...]).decode

FOUND_MOST = 20
"""More than this many jobs for one prefix is only ever answered by "which one?"."""

CountsRow = tuple[int, int, int, int, int, int, int]
_COUNTS = "queued, assigned, running, retrying, completed, failed, cancelled"
_HEAD = (
    "id, name, type, priority, partial, submitter, created_at, started_at, completed_at, cancelled_at, "
    f"cancel_reason, kind, waits, paused_at, edits, rest, rest_error, waiting_since, dropped_for, by_input, "
    f"{_COUNTS}"
)
_FIRST_ERROR = (
    f"(SELECT error FROM {UNCOMPLETED} AND job = jobs.number AND state = {FAILED} ORDER BY idx LIMIT 1)"
)
_FATE = (
    "priority",
    "started_at",
    "completed_at",
    "cancelled_at",
    "cancel_reason",
    "waits",
    "paused_at",
    "edits",
    "rest",
    "rest_error",
    "waiting_since",
    "dropped_for",
)
"""What of a job's row changes while it lives, beside its counters."""
_UPDATE = f"UPDATE jobs SET {', '.join(f'{name} = ?' for name in _FATE)} WHERE id = ?"
_INSERT = (
    f"INSERT INTO jobs(id, submitter, key, name, type, kind, partial, total, by_input, created_at, "
    f"{', '.join(_FATE)}, queued) VALUES({', '.join('?' * (11 + len(_FATE)))})"
)
_SET_COUNTS = (
    "UPDATE jobs SET queued = ?, assigned = ?, running = ?, retrying = ?, completed = ?, failed = ?, "
    "cancelled = ? WHERE id = ?"
)


class JobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A job in a list: everything but its (perhaps huge) spec."""

    id: JobId
    name: str
    type: str
    priority: int
    partial: bool
    submitter: str
    created_at: float
    started_at: float | None
    completed_at: float | None
    cancelled_at: float | None
    cancel_reason: str
    kind: str
    waits: tuple[After, ...]
    paused_at: float | None
    edits: Edits
    rest: TaskState | None
    rest_error: str
    waiting_since: float | None
    dropped_for: JobId | None
    by_input: bool
    """`counts` are of inputs."""
    counts: Counts
    error: str
    """The first failed task's sentence, if any."""

    @property
    def state(self) -> JobState:
        return job_state(self.counts, partial=self.partial, cancelled=self.cancelled_at is not None)


class StoredJob(msgspec.Struct, frozen=True):
    """One job asked for by id, as of the last commit."""

    job: Job
    summary: JobSummary


def save_jobs(connection: sqlite3.Connection, jobs: Iterable[Job]) -> None:
    """Add new jobs with all tasks QUEUED; of known ones write what can change (never the spec)."""
    for job in jobs:
        fate = _fate(job)
        if connection.execute(_UPDATE, (*fate, job.id)).rowcount == 0:
            _add_job(connection, job, fate)


def _add_job(connection: sqlite3.Connection, job: Job, fate: tuple[Any, ...]) -> None:
    spec, total = job.spec, job.spec.task_count
    head = (job.id, job.submitter, job.key, spec.name, spec.type, job.kind, spec.partial, total, spec.is_auto)
    number = connection.execute(_INSERT, (*head, job.created_at, *fate, total)).lastrowid
    connection.execute("INSERT INTO specs VALUES(?, ?)", (number, msgspec.json.encode(spec)))


def save_inputs(
    connection: sqlite3.Connection, inputs: Iterable[MoreInputs], number: Callable[[JobId], int]
) -> None:
    """Add them behind those that their jobs have."""
    for more in inputs:
        row = (number(more.job_id), more.first, msgspec.json.encode(more.items))
        connection.execute("INSERT INTO more_inputs VALUES(?, ?, ?)", row)
        connection.execute("UPDATE jobs SET total = total + ? WHERE number = ?", (len(more.items), row[0]))


def _fate(job: Job) -> tuple[Any, ...]:
    """In the order of `_FATE`."""
    return (
        job.priority,
        job.started_at,
        job.completed_at,
        job.cancelled_at,
        job.cancel_reason,
        msgspec.json.encode(job.waits).decode(),
        job.paused_at,
        msgspec.json.encode(job.edits).decode(),
        None if job.rest is None else STATES.index(job.rest),
        job.rest_error,
        job.waiting_since,
        job.dropped_for,
    )


def counts_row(counts: Counts) -> CountsRow:
    c = counts
    return (c.queued, c.assigned, c.running, c.retrying, c.completed, c.failed, c.cancelled)


def save_counts(connection: sqlite3.Connection, counts: Mapping[JobId, CountsRow]) -> None:
    connection.executemany(_SET_COUNTS, ((*row, job_id) for job_id, row in counts.items()))


def job_number(connection: sqlite3.Connection, job_id: JobId) -> int | None:
    """The number under which the other tables know the job."""
    row = connection.execute("SELECT number FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return row[0] if row else None


def read_spec(connection: sqlite3.Connection, number: int) -> JobSpec:
    """The spec as it was handed in, with all inputs that came later."""
    row = connection.execute("SELECT spec FROM specs WHERE job = ?", (number,)).fetchone()
    spec = msgspec.json.decode(row[0], type=JobSpec)
    query = "SELECT items FROM more_inputs WHERE job = ? ORDER BY first"
    more = [_read_items(each[0]) for each in connection.execute(query, (number,))]
    if not more or not isinstance(spec.inputs, Items):
        return spec
    items = tuple(chain(spec.inputs.items, *more))
    return msgspec.structs.replace(spec, inputs=Items(items, spec.inputs.files))


def read_job(connection: sqlite3.Connection, job_id: JobId) -> StoredJob | None:
    row = connection.execute(
        f"SELECT {_HEAD}, {_FIRST_ERROR}, number, key FROM jobs WHERE id = ?", (job_id,)
    ).fetchone()
    if row is None:
        return None
    summary = _summary(row)
    return StoredJob(make_job(summary, read_spec(connection, row[-2]), row[-1]), summary)


def make_job(summary: JobSummary, spec: JobSpec, key: str) -> Job:
    return Job(
        id=summary.id,
        spec=spec,
        submitter=summary.submitter,
        key=key,
        created_at=summary.created_at,
        started_at=summary.started_at,
        completed_at=summary.completed_at,
        cancelled_at=summary.cancelled_at,
        cancel_reason=summary.cancel_reason,
        kind=summary.kind,
        waits=summary.waits,
        paused_at=summary.paused_at,
        edits=summary.edits,
        rest=summary.rest,
        rest_error=summary.rest_error,
        waiting_since=summary.waiting_since,
        dropped_for=summary.dropped_for,
    )


def list_jobs(
    connection: sqlite3.Connection,
    limit: int,
    before: JobId | None,
    *,
    submitter: str | None,
    live: bool | None,
) -> list[JobSummary]:
    """Newest first. Nothing if `before` is no longer known."""
    wanted, values = ["1"], list[Any]()
    if before is not None:
        wanted.append("number < (SELECT number FROM jobs WHERE id = ?)")
        values.append(before)
    if submitter is not None:
        wanted.append("submitter = ?")
        values.append(submitter)
    if live is not None:
        wanted.append("completed_at IS NULL" if live else "completed_at IS NOT NULL")
    query = (
        f"SELECT {_HEAD}, {_FIRST_ERROR} FROM jobs WHERE {' AND '.join(wanted)} ORDER BY number DESC LIMIT ?"
    )
    return [_summary(row) for row in connection.execute(query, (*values, limit))]


def live_jobs(connection: sqlite3.Connection) -> list[tuple[int, str, JobSummary]]:
    """Number, key and summary of each job that has not ended, oldest first."""
    query = (
        f"SELECT {_HEAD}, {_FIRST_ERROR}, number, key FROM jobs WHERE completed_at IS NULL ORDER BY number"
    )
    return [(row[-2], row[-1], _summary(row)) for row in connection.execute(query)]


def find_jobs(connection: sqlite3.Connection, prefix: str) -> list[JobId]:
    """Ids of jobs whose id or name starts so, newest first, a few at most."""
    end = prefix + "\U0010ffff"
    query = (
        "SELECT id FROM (SELECT id, number FROM jobs WHERE id >= ?1 AND id < ?2 UNION "
        "SELECT id, number FROM jobs WHERE name <> '' AND name >= ?1 AND name < ?2) "
        "ORDER BY number DESC LIMIT ?3"
    )
    return [row[0] for row in connection.execute(query, (prefix, end, FOUND_MOST))]


def dropped_for(connection: sqlite3.Connection, job_id: JobId, limit: int) -> list[JobId]:
    """Jobs that were cancelled only because this one ended as it did, oldest first."""
    query = "SELECT id FROM jobs WHERE dropped_for = ? ORDER BY number LIMIT ?"
    return [row[0] for row in connection.execute(query, (job_id, limit))]


def job_by_key(connection: sqlite3.Connection, submitter: str, key: str) -> JobId | None:
    query = "SELECT id FROM jobs WHERE submitter = ? AND key = ? AND key <> '' ORDER BY number LIMIT 1"
    row = connection.execute(query, (submitter, key)).fetchone()
    return row[0] if row else None


def newest_keys(connection: sqlite3.Connection, limit: int) -> list[tuple[str, str, JobId]]:
    """Submitter, key and id of the newest jobs that were handed in with a key, oldest of them first."""
    query = "SELECT submitter, key, id FROM jobs WHERE key <> '' ORDER BY number DESC LIMIT ?"
    return connection.execute(query, (limit,)).fetchall()[::-1]


def count_states(connection: sqlite3.Connection) -> dict[JobState, int]:
    """How many jobs are in each state.

    Jobs that look alike to `job_state` are counted together, so its rule stays in one place.
    """
    query = (
        "SELECT count(*), queued > 0, assigned + running + retrying > 0, completed > 0, failed > 0, "
        "cancelled > 0, partial, cancelled_at IS NOT NULL FROM jobs INDEXED BY jobs_by_look "
        "GROUP BY 2, 3, 4, 5, 6, 7, 8"
    )
    states: dict[JobState, int] = {}
    for number, queued, active, completed, failed, cancelled, partial, was_cancelled in connection.execute(
        query
    ):
        counts = Counts(queued, 0, active, 0, completed, failed, cancelled)
        state = job_state(counts, partial=bool(partial), cancelled=bool(was_cancelled))
        states[state] = states.get(state, 0) + number
    return states


def _summary(row: tuple[Any, ...]) -> JobSummary:
    id_, name, type_, priority, partial, submitter, created, started, completed, cancelled, reason = row[:11]
    kind, waits, paused_at, edits, rest, rest_error, waiting_since, dropped_for, by_input = row[11:20]
    return JobSummary(
        id=JobId(id_),
        name=name,
        type=type_,
        priority=priority,
        partial=bool(partial),
        submitter=submitter,
        created_at=created,
        started_at=started,
        completed_at=completed,
        cancelled_at=cancelled,
        cancel_reason=reason,
        kind=kind,
        waits=msgspec.json.decode(waits, type=tuple[After, ...]) if waits != "[]" else (),
        paused_at=paused_at,
        edits=msgspec.json.decode(edits, type=Edits) if edits != "{}" else Edits(),
        rest=None if rest is None else STATES[rest],
        rest_error=rest_error,
        waiting_since=waiting_since,
        dropped_for=dropped_for,
        by_input=bool(by_input),
        counts=Counts(*row[20:27]),
        error=row[27] or (rest_error if rest == FAILED else ""),
    )
