"""Jobs that stay open for more inputs: what they take, what they refuse, when they end."""

from __future__ import annotations

import builders
import pytest
from transcript import Transcript

from planetmesh.errors import Conflict
from planetmesh.mesh import lingering
from planetmesh.model.job import Counts, Outcome
from planetmesh.wire.agent import TaskResult


def add(mesh: Transcript, *items: str, first: int) -> None:
    mesh.take(lingering.on_inputs_added(mesh.state, builders.job_id("a"), items, first))


def run(mesh: Transcript, index: int) -> None:
    mesh.place()
    mesh.start("desk", "a", index)
    mesh.end("desk", "a", index)


def test_inputs_come_one_after_the_other_and_the_job_ends_when_none_comes_any_more(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a", builders.items("x"), linger_seconds=2)
    run(mesh, 0)
    mesh.wait(1.5)
    mesh.skip()
    add(mesh, "y", first=1)
    mesh.expect("""
        save job a started
        job a changed
    """)
    [placement] = mesh.place()
    assert mesh.job("a").job.spec.items_of(placement.index) == ("y",)
    mesh.start("desk", "a", 1)
    mesh.wait(3)
    mesh.hear("desk")
    mesh.end("desk", "a", 1)
    assert mesh.job("a").counts == Counts(completed=2)
    mesh.wait(1.5)
    mesh.skip()
    mesh.wait(1)
    mesh.expect("""
        save job a started completed
        desk <- CloseJob a
        job a ended COMPLETED
    """)


def test_inputs_added_twice_count_once_and_others_at_their_place_are_refused(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a", builders.items("x"), linger_seconds=2)
    add(mesh, "y", "z", first=1)
    mesh.skip()
    add(mesh, "y", "z", first=1)
    mesh.expect("")
    for first in (0, 1, 2, 4):
        with pytest.raises(Conflict):
            add(mesh, "other", first=first)
    assert mesh.job("a").counts == Counts(queued=3)


def test_only_a_job_that_lingers_and_was_not_cancelled_takes_inputs(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a", builders.items("x"))
    with pytest.raises(Conflict):
        add(mesh, "y", first=1)
    mesh.submit("b", builders.items("x"), linger_seconds=2)
    mesh.cancel("b")
    with pytest.raises(Conflict):
        lingering.on_inputs_added(mesh.state, builders.job_id("b"), ("y",), 1)
    mesh.skip()


def test_a_job_that_is_cancelled_while_it_waits_for_inputs_ends_at_once(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a", builders.items("x"), linger_seconds=60)
    run(mesh, 0)
    assert builders.job_id("a") in mesh.state.lingering
    mesh.cancel("a")
    assert builders.job_id("a") not in mesh.state.jobs
    mesh.wait(1)
    assert not mesh.state.lingering
    mesh.skip()


def test_one_with_automatic_chunks_takes_inputs_too_and_after_a_failure_it_does_not_wait(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a", builders.items("x", "y"), linger_seconds=2, chunk=0, max_attempts=1)
    mesh.place()
    mesh.end("desk", "a", 0)
    add(mesh, "z", first=2)
    mesh.place()
    mesh.end("desk", "a", 1, outcome=Outcome.EXIT_CODE)
    mesh.place()
    mesh.skip()
    mesh.end("desk", "a", 2)
    mesh.expect("""
        save a/2 COMPLETED #1 on desk ok
        job a changed
        save job a started completed
        desk <- CloseJob a
        job a ended FAILED
    """)
    assert not mesh.state.lingering


def test_an_end_may_wait_if_its_job_stays_open_and_nobody_wants_the_room(mesh: Transcript):
    def can_wait(job: str, outcome: Outcome = Outcome.OK) -> bool:
        result = TaskResult(builders.job_id(job), 0, 1, outcome, 0)
        return lingering.can_wait(mesh.state, result)

    mesh.join("desk", cpus=1)
    mesh.submit("a", builders.items("x"), linger_seconds=2)
    mesh.place()
    assert can_wait("a")
    assert not can_wait("a", Outcome.EXIT_CODE)
    assert not can_wait("b"), "it is not known"
    mesh.submit("b", 1)
    mesh.place()
    assert not can_wait("a"), "its room is wanted"
    mesh.cancel("b")
    assert can_wait("a")
    mesh.cancel("a")
    assert not can_wait("a")
    mesh.skip()


def test_an_end_of_a_job_that_does_not_linger_cannot_wait(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a", builders.items("x"))
    mesh.place()
    assert not lingering.can_wait(mesh.state, TaskResult(builders.job_id("a"), 0, 1, Outcome.OK, 0))
    mesh.skip()
