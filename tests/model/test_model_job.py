"""Jobs and tasks: inputs, counters and the status made of them."""

from __future__ import annotations

import builders
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.model.job import (
    AUTO_CHUNK,
    ENDED,
    JOB_ENDED,
    ON_NODE,
    Counts,
    Items,
    JobState,
    One,
    Range,
    Task,
    TaskState,
    job_state,
)


@given(st.integers(-50, 50), st.integers(-50, 50), st.integers(-9, 9).filter(bool))
def test_a_range_is_that_of_python_with_both_ends(first: int, last: int, step: int):
    numbers = list(range(first, last + (1 if step > 0 else -1), step))
    found = Range(first, last, step)
    assert found.count == len(numbers)
    assert [found.text(index) for index in range(found.count)] == [str(number) for number in numbers]


@pytest.mark.parametrize(
    ("inputs", "count", "first"),
    [(One(), 1, ()), (Items(("a", "b")), 2, ("a",)), (Items(()), 0, None),
     (Range(0, 10**9), 10**9 + 1, ("0",)), (Range(1, 5, 0), 0, None)],
)  # fmt: skip
def test_inputs(inputs, count: int, first: tuple[str, ...] | None):
    assert inputs.count == count
    assert not count or builders.spec(inputs).items_of(0) == first


@given(st.integers(1, 40), st.integers(1, 12))
def test_chunks_hold_each_input_once_in_order(count: int, size: int):
    spec = builders.spec(Range(1, count), chunk=size)
    chunks = [spec.items_of(index) for index in range(spec.task_count)]
    assert [text for chunk in chunks for text in chunk] == [str(number) for number in range(1, count + 1)]
    assert all(len(chunk) == size for chunk in chunks[:-1])


def test_an_automatic_chunk_is_as_wide_as_its_task():
    spec = builders.spec(Range(1, 10), chunk=AUTO_CHUNK)
    assert spec.task_count == 10
    assert spec.items_of(3, 4) == ("4", "5", "6", "7")
    assert spec.items_of(8, 4) == ("9", "10")


@given(st.lists(st.sampled_from(list(TaskState)), max_size=30))
def test_counters_follow_their_tasks(moves: list[TaskState]):
    counts, state = Counts(queued=3), TaskState.QUEUED
    for after in moves:
        counts.move(state, after)
        state = after
        assert counts.total == 3
        assert counts.live == 3 - (state in ENDED)
        assert getattr(counts, state.value.lower()) == 1 + 2 * (state is TaskState.QUEUED)


@pytest.mark.parametrize(
    ("counts", "partial", "cancelled", "state"),
    [
        (Counts(queued=3), False, False, "QUEUED"),
        (Counts(queued=2, assigned=1), False, False, "RUNNING"),
        (Counts(retrying=1), False, False, "RUNNING"),
        (Counts(queued=2, completed=1), False, False, "RUNNING"),
        (Counts(queued=2, cancelled=1), False, True, "RUNNING"),
        (Counts(completed=3), False, False, "COMPLETED"),
        (Counts(completed=3), True, True, "COMPLETED"),
        (Counts(completed=2, failed=1), False, False, "FAILED"),
        (Counts(completed=2, failed=1), True, False, "PARTIALLY_COMPLETED"),
        (Counts(failed=3), True, False, "FAILED"),
        (Counts(completed=2, cancelled=1), False, False, "FAILED"),
        (Counts(completed=2, cancelled=1), True, False, "PARTIALLY_COMPLETED"),
        (Counts(completed=2, cancelled=1), True, True, "CANCELLED"),
        (Counts(cancelled=3), False, True, "CANCELLED"),
        (Counts(failed=3), False, True, "FAILED"),
    ],
)
def test_a_jobs_status(counts: Counts, partial: bool, cancelled: bool, state: str):
    assert job_state(counts, partial=partial, cancelled=cancelled) is JobState(state)


@given(st.builds(Counts, *[st.integers(0, 3)] * 7), st.booleans(), st.booleans())
def test_a_job_has_ended_when_its_tasks_have(counts: Counts, partial: bool, cancelled: bool):
    assert (job_state(counts, partial=partial, cancelled=cancelled) in JOB_ENDED) == (counts.live == 0)


def test_a_task_is_named_by_its_job_and_index():
    task = Task(builders.job_id("a"), 7)
    assert task.key == ("a000000000", 7)
    assert (task.state, task.attempt, task.ended) == (TaskState.QUEUED, 0, False)


def test_states_are_on_a_node_or_ended_or_waiting():
    assert not ON_NODE & ENDED
    assert set(TaskState) - ON_NODE - ENDED == {TaskState.QUEUED, TaskState.RETRYING}
    assert {state for state in TaskState if Task(builders.job_id("a"), 0, state).ended} == ENDED
