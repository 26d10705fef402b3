"""The mesh's store: one `commit` for each turn of the engine, `load` at its start, reads for the API.

Reads go to a thread of their own and see what was committed when they began. Every refusal of SQLite
or the disk is StorageFailed; the store stays open and takes the next commit as if nothing was.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from planetmesh.errors import StorageFailed
from planetmesh.model.ids import JobId
from planetmesh.model.job import Attempt, JobState, Task, TaskState
from planetmesh.paths import Home
from planetmesh.settings import Settings
from planetmesh.store import certificates, feed, jobs, nodes, tasks
from planetmesh.store.changes import AuditRow, Changes, FeedRow
from planetmesh.store.database import Database, Sizes
from planetmesh.store.failures import BACKUP_MARK
from planetmesh.store.jobs import CountsRow, JobSummary, StoredJob
from planetmesh.store.restore import Snapshot, read_snapshot
from planetmesh.store.retention import Swept, due_jobs, sweep_rows
from planetmesh.store.schema import MESH

PAGE_MOST = 10_000
"""Rows that one read may return, whatever was asked for."""


class Store:
    """Make one with `Store.open`; `close` it at the end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, home: Home) -> Store:
        """Open or make `home.database`; raises StorageFailed if it is damaged, too new or unusable."""
        return cls(await Database.open(home.database, MESH))

    async def close(self) -> None:
        await self._database.close()

    # Writing

    async def commit(self, changes: Changes) -> None:
        """Write all of it in one transaction: on disk when this returns, nothing kept when it raises."""
        counts = {job_id: jobs.counts_row(counts) for job_id, counts in changes.counts.items()}
        await self._database.write(lambda connection: _save(connection, changes, counts))

    async def sweep(
        self,
        now_wall: float,
        settings: Settings,
        drop_output: Callable[[JobId], Awaitable[None]] | None = None,
    ) -> Swept:
        """Remove a bounded piece of what is no longer kept; `drop_output` is `Outputs.drop_job`."""
        due = await self._database.read(lambda connection: due_jobs(connection, now_wall, settings))
        if drop_output is not None:
            for job_id in due:
                await drop_output(job_id)
        return await self._database.write(lambda connection: sweep_rows(connection, due, now_wall, settings))

    async def checkpoint(self) -> None:
        """Fold the log into the file. For quiet moments; a commit does it by itself at 16 MiB."""
        await self._database.checkpoint()

    async def backup(self, path: Path | None = None) -> Path:
        """Write a whole copy (0600) while the mesh goes on; beside the database if no path is given."""
        target = path or self._database.path.with_name(f"{self._database.path.name}{BACKUP_MARK}latest")
        await self._database.backup(target)
        return target

    async def check(self) -> None:
        """The full integrity check, on demand; raises StorageFailed."""
        await self._database.check()

    def sizes(self) -> Sizes:
        return self._database.sizes()

    # Reading

    async def load(self) -> Snapshot:
        """Everything a coordinator goes on from."""
        return await self._database.read(read_snapshot)

    async def job(self, job_id: JobId) -> StoredJob | None:
        return await self._database.read(lambda connection: jobs.read_job(connection, job_id))

    async def jobs(
        self,
        limit: int,
        before_id: JobId | None = None,
        *,
        submitter: str | None = None,
        live: bool | None = None,
    ) -> list[JobSummary]:
        """Newest first, those before `before_id`; of one submitter; only those that (have not) ended."""
        most = min(limit, PAGE_MOST)
        return await self._database.read(
            lambda connection: jobs.list_jobs(connection, most, before_id, submitter=submitter, live=live)
        )

    async def find_jobs(self, prefix: str) -> list[JobId]:
        """Ids of jobs whose id or name starts so, newest first, 20 at most."""
        return await self._database.read(lambda connection: jobs.find_jobs(connection, prefix))

    async def dropped_for(self, job_id: JobId, limit: int) -> list[JobId]:
        """Jobs that were cancelled only because this one ended as it did, oldest first."""
        most = min(limit, PAGE_MOST)
        return await self._database.read(lambda connection: jobs.dropped_for(connection, job_id, most))

    async def job_by_key(self, submitter: str, key: str) -> JobId | None:
        """The job that this submitter sent with this key; nothing for an empty key."""
        return await self._database.read(lambda connection: jobs.job_by_key(connection, submitter, key))

    async def newest_keys(self, limit: int) -> list[tuple[str, str, JobId]]:
        """Submitter, key and id of the newest jobs with a key: what a repeated submit may find."""
        return await self._database.read(lambda connection: jobs.newest_keys(connection, limit))

    async def job_states(self) -> dict[JobState, int]:
        """How many jobs are in each state."""
        return await self._database.read(jobs.count_states)

    async def tasks(
        self, job_id: JobId, start: int, limit: int, states: Collection[TaskState] | None = None
    ) -> list[Task]:
        """Tasks from index `start` on, in these states; those never placed are QUEUED (or CANCELLED)."""
        most = min(limit, PAGE_MOST)
        return await self._database.read(
            lambda connection: tasks.list_tasks(connection, job_id, start, most, states)
        )

    async def rows(self, job_id: JobId, start: int, limit: int, states: Collection[TaskState]) -> list[Task]:
        """As `tasks`, but only those that have a row: none is made up."""
        most = min(limit, PAGE_MOST)
        return await self._database.read(
            lambda connection: tasks.list_rows(connection, job_id, start, most, states)
        )

    async def task(self, job_id: JobId, index: int) -> Task | None:
        """The task that stands for this index."""
        return await self._database.read(lambda connection: tasks.read_task(connection, job_id, index))

    async def unplaced(self, job_id: JobId) -> tuple[int, tuple[int, ...]]:
        """The first task without a row, and those beyond it that have one."""

        def look(connection: sqlite3.Connection) -> tuple[int, tuple[int, ...]]:
            row = connection.execute("SELECT number, total FROM jobs WHERE id = ?", (job_id,)).fetchone()
            return (0, ()) if row is None else tasks.unplaced(connection, *row)

        return await self._database.read(look)

    async def attempts(self, job_id: JobId, index: int) -> list[Attempt]:
        """Past runs of a task that did not become its accepted end, oldest first."""
        return await self._database.read(lambda connection: tasks.list_attempts(connection, job_id, index))

    async def faulty_inputs(self, job_id: JobId) -> int:
        """How many of the job's failed tasks failed by their own inputs: another try would end the same."""
        return await self._database.read(lambda connection: tasks.count_faulty_inputs(connection, job_id))

    async def feed_after(self, number: int, limit: int) -> list[FeedRow]:
        """Events after `number`. If the first is not the next one, those between were swept."""
        most = min(limit, PAGE_MOST)
        return await self._database.read(lambda connection: feed.feed_after(connection, number, most))

    async def audit(self, limit: int, before: int | None = None) -> list[AuditRow]:
        """Newest first, those with a number below `before`."""
        most = min(limit, PAGE_MOST)
        return await self._database.read(lambda connection: feed.list_audit(connection, most, before))


def _save(connection: sqlite3.Connection, changes: Changes, counts: dict[JobId, CountsRow]) -> None:
    jobs.save_jobs(connection, changes.jobs)
    number = functools.cache(functools.partial(_known_number, connection))
    jobs.save_inputs(connection, changes.inputs, number)
    tasks.save_tasks(connection, changes.tasks, number)
    tasks.save_attempts(connection, changes.attempts, number)
    jobs.save_counts(connection, counts)
    nodes.save_nodes(connection, changes.nodes)
    nodes.save_learned(connection, changes.learned)
    nodes.remove_nodes(connection, changes.removed_nodes)
    certificates.save_certificates(connection, changes.certificates)
    feed.save_feed(connection, changes.feed)
    feed.save_audit(connection, changes.audit)
    feed.save_meta(connection, changes.meta)


def _known_number(connection: sqlite3.Connection, job_id: JobId) -> int:
    number = jobs.job_number(connection, job_id)
    if number is None:
        raise StorageFailed(f"There is no job {job_id} to keep a task of.")
    return number
