"""A live job's own bookkeeping where its tasks are not all of one width."""

from __future__ import annotations

import builders
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.mesh.live_job import LiveJob
from planetmesh.model.job import AUTO_CHUNK, Counts, Task, TaskState


@given(st.lists(st.integers(1, 7), max_size=12), st.integers(0, 40))
def test_wide_tasks_cover_each_index_once(widths: list[int], index: int):
    live = LiveJob(builders.job("a", 40, chunk=AUTO_CHUNK))
    for width in widths:
        run = live.fresh_run(width)
        if run:
            live.put(Task(live.job.id, live.next_index, TaskState.RUNNING, attempt=1, width=run))
    covered = min(40, sum(widths))
    assert live.counts == Counts(queued=40 - covered, running=covered)
    assert live.untouched == 40 - covered
    found = live.task(index)
    if index >= 40:
        assert found is None
    else:
        assert found is not None
        assert found.index <= index < found.index + found.width
        assert (found.state is TaskState.RUNNING) == (index < covered)


def test_what_machines_have_of_it_is_counted_in_tasks():
    live = LiveJob(builders.job("a", 40, chunk=AUTO_CHUNK, max_running=2))
    live.put(Task(live.job.id, 0, TaskState.RUNNING, attempt=1, width=30))
    assert (live.in_hands, live.capped) == (1, False)
    live.put(Task(live.job.id, 30, TaskState.ASSIGNED, attempt=1))
    assert live.capped


def test_tasks_of_unlike_width_have_no_common_length():
    live = LiveJob(builders.job("a", 40, chunk=AUTO_CHUNK))
    live.mean_seconds = 0.01
    assert live.task_seconds is None
