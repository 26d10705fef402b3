"""Columns, filter and sort."""

from __future__ import annotations

from typing import Any

import pytest
from dashboard_views import HOSTILE, counts, job_view, node_view, snapshot, task_view
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.dashboard.plain import BAD, text_of
from planetmesh.dashboard.rows import (
    GAP,
    JOBS,
    NODES,
    TASKS,
    arrange,
    job_matches,
    lay_out,
    node_matches,
)
from planetmesh.dashboard.tally import TALLIES
from planetmesh.model.job import JobState, TaskState
from planetmesh.model.node import Gpu, NodeState, Sandbox

ALL = {"nodes": NODES, "jobs": JOBS, "tasks": TASKS, "tallies": TALLIES}


def row(columns: Any, thing: Any, shot: Any = None) -> dict[str, str]:
    return {column.title: text_of(column.show(thing, shot or snapshot())) for column in columns}


def column(columns: Any, title: str) -> Any:
    return next(each for each in columns if each.title == title)


@pytest.mark.parametrize("columns", ALL.values(), ids=ALL)
@given(width=st.integers(38, 250))
def test_columns_fit_into_any_width(columns: Any, width: int) -> None:
    laid = lay_out(columns, width)
    assert sum(size for _column, size in laid) + GAP * (len(laid) - 1) <= width
    assert all(size >= each.width for each, size in laid)
    assert laid[0][0] is columns[0] or columns is JOBS


def test_what_matters_stays_at_eighty_columns() -> None:
    assert {"NAME", "STATE", "RUN", "LOAD"} <= {each.title for each, _ in lay_out(NODES, 78)}
    assert {"NAME", "STATUS", "PROGRESS", "FAILED", "LEFT"} <= {each.title for each, _ in lay_out(JOBS, 78)}
    assert {"TASK", "STATUS", "NODE", "ERROR"} <= {each.title for each, _ in lay_out(TASKS, 78)}
    assert len(lay_out(NODES, 198)) == len(NODES)


def test_what_may_grow_most_gets_most_of_the_room() -> None:
    widths = {each.title: size for each, size in lay_out(TASKS, 108)}
    assert widths["ERROR"] >= 30
    assert widths["INPUT"] >= 12
    assert sum(widths.values()) + GAP * (len(widths) - 1) == 108
    assert {each.title: size for each, size in lay_out(JOBS, 78)}["NAME"] >= 14


def test_a_node() -> None:
    gpu = Gpu("g", "RTX 3060", 12 * 2**30)
    shown = row(NODES, node_view(memory_free_bytes=2**32, backlog=2, gpus=(gpu, gpu), draining=True))
    assert shown["STATE"] == "draining"
    assert shown["RUN"] == "1+2"
    assert shown["LOAD"].endswith("50%")
    assert shown["MEMORY"] == " 75% of 16 GiB"
    assert shown["GPU"] == "2× RTX 3060"
    assert shown["RTT"] == "1.2ms"
    assert shown["SEEN"] == "now"


def test_a_node_that_never_came() -> None:
    away = node_view(state=NodeState.OFFLINE, load=None, rtt_ms=None, memory_bytes=0, last_heartbeat_at=None)
    shown = row(NODES, away)
    assert (shown["LOAD"], shown["RTT"], shown["MEMORY"], shown["SEEN"]) == ("-", "-", "-", "never")


def test_a_job_with_a_rate() -> None:
    job = job_view("a", tasks=counts(queued=49, running=1, completed=45, failed=5))
    shown = row(JOBS, job, snapshot(paces={job.id: 10.0}))
    assert shown["PROGRESS"].endswith("50%")
    assert (shown["DONE"], shown["FAILED"], shown["RATE"], shown["LEFT"]) == ("50/100", "5", "10/s", "0:05")


def test_what_cannot_run_has_no_time_left() -> None:
    job = job_view("a", tasks=counts(queued=1, completed=99))
    assert row(JOBS, job, snapshot(paces={job.id: 10.0}))["LEFT"] == "-"


def test_jobs_are_sorted_by_the_time_left_not_by_its_letters() -> None:
    jobs = [job_view(name, tasks=counts(running=left)) for name, left in (("b", 5400), ("a", 600), ("c", 0))]
    shot = snapshot(paces={job.id: 1.0 for job in jobs})
    by = column(JOBS, "LEFT")
    assert [job.id[0] for job in sorted(jobs, key=lambda job: by.key(job, shot))] == ["a", "b", "c"]


def test_an_ended_job_has_no_rate() -> None:
    job = job_view("a", JobState.FAILED, tasks=counts(failed=1))
    shown = row(JOBS, job, snapshot(paces={job.id: 10.0}))
    assert (shown["RATE"], shown["LEFT"]) == ("-", "-")
    assert column(JOBS, "FAILED").show(job, snapshot())[0][1] == BAD


def test_a_failed_task() -> None:
    task = task_view(
        7, TaskState.FAILED, exit_code=3, last_error="Exit status 3.", payload="a.png", attempts=2
    )
    shown = row(TASKS, task)
    assert (shown["TASK"], shown["EXIT"], shown["ATTEMPTS"]) == ("7", "3", "2")
    assert (shown["INPUT"], shown["ERROR"]) == ("a.png", "Exit status 3.")


def test_nothing_hostile_comes_through_a_cell() -> None:
    node = node_view(HOSTILE, tags=(HOSTILE,), sandbox=Sandbox(HOSTILE), gpus=(Gpu("g", HOSTILE, 1),))
    job = job_view(name="a", type=HOSTILE)
    task = task_view(node=HOSTILE, payload=HOSTILE, last_error=HOSTILE)
    cells = [*row(NODES, node).values(), *row(JOBS, job).values(), *row(TASKS, task).values()]
    assert all(text.isprintable() for text in cells)


def test_words_filter() -> None:
    nodes = [node_view("desk", tags=("gpu",)), node_view("attic", draining=True)]
    shot = snapshot(*nodes)
    assert arrange(nodes, shot, None, words="GPU desk", matches=node_matches) == nodes[:1]
    assert arrange(nodes, shot, None, words="draining", matches=node_matches) == nodes[1:]
    assert arrange(nodes, shot, None, words="nothing", matches=node_matches) == []
    assert job_matches(job_view("holiday", paused=True), "holi paused")


def test_sorted_by_a_column_and_turned() -> None:
    jobs = [job_view("a", tasks=counts(failed=1)), job_view("b", tasks=counts(failed=9)), job_view("c")]
    failed = column(JOBS, "FAILED")
    names = [job.name for job in arrange(jobs, snapshot(), failed)]
    assert names == ["b", "a", "c"]
    assert [job.name for job in arrange(jobs, snapshot(), failed, turned=True)] == names[::-1]
    assert [job.name for job in arrange(jobs, snapshot(), None, turned=True)] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("columns", "thing"), [(NODES, node_view()), (JOBS, job_view()), (TASKS, task_view())]
)
def test_every_column_can_be_sorted_by(columns: Any, thing: Any) -> None:
    for each in columns:
        assert arrange([thing, thing], snapshot(), each) == [thing, thing]


def test_a_cancelled_job_was_not_done_to_its_end() -> None:
    shown = row(JOBS, job_view(status=JobState.CANCELLED, tasks=counts(completed=38, cancelled=22)))
    assert shown["DONE"] == "38/60"
    assert shown["PROGRESS"].endswith(" 63%")
