"""Tasks with files, by transcript: fetched before they start, held until what they made has left."""

from __future__ import annotations

import msgspec
import pytest
from worklist_words import A, B, begin, held, opening, started, task, worklist

from planetmesh.agent.steps import (
    Cancelled,
    Close,
    Fetch,
    GiveBack,
    SetSlots,
    Start,
    StopCollect,
    StopFetch,
)
from planetmesh.agent.worklist import DRAINING
from planetmesh.model.blob import Digest, StagedFile

FILE = StagedFile("in.bin", Digest("a" * 64), 10)


def begin_with_files(work, count, job_id=A, **opened):
    work.open_job(msgspec.structs.replace(opening(job_id, **opened), files=(FILE,)))
    for index in range(count):
        assert work.assign(task(index, job_id))
    return work.next_steps()


def begin_and_end(work):
    """One task that has made files, and has ended."""
    begin(work, 1)
    assert work.on_ended(A, 0, 1, 1.0, leaves=True)


def test_a_task_with_files_starts_when_they_are_here():
    work = worklist(cpus=4)
    assert begin_with_files(work, 2) == [Fetch(task(0)), Fetch(task(1))]
    assert work.next_steps() == []
    assert work.held() == (held(0), held(1))
    assert (work.running, work.backlog, work.is_idle) == (0, 2, False)
    work.on_fetched(A, 1, 1)
    assert work.next_steps() == [SetSlots(A, 1), Start(task(1), ())]


def test_only_the_task_whose_input_is_a_file_is_fetched():
    work = worklist(cpus=4)
    work.open_job(opening())
    own = msgspec.structs.replace(task(0), files=(FILE,))
    work.assign(own)
    work.assign(task(1))
    assert work.next_steps() == [SetSlots(A, 1), Start(task(1), ()), Fetch(own)]


def test_others_are_not_held_up_by_what_is_fetched():
    work = worklist(cpus=1)
    begin_with_files(work, 5)
    assert started(begin(work, 2, B)) == [(B, 0)]
    work.on_fetched(A, 3, 1)
    assert work.next_steps() == []
    work.on_ended(B, 0, 1, 1.0)
    assert started(work.next_steps()) == [(B, 1)]


def test_files_stay_until_the_attempt_is_over():
    work = worklist(cpus=1)
    begin_with_files(work, 2)
    work.on_fetched(A, 0, 1)
    work.on_fetched(A, 1, 1)
    assert started(work.next_steps()) == [(A, 0)]
    work.on_started(A, 0, 1)
    assert work.next_steps() == []
    work.on_ended(A, 0, 1, 1.0, leaves=True)
    assert work.next_steps() == [Start(task(1), ()), StopFetch(A, 0, 1)]


@pytest.mark.parametrize("is_fetched", [False, True])
@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda work: work.cancel(A, 0, 1), [Cancelled(A, 0, 1)]),
        (lambda work: work.recall((held(0),)), [GiveBack(task(0), "recalled")]),
        (lambda work: work.drain(on=True), [GiveBack(task(0), DRAINING)]),
        (lambda work: work.drop((held(0),)), []),
        (lambda work: work.close_job(A), [Close(A)]),
    ],
)
def test_whatever_ends_it_early_lets_the_files_go(end, said, is_fetched):
    work = worklist(cpus=1)
    begin(work, 1, B)
    begin_with_files(work, 1)
    if is_fetched:
        work.on_fetched(A, 0, 1)
    end(work)
    assert work.next_steps() == [*said, StopFetch(A, 0, 1)]
    work.on_fetched(A, 0, 1)
    assert work.on_fetch_failed(A, 0, 1) is None
    assert started(work.next_steps()) == []


def test_what_cannot_be_brought_is_off_the_list():
    work = worklist(cpus=1)
    begin_with_files(work, 1)
    assert work.on_fetch_failed(A, 0, 1) == task(0)
    assert work.next_steps() == [StopFetch(A, 0, 1)]
    assert work.is_idle


def test_a_newer_attempt_is_fetched_anew():
    work = worklist(cpus=1)
    begin_with_files(work, 1)
    work.assign(task(0, attempt=2))
    assert work.next_steps() == [StopFetch(A, 0, 1), Fetch(task(0, attempt=2))]
    work.on_fetched(A, 0, 1)
    assert started(work.next_steps()) == []
    work.on_fetched(A, 0, 2)
    assert started(work.next_steps()) == [(A, 0)]


def test_one_whose_files_leave_is_held_and_uses_nothing():
    work = worklist(cpus=1)
    begin_and_end(work)
    assert work.held() == (held(0, running=True),)
    assert (work.running, work.backlog, work.is_idle) == (0, 0, False)
    work.assign(task(0))
    work.close_unused()
    assert started(begin(work, 1, B)) == [(B, 0)]
    assert work.on_left(A, 0, 1)
    assert work.on_left(A, 0, 1) is None
    assert work.held() == (held(0, B, running=True),)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda work: work.cancel(A, 0, 1), [StopCollect(A, 0, 1), Cancelled(A, 0, 1, True)]),
        (lambda work: work.drop((held(0, running=True),)), [StopCollect(A, 0, 1)]),
        (lambda work: work.drain(on=True), []),
        (
            lambda work: work.drain(on=True, now=True),
            [StopCollect(A, 0, 1), GiveBack(task(0), DRAINING, True)],
        ),
        (lambda work: work.close_job(A), [StopCollect(A, 0, 1), Close(A)]),
        (lambda work: work.recall((held(0, running=True),)), []),
    ],
)
def test_what_stops_files_that_leave(end, said):
    work = worklist(cpus=1)
    begin_and_end(work)
    end(work)
    assert work.next_steps() == said
    assert (work.on_left(A, 0, 1) is None) == bool(said)


def test_a_newer_attempt_stops_the_files_of_the_older():
    work = worklist(cpus=1)
    begin_and_end(work)
    work.assign(task(0, attempt=2))
    assert work.next_steps() == [StopCollect(A, 0, 1), Start(task(0, attempt=2), ())]
