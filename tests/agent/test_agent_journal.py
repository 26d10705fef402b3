"""What an agent logs of its work."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from planetmesh.agent.journal import DISK_LOW_BYTES, Journal
from planetmesh.agent.worklist import Worklist
from planetmesh.model.ids import JobId
from planetmesh.model.job import Limits, Outcome
from planetmesh.model.node import NodeLoad
from planetmesh.model.resources import Resources
from planetmesh.settings import Settings
from planetmesh.wire.agent import AssignTask, OpenJob, TaskResult, TaskReturned

JOB = JobId("9" * 32)


@pytest.fixture(autouse=True)
def at_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "planetmesh.agent")


def fields(record: logging.LogRecord, *names: str) -> list[Any]:
    return [getattr(record, name) for name in names]


def test_failures_are_lines_with_ids_and_good_ends_are_not(caplog) -> None:
    journal = Journal()
    journal.on_accepted(AssignTask(JOB, 3, 1))
    journal.on_started(JOB, 3, 1)
    journal.on_said([
        TaskResult(JOB, 3, 1, Outcome.MEMORY, exit_code=137, error="secret words", wall_seconds=1.0),
        TaskResult(JOB, 4, 1, Outcome.OK, exit_code=0),
        TaskResult(JOB, 5, 1, Outcome.CANCELLED),
        TaskReturned(JOB, 6, 1, "draining"),
    ])  # fmt: skip
    (record,) = caplog.records
    assert record.message == "task.failed"
    assert fields(record, "job_id", "task", "attempt", "outcome", "exit_code") == [JOB, 3, 1, "memory", 137]
    assert "secret words" not in str(vars(record))


def test_a_minutes_work_is_one_line(caplog) -> None:
    journal, worklist = Journal(), Worklist(Resources(1000, 2**30, 0), (), Settings())
    journal.tell_minute(worklist)
    assert caplog.records == []
    journal.on_accepted(AssignTask(JOB, 3, 1))
    journal.on_said([TaskResult(JOB, 3, 1, Outcome.OK, exit_code=0)])
    journal.tell_minute(worklist)
    journal.tell_minute(worklist)
    (record,) = caplog.records
    assert fields(record, "accepted", "completed", "failed", "running_now") == [1, 1, 0, 0]


def test_a_job_is_told_once_when_it_comes_and_goes(caplog) -> None:
    journal = Journal()
    opened = OpenJob(JOB, "command", {}, Resources(), {"TOKEN": "secret"}, Limits())
    for _ in range(2):
        journal.on_job_opened(opened)
    for _ in range(2):
        journal.on_job_closed(JOB)
    assert [record.message for record in caplog.records] == ["job.opened", "job.closed"]
    assert all(record.job_id == JOB for record in caplog.records)
    assert "secret" not in str([vars(record) for record in caplog.records])


def test_a_disk_that_gets_full_is_told_once(caplog) -> None:
    journal = Journal()
    for free in (2 * DISK_LOW_BYTES, 1000, 900, 2 * DISK_LOW_BYTES):
        journal.on_load(NodeLoad(disk_free_bytes=free))
    assert [record.message for record in caplog.records] == ["disk.low", "disk.has_room"]
