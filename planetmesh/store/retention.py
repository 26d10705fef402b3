"""Nothing grows for ever: old finished jobs, feed and audit rows go, a bounded piece at a time.

A job goes in steps: its output, then the job itself (from then on nobody sees it), then its tasks.
A crash between two steps leaves the rest for the next sweep, never a row without an owner to find it by.
"""

from __future__ import annotations

import sqlite3

import msgspec

from planetmesh.model.ids import JobId
from planetmesh.settings import Settings
from planetmesh.store.certificates import sweep_certificates
from planetmesh.store.feed import sweep_audit, sweep_feed

JOBS_MOST = 32
"""Jobs that one sweep takes on."""
ROWS_MOST = 4096
"""Rows of each table that one sweep deletes: a few milliseconds, so that no turn waits long for it."""
AUDIT_KEEP_ROWS = 100_000
"""Pairings, revocations, submits and cancels of years."""
EXPIRED_KEEP_SECONDS = 30 * 86400.0
"""Expired certificates stay for the operator to read for a month."""


class Swept(msgspec.Struct, frozen=True):
    """What one sweep removed. `more`: call again soon."""

    jobs: list[JobId]
    rows: int
    more: bool


def due_jobs(connection: sqlite3.Connection, now_wall: float, settings: Settings) -> list[JobId]:
    """Jobs that ended so long ago that they are to go, the oldest first."""
    query = (
        "SELECT id FROM jobs WHERE completed_at IS NOT NULL AND completed_at < ? "
        "ORDER BY completed_at LIMIT ?"
    )
    rows = connection.execute(query, (now_wall - settings.keep_jobs_seconds, JOBS_MOST))
    return [JobId(row[0]) for row in rows]


def sweep_rows(
    connection: sqlite3.Connection, jobs: list[JobId], now_wall: float, settings: Settings
) -> Swept:
    """Remove these jobs and a bounded number of rows that are no longer kept."""
    for job_id in jobs:
        _remove_job(connection, job_id)
    removed = [
        _sweep_tasks(connection),
        sweep_feed(connection, settings.feed_keep_rows, ROWS_MOST),
        sweep_audit(connection, AUDIT_KEEP_ROWS, ROWS_MOST),
        sweep_certificates(connection, now_wall - EXPIRED_KEEP_SECONDS, ROWS_MOST),
    ]
    left = connection.execute("SELECT EXISTS(SELECT 1 FROM swept_jobs)").fetchone()[0]
    more = bool(left) or len(jobs) == JOBS_MOST or max(removed) >= ROWS_MOST
    return Swept(jobs, sum(removed), more)


def _remove_job(connection: sqlite3.Connection, job_id: JobId) -> None:
    connection.execute("INSERT INTO swept_jobs SELECT number FROM jobs WHERE id = ?", (job_id,))
    connection.execute("DELETE FROM specs WHERE job = (SELECT number FROM jobs WHERE id = ?)", (job_id,))
    of_it = "(SELECT number FROM jobs WHERE id = ?)"
    connection.execute(f"DELETE FROM more_inputs WHERE job = {of_it}", (job_id,))
    connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))


def _sweep_tasks(connection: sqlite3.Connection) -> int:
    """Delete rows of jobs that are gone, at most ROWS_MOST together."""
    removed = 0
    for (number,) in connection.execute("SELECT job FROM swept_jobs ORDER BY job").fetchall():
        for table in ("attempts", "tasks"):
            removed += _delete_some(connection, table, number, ROWS_MOST - removed)
        if removed >= ROWS_MOST:
            break
        connection.execute("DELETE FROM swept_jobs WHERE job = ?", (number,))
    return removed


def _delete_some(connection: sqlite3.Connection, table: str, number: int, limit: int) -> int:
    query = f"SELECT idx FROM {table} WHERE job = ? ORDER BY idx LIMIT 1 OFFSET ?"
    beyond = connection.execute(query, (number, limit)).fetchone()
    if beyond is None:
        return connection.execute(f"DELETE FROM {table} WHERE job = ?", (number,)).rowcount
    query = f"DELETE FROM {table} WHERE job = ? AND idx < ?"
    return connection.execute(query, (number, beyond[0])).rowcount
