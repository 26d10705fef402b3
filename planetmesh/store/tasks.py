"""Tasks and their past attempts.

A task that was never placed has no row; rows appear in the order of the index. `Task.retry_at` is steady
time and means nothing after a restart, so it is not kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Attempt, Outcome, Task, TaskState

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
FAILED = _CODE[TaskState.FAILED]
UNCOMPLETED = "tasks INDEXED BY uncompleted_tasks WHERE state <> 4"
"""To read only what did not complete, of which there is little, however many tasks a job has."""

SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**63 - 1
"""SQLite's; a peer may send larger ones, and they must not spoil everybody's commit."""

_COLUMNS = (
    "idx, state, attempt, node, failures, losses, excluded, started_at, finished_at, exit_code, "
    "outcome, error"
)
_SAVE = (
    f"INSERT INTO tasks(job, {_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET "
    "state=excluded.state, attempt=excluded.attempt, node=excluded.node, failures=excluded.failures, "
    "losses=excluded.losses, excluded=excluded.excluded, started_at=excluded.started_at, "
    "finished_at=excluded.finished_at, exit_code=excluded.exit_code, outcome=excluded.outcome, "
    "error=excluded.error"
)
_SAVE_ATTEMPT = "INSERT OR REPLACE INTO attempts VALUES(?,?,?,?,?,?,?,?,?)"


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
        )
        for a in attempts
    )
    connection.executemany(_SAVE_ATTEMPT, rows)


def read_live_tasks(connection: sqlite3.Connection, job_id: JobId, number: int) -> list[Task]:
    query = f"SELECT {_COLUMNS} FROM {UNCOMPLETED} AND job = ? AND state IN (0, 1, 2, 3) ORDER BY idx"
    return [_task(job_id, row) for row in connection.execute(query, (number,))]


def next_index(connection: sqlite3.Connection, number: int) -> int:
    """Index of the first task after all that have a row."""
    row = connection.execute("SELECT max(idx) FROM tasks WHERE job = ?", (number,)).fetchone()
    return 0 if row[0] is None else row[0] + 1


def indexes_without_row(connection: sqlite3.Connection, number: int, below: int) -> list[int]:
    """Tasks before `below` that have no row: never placed, though later ones were."""
    rows = connection.execute("SELECT idx FROM tasks WHERE job = ? AND idx < ? ORDER BY idx", (number, below))
    missing: list[int] = []
    expected = 0
    for (index,) in rows:
        missing += range(expected, index)
        expected = index + 1
    return [*missing, *range(expected, below)]


def count_tasks(connection: sqlite3.Connection, number: int) -> dict[TaskState, int]:
    """Rows of a job by state, counted one by one: the truth that the counters are a cache of."""
    query = "SELECT state, count(*) FROM tasks WHERE job = ? GROUP BY state"
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
        "SELECT number, total, completed_at IS NOT NULL FROM jobs WHERE id = ?", (job_id,)
    ).fetchone()
    if row is None:
        return []
    number, total, ended = row
    unplaced = TaskState.CANCELLED if ended else TaskState.QUEUED
    tasks = _stored_tasks(connection, job_id, number, (start, limit, states))
    if states is None and tasks and tasks[-1].index >= start + len(tasks):
        stored = {task.index: task for task in tasks}
        indexes = range(start, min(tasks[-1].index + 1, start + limit))
        tasks = [stored.get(index) or Task(job_id, index, unplaced) for index in indexes]
    if len(tasks) < limit and (states is None or unplaced in states):
        first = max(start, next_index(connection, number))
        missing = range(first, min(total, first + limit - len(tasks)))
        tasks += [Task(job_id, index, unplaced) for index in missing]
    return tasks


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
        "SELECT attempt, node, outcome, exit_code, error, started_at, finished_at FROM attempts "
        "WHERE job = (SELECT number FROM jobs WHERE id = ?) AND idx = ? ORDER BY attempt"
    )
    return [
        Attempt(job_id, index, attempt, _node(node), Outcome(outcome), code, error, started, finished or 0.0)
        for attempt, node, outcome, code, error, started, finished in connection.execute(
            query, (job_id, index)
        )
    ]


def _task(job_id: JobId, row: tuple[Any, ...]) -> Task:
    index, state, attempt, node, failures, losses, excluded, started, finished, code, outcome, error = row
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
    )


def _node(text: str | None) -> NodeId | None:
    return None if text is None else NodeId(text)


def _fitting(number: int | None) -> int | None:
    return None if number is None else max(SMALLEST_INTEGER, min(number, LARGEST_INTEGER))
