"""How jobs end before their time: stopped after so many failures."""

from __future__ import annotations

import builders
from transcript import Transcript

from planetmesh.model.job import Counts, JobState, Outcome, TaskState, job_state


def test_so_many_failures_stop_the_job(mesh: Transcript):
    mesh.join("desk", 3)
    mesh.submit("a", 100, max_attempts=1, max_failures=2)
    mesh.place()
    mesh.skip()
    mesh.end("desk", "a", 0, outcome=Outcome.EXIT_CODE, error="Exit status 1.")
    assert mesh.state.jobs
    mesh.skip()
    mesh.end("desk", "a", 1, outcome=Outcome.EXIT_CODE)
    mesh.expect("""
        save a/1 FAILED #1 on desk exit_code
        job a changed
        save job a started
        job a changed
        save a/2 CANCELLED #1 on desk cancelled
        desk <- StopTask a/2 #1
        job a changed
        save job a started completed
        desk <- CloseJob a
        job a ended FAILED: Exit status 1.
    """)


def test_the_row_says_what_became_of_tasks_without_one(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a", 9, max_attempts=1, max_failures=1)
    mesh.place()
    mesh.end("desk", "a", outcome=Outcome.EXIT_CODE)
    ended = mesh.unseen[-1]
    assert (ended.job.rest, ended.counts) == (TaskState.CANCELLED, Counts(failed=1, cancelled=8))
    assert ended.job.rest_error == "Cancelled: 1 of its tasks failed, and the job was to stop at 1."
    assert job_state(ended.counts, partial=False, cancelled=False) is JobState.FAILED
    mesh.skip()


def test_the_last_failure_needs_no_stop(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a", 1, max_attempts=1, max_failures=1)
    mesh.place()
    mesh.end("desk", "a", outcome=Outcome.EXIT_CODE)
    assert mesh.unseen[-1].job.rest is None
    assert mesh.unseen[-1].job.id == builders.job_id("a")
    mesh.skip()


def test_a_node_that_goes_away_with_two_tasks_of_which_one_ends_the_job(mesh: Transcript):
    mesh.join("desk", 2)
    mesh.submit("a", 2, at_most_once=True, max_attempts=1, max_failures=1)
    mesh.place()
    mesh.wait(20)
    assert not mesh.state.jobs
    assert not mesh.node("desk").held
    mesh.submit("b", 2, at_most_once=True, max_attempts=1, max_failures=1)
    mesh.join("desk", 2)
    mesh.place()
    mesh.join("desk", 2, instance="i2")
    assert not mesh.state.jobs
    mesh.skip()
