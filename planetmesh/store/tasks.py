"""Tasks and their past attempts.

A task that was never placed has no row. Rows appear in the order of the index, except those of tasks that
were cancelled before their turn, which leave a gap before them. `Task.retry_at` is steady time and means
nothing after a restart, so it is not kept.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice
from operator import attrgetter
from typing import Any

import msgspec

from planetmesh.model.blob import Made
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Attempt, Outcome, Task, TaskState, Terms

# Banner: these numbers stand in databases. Append only; `schema` names 4.
STATES = (
    TaskState.QUEUED,
    TaskState.ASSIGNED,
    TaskState.RUNNING,
    TaskState.RETRYING,
    TaskState.COMPLETED,
    TaskState.FAILED,
    TaskState.CANCELLED,
)
_CODE = {state: code for code, state in enumerate(STATES)}
COMPLETED = _CODE[TaskState.COMPLETED]
FAILED = _CODE[TaskState.FAILED]
UNCOMPLETED = "tasks INDEXED BY uncompleted_tasks WHERE state <> 4"
"""To read only what did not complete, of which there is little, however many tasks a job has."""

SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**63 - 1
"""SQLite's; a peer may send larger ones, and they must not spoil everybody's commit."""

_COLUMNS = (
    "idx, state, attempt, node, failures, losses, excluded, started_at, finished_at, exit_code, "
    "outcome, error, width, twin_node, twin_attempt, terms, made, begun_at, stdout_bytes"
)
_SAVE = (
    f"INSERT INTO tasks(job, {_COLUMNS}) VALUES({', '.join('?' * 20)}) ON CONFLICT DO UPDATE SET "
    "state=excluded.state, attempt=excluded.attempt, node=excluded.node, failures=excluded.failures, "
    "losses=excluded.losses, excluded=excluded.excluded, started_at=excluded.started_at, "
    "finished_at=excluded.finished_at, exit_code=excluded.exit_code, outcome=excluded.outcome, "
    "error=excluded.error, width=excluded.width, twin_node=excluded.twin_node, "
    "twin_attempt=excluded.twin_attempt, terms=excluded.terms, made=excluded.made, "
    "begun_at=excluded.begun_at, stdout_bytes=excluded.stdout_bytes"
)
_SAVE_ATTEMPT = "INSERT OR REPLACE INTO attempts VALUES(?,?,?,?,?,?,?,?,?,?)"


def save_tasks(connection: sqlite3.Connection, tasks: Iterable[Task], number: Callable[[JobId], int]) -> None:
    connection.executemany(_SAVE, _rows(tasks, number))


def _rows(tasks: Iterable[Task], number: Callable[[JobId], int]) -> Iterator[tuple[Any, ...]]:
    for t in tasks:
        yield (
            number(t.job_id),
            t.index,
            _CODE[t.state],
            t.attempt,
            t.node_id,
            t.failures,
            t.losses,
            " ".join(t.excluded) if t.excluded else "",
            t.started_at,
            t.finished_at,
            _fitting(t.exit_code),
            t.outcome,
            t.error,
            t.width,
            t.twin_node,
            t.twin_attempt,
            _packed(t.terms),
            None if t.made is None else msgspec.json.encode(t.made).decode(),
            t.begun_at,
            _fitting(t.stdout_bytes),
        )


def save_attempts(
    connection: sqlite3.Connection, attempts: Iterable[Attempt], number: Callable[[JobId], int]
) -> None:
    rows = (
        (
            number(a.job_id),
            a.index,
            a.attempt,
            a.node_id,
            a.outcome,
            _fitting(a.exit_code),
            a.error,
            a.started_at,
            a.finished_at,
            _packed(a.terms),
        )
        for a in attempts
    )
    connection.executemany(_SAVE_ATTEMPT, rows)


def read_live_tasks(connection: sqlite3.Connection, job_id: JobId, number: int) -> list[Task]:
    query = f"SELECT {_COLUMNS} FROM {UNCOMPLETED} AND job = ? AND state IN (0, 1, 2, 3) ORDER BY idx"
    return [_task(job_id, row) for row in connection.execute(query, (number,))]


def next_index(connection: sqlite3.Connection, number: int) -> int:
    """Index of the first task after all that have a row."""
    query = "SELECT idx + width FROM tasks WHERE job = ? ORDER BY idx DESC LIMIT 1"
    row = connection.execute(query, (number,)).fetchone()
    return 0 if row is None else row[0]


def unplaced(connection: sqlite3.Connection, number: int, total: int) -> tuple[int, tuple[int, ...]]:
    """The first task without a row, and those beyond it that have one."""
    missing = indexes_without_row(connection, number, next_index(connection, number))
    if not missing:
        return min(total, next_index(connection, number)), ()
    query = "SELECT idx, width FROM tasks WHERE job = ? AND idx > ? ORDER BY idx"
    beyond = connection.execute(query, (number, missing[0]))
    return missing[0], tuple(each for index, width in beyond for each in range(index, index + width))


def indexes_without_row(connection: sqlite3.Connection, number: int, below: int) -> list[int]:
    """Tasks before `below` that have no row: never placed, though later ones were."""
    query = "SELECT idx, width FROM tasks WHERE job = ? AND idx < ? ORDER BY idx"
    missing: list[int] = []
    expected = 0
    for index, width in connection.execute(query, (number, below)):
        missing += range(expected, index)
        expected = index + width
    return [*missing, *range(expected, below)]


def count_tasks(connection: sqlite3.Connection, number: int) -> dict[TaskState, int]:
    """Rows of a job by state, counted one by one: the truth that the counters are a cache of."""
    query = "SELECT state, sum(width) FROM tasks WHERE job = ? GROUP BY state"
    return {STATES[state]: count for state, count in connection.execute(query, (number,))}


def list_tasks(
    connection: sqlite3.Connection,
    job_id: JobId,
    start: int,
    limit: int,
    states: Collection[TaskState] | None,
) -> list[Task]:
    """Tasks from index `start` on, as if every one had a row: those never placed are made up."""
    row = connection.execute(
        "SELECT number, total, rest, rest_error, completed_at IS NOT NULL FROM jobs WHERE id = ?", (job_id,)
    ).fetchone()
    if row is None:
        return []
    number, total, rest, error, ended = row
    # Before `rest` was kept only a cancel left tasks without a row at a job's end.
    state = STATES[rest] if rest is not None else TaskState.CANCELLED if ended else TaskState.QUEUED
    tasks = _stored_tasks(connection, job_id, number, (start, limit, states))
    if states is not None and state not in states:
        return tasks
    below = tasks[-1].index if len(tasks) == limit else total
    if states is None or _has_gaps(connection, number, state):
        gaps = _gaps(connection, number, start, below)
    else:
        gaps = iter([range(max(start, next_index(connection, number)), below)])
    made_up = (Task(job_id, index, state, error=error) for gap in gaps for index in gap)
    return list(islice(heapq.merge(tasks, made_up, key=attrgetter("index")), limit))


def _has_gaps(connection: sqlite3.Connection, number: int, state: TaskState) -> bool:
    """Are there tasks without a row (all of them in this state) before others that have one?

    Known from the counters, so that nobody goes through a million rows to find none.
    """
    among = (
        (TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING, TaskState.RETRYING)
        if state is TaskState.QUEUED
        else (state,)
    )
    codes = ", ".join(str(_CODE[each]) for each in among)
    counters = " + ".join(each.value.lower() for each in among)
    query = (
        f"SELECT total, {counters} - (SELECT coalesce(sum(width), 0) FROM {UNCOMPLETED} AND job = number "
        f"AND state IN ({codes})) FROM jobs WHERE number = ?"
    )
    total, without_row = connection.execute(query, (number,)).fetchone()
    return bool(without_row != total - next_index(connection, number))


def _gaps(connection: sqlite3.Connection, number: int, start: int, below: int) -> Iterator[range]:
    """Indexes without a row from `start` on, in order; rows are read as far as the caller goes."""
    expected = _after_run(connection, number, start)
    query = "SELECT idx, width FROM tasks WHERE job = ? AND idx >= ? AND idx < ? ORDER BY idx"
    for index, width in connection.execute(query, (number, start, below)):
        yield range(expected, index)
        expected = index + width
    yield range(expected, below)


def list_rows(
    connection: sqlite3.Connection, job_id: JobId, start: int, limit: int, states: Collection[TaskState]
) -> list[Task]:
    """Tasks from index `start` on that have a row, in these states."""
    row = connection.execute("SELECT number FROM jobs WHERE id = ?", (job_id,)).fetchone()
    return [] if row is None else _stored_tasks(connection, job_id, row[0], (start, limit, states))


def count_faulty_inputs(connection: sqlite3.Connection, job_id: JobId) -> int:
    """Failed tasks of a job (inputs where they are counted) that their own inputs let fail."""
    query = (
        f"SELECT coalesce(sum(width), 0) FROM {UNCOMPLETED} AND state = ? AND outcome = ? "
        "AND job = (SELECT number FROM jobs WHERE id = ?)"
    )
    (count,) = connection.execute(query, (_CODE[TaskState.FAILED], Outcome.INPUTS, job_id)).fetchone()
    return int(count)


def read_task(connection: sqlite3.Connection, job_id: JobId, index: int) -> Task | None:
    """The task that stands for this index, with or without a row; None if there is none."""
    query = (
        f"SELECT {_COLUMNS} FROM tasks WHERE job = (SELECT number FROM jobs WHERE id = ?) AND idx <= ? "
        "ORDER BY idx DESC LIMIT 1"
    )
    row = connection.execute(query, (job_id, index)).fetchone()
    task = None if row is None else _task(job_id, row)
    if task is not None and index < task.index + task.width:
        return task
    found = list_tasks(connection, job_id, index, 1, None)
    return found[0] if found and found[0].index == index else None


def _after_run(connection: sqlite3.Connection, number: int, start: int) -> int:
    """`start`, or the first index after the task before it, if that stands for `start` too."""
    query = "SELECT idx + width FROM tasks WHERE job = ? AND idx < ? ORDER BY idx DESC LIMIT 1"
    row = connection.execute(query, (number, start)).fetchone()
    return start if row is None else max(start, row[0])


def _stored_tasks(
    connection: sqlite3.Connection,
    job_id: JobId,
    number: int,
    page: tuple[int, int, Collection[TaskState] | None],
) -> list[Task]:
    start, limit, states = page
    rows: list[tuple[Any, ...]] = []
    if states is None or TaskState.COMPLETED in states:
        codes = range(len(STATES)) if states is None else sorted(_CODE[state] for state in states)
        among = f"state IN ({', '.join(map(str, codes))})"
        query = f"SELECT {_COLUMNS} FROM tasks WHERE job = ? AND idx >= ? AND {among} ORDER BY idx LIMIT ?"
        rows = connection.execute(query, (number, start, limit)).fetchall()
    else:
        query = (
            f"SELECT {_COLUMNS} FROM {UNCOMPLETED} AND job = ? AND state = ? AND idx >= ? "
            "ORDER BY idx LIMIT ?"
        )
        for state in states:
            rows += connection.execute(query, (number, _CODE[state], start, limit))
        rows = sorted(rows, key=lambda row: row[0])[:limit]
    return [_task(job_id, row) for row in rows]


def list_attempts(connection: sqlite3.Connection, job_id: JobId, index: int) -> list[Attempt]:
    query = (
        "SELECT attempt, node, outcome, exit_code, error, started_at, finished_at, terms FROM attempts "
        "WHERE job = (SELECT number FROM jobs WHERE id = ?) AND idx = ? ORDER BY attempt"
    )
    return [
        Attempt(
            job_id,
            index,
            attempt,
            _node(node),
            Outcome(outcome),
            code,
            error,
            started,
            finished or 0.0,
            _unpacked(terms),
        )
        for attempt, node, outcome, code, error, started, finished, terms in connection.execute(
            query, (job_id, index)
        )
    ]


def _task(job_id: JobId, row: tuple[Any, ...]) -> Task:
    index, state, attempt, node, failures, losses, excluded, started, finished, code, outcome, error = row[
        :12
    ]
    width, twin_node, twin_attempt, terms, made, begun_at, stdout_bytes = row[12:]
    return Task(
        job_id=job_id,
        index=index,
        state=STATES[state],
        attempt=attempt,
        node_id=_node(node),
        failures=failures,
        losses=losses,
        excluded=tuple(NodeId(node) for node in excluded.split()),
        started_at=started,
        finished_at=finished,
        exit_code=code,
        outcome=None if outcome is None else Outcome(outcome),
        error=error,
        width=width,
        twin_node=_node(twin_node),
        twin_attempt=twin_attempt,
        terms=_unpacked(terms),
        made=None if made is None else msgspec.json.decode(made, type=Made),
        begun_at=begun_at,
        stdout_bytes=stdout_bytes,
    )


def _packed(terms: Terms | None) -> str | None:
    """A row for each placement: short numbers are enough to see why."""
    return None if terms is None else " ".join(f"{number:.4g}" for number in msgspec.structs.astuple(terms))


def _unpacked(text: str | None) -> Terms | None:
    return None if text is None else Terms(*map(float, text.split()))


def _node(text: str | None) -> NodeId | None:
    return None if text is None else NodeId(text)


def _fitting(number: int | None) -> int | None:
    return None if number is None else max(SMALLEST_INTEGER, min(number, LARGEST_INTEGER))
