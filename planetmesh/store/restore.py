"""What a coordinator needs to go on after its start: read once, in one consistent look.

Counts of ended tasks come from the job's row; everything that has not ended is counted from its own
rows, since a start of a task may ride on a later commit than its counters did.
"""

from __future__ import annotations

import sqlite3

import msgspec

from planetmesh.model.identity import CertificateRecord
from planetmesh.model.ids import NodeId
from planetmesh.model.job import Counts, Job, Task, TaskState
from planetmesh.model.node import Learned, Node
from planetmesh.store.certificates import read_certificates
from planetmesh.store.feed import last_feed_number, read_meta
from planetmesh.store.jobs import JobSummary, live_jobs, make_job, read_spec
from planetmesh.store.nodes import read_learned, read_nodes
from planetmesh.store.tasks import count_tasks, indexes_without_row, next_index, read_live_tasks


class RestoredJob(msgspec.Struct, frozen=True):
    """A job that has not ended. `tasks`: those before `next_index` that have not ended, by index."""

    job: Job
    counts: Counts
    next_index: int
    tasks: list[Task]
    first_error: str


class Snapshot(msgspec.Struct, frozen=True):
    """`jobs` are in the order of their submits."""

    nodes: list[Node]
    certificates: list[CertificateRecord]
    jobs: list[RestoredJob]
    meta: dict[str, str]
    feed_number: int
    learned: dict[NodeId, tuple[Learned, ...]]


def read_snapshot(connection: sqlite3.Connection) -> Snapshot:
    return Snapshot(
        nodes=read_nodes(connection),
        certificates=read_certificates(connection),
        jobs=[_restore(connection, *row) for row in live_jobs(connection)],
        meta=read_meta(connection),
        feed_number=last_feed_number(connection),
        learned=read_learned(connection),
    )


def _restore(connection: sqlite3.Connection, number: int, key: str, summary: JobSummary) -> RestoredJob:
    job = make_job(summary, read_spec(connection, number), key)
    total, first_unplaced = job.spec.task_count, next_index(connection, number)
    tasks = [_awake(task) for task in read_live_tasks(connection, job.id, number)]
    counts = _ended(summary.counts)
    if job.rest is not None:
        # What has no row has ended, and the job's counters count it.
        first_unplaced = total
    elif sum(task.width for task in tasks) + counts.total != first_unplaced:
        # Tasks without a row before others that have one, or counters that lag: count for once.
        counts = _counted(connection, number)
        missing = indexes_without_row(connection, number, first_unplaced)
        tasks = sorted([*tasks, *(Task(job.id, index) for index in missing)], key=lambda task: task.index)
    for task in tasks:
        counts.move(TaskState.QUEUED, task.state, task.width)
    counts.queued = total - counts.total + counts.queued
    return RestoredJob(job, counts, first_unplaced, tasks, summary.error)


def _awake(task: Task) -> Task:
    """A back-off ends with the process that waited it out."""
    return msgspec.structs.replace(task, state=TaskState.QUEUED) if task.state is TaskState.RETRYING else task


def _ended(counts: Counts) -> Counts:
    return Counts(completed=counts.completed, failed=counts.failed, cancelled=counts.cancelled)


def _counted(connection: sqlite3.Connection, number: int) -> Counts:
    rows = count_tasks(connection, number)
    return Counts(
        completed=rows.get(TaskState.COMPLETED, 0),
        failed=rows.get(TaskState.FAILED, 0),
        cancelled=rows.get(TaskState.CANCELLED, 0),
    )
