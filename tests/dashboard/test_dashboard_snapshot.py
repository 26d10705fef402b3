"""The board: from events to pictures."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from dashboard_views import AT, counts, job_view, node_view, status_view

from planetmesh.dashboard.snapshot import JOBS_MOST, Board
from planetmesh.model.job import JobState
from planetmesh.wire.api import FeedEvent


def told(kind: str, data: Any, number: int = 1) -> FeedEvent:
    return FeedEvent(number, kind, AT, msgspec.to_builtins(data))


@pytest.fixture
def board() -> Board:
    board = Board()
    board.read_status(status_view(jobs={"RUNNING": 1}))
    board.read_lists([job_view("a", tasks=counts(queued=5))], [node_view("desk")])
    return board


def test_the_newest_word_about_a_job_counts(board: Board) -> None:
    for done in range(1, 5):
        board.note(told("job", job_view("a", tasks=counts(queued=5 - done, completed=done))))
    picture = board.take(0.0, 100.0)
    assert [job.tasks.completed for job in picture.jobs] == [4]
    assert picture.done[-1] == 4
    assert not board.is_stale


def test_jobs_are_counted_by_status_without_asking(board: Board) -> None:
    board.note(told("job", job_view("a", JobState.FAILED, tasks=counts(failed=5))))
    board.note(told("job", job_view("b", JobState.QUEUED)))
    picture = board.take(0.0, 1.0)
    assert picture.job_counts == {"RUNNING": 0, "FAILED": 1, "QUEUED": 1}
    assert picture.failed[-1] == 5
    assert board.needs_status


def test_what_ended_before_we_looked_is_in_no_chart(board: Board) -> None:
    board.read_lists([job_view("a", tasks=counts(completed=500))], [])
    assert not any(board.take(0.0, 1.0).done)


def test_nodes_come_and_go(board: Board) -> None:
    board.note(told("node", node_view("attic", load=0.25)))
    board.note(told("node_removed", {"id": node_view("desk").id}))
    picture = board.take(0.0, 1.0)
    assert [node.name for node in picture.nodes] == ["attic"]
    assert picture.loads[node_view("attic").id] == (0.25,)


def test_missed_events_mean_reading_the_lists(board: Board) -> None:
    board.take(0.0, 1.0)
    before = board.take(0.0, 1.0).stirred
    board.note(told("resync", None))
    assert board.needs_lists
    board.read_lists([job_view("a")], [node_view("desk")])
    assert not board.needs_lists
    assert board.take(0.0, 1.0).stirred != before


def test_tasks_stir_their_job_only(board: Board) -> None:
    board.note(told("tasks", [{"job_id": job_view("a").id}, {"job_id": "other"}], 17))
    assert board.take(0.0, 1.0).stirred == {job_view("a").id: 17}


def test_jobs_are_bounded_and_what_goes_on_is_kept(board: Board) -> None:
    old = job_view("old", created_at="2020-01-01T00:00:00Z")
    board.read_lists([old], [])
    for number in range(JOBS_MOST + 50):
        ended = job_view(f"j{number:04}x", JobState.COMPLETED, tasks=counts(completed=1))
        board.note(told("job", ended))
    picture = board.take(0.0, 1.0)
    assert len(picture.jobs) == JOBS_MOST
    assert picture.job(old.id) is not None


def test_newest_jobs_come_first() -> None:
    board = Board()
    board.read_lists([job_view("a", created_at="2024-01-01"), job_view("b", created_at="2024-01-02")], [])
    assert [job.name for job in board.take(0.0, 1.0).jobs] == ["b", "a"]
