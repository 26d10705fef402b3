"""The two limits that the coordinator keeps: in the queue, and from first start to end."""

from __future__ import annotations

from transcript import Transcript

from planetmesh.model.job import Counts, Limits, Outcome, TaskState


def test_who_waits_too_long_for_a_machine_fails_without_a_row(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a", 1000, limits=Limits(queue_seconds=10))
    mesh.place()
    mesh.start("desk", "a")
    mesh.stay("desk", seconds=8)
    mesh.skip()
    assert mesh.job("a").counts.queued == 999
    mesh.stay("desk", seconds=6)
    assert mesh.job("a").counts == Counts(running=1, failed=999)
    mesh.skip()
    mesh.end("desk", "a")
    ended = mesh.unseen[-1]
    assert ended.error == "It waited 10 s for a machine, which is its limit."
    assert ended.job.rest is TaskState.FAILED
    mesh.skip()


def test_a_job_of_which_nothing_started_ends_at_once(mesh: Transcript):
    mesh.submit("a", 3, limits=Limits(queue_seconds=5))
    mesh.wait(0.5)
    mesh.wait(6)
    mesh.expect("""
        save job a
        job a changed
        save job a
        job a changed
        save job a completed
        job a ended FAILED: It waited 5 s for a machine, which is its limit.
    """)


def test_a_pause_does_not_count(mesh: Transcript):
    mesh.submit("a", limits=Limits(queue_seconds=5))
    mesh.wait(0.5)
    mesh.pause("a")
    mesh.wait(100)
    mesh.resume("a")
    mesh.wait(1)
    mesh.wait(4.5)
    assert mesh.state.jobs
    mesh.wait(2)
    assert not mesh.state.jobs
    mesh.skip()


def test_the_whole_task_from_its_first_start_on(mesh: Transcript):
    mesh.join("desk", 2)
    mesh.submit("a", 2, limits=Limits(total_seconds=10), max_attempts=9)
    mesh.place()
    mesh.start("desk", "a", 0)
    mesh.end("desk", "a", 1, outcome=Outcome.EXIT_CODE, error="Exit status 7.")
    mesh.stay("desk", seconds=8)
    mesh.place()
    mesh.skip()
    mesh.stay("desk", seconds=4)
    mesh.expect("""
        desk <- StopTask a/0 #1
        save a/0 FAILED #1 on desk timed_out
        job a changed
        desk <- StopTask a/1 #2
        save a/1 FAILED #2 on desk timed_out
        job a changed
        save job a started completed
        desk <- CloseJob a
        job a ended FAILED: It was not done 10 s after its first start, which is its limit.
    """)
    mesh.end("desk", "a", 0)
    mesh.expect("")


def test_what_waits_out_a_back_off_ends_too(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a", limits=Limits(total_seconds=1.5), max_attempts=9)
    mesh.place()
    mesh.end("desk", "a", outcome=Outcome.EXIT_CODE, error="Exit status 7.")
    mesh.end("desk", "a", outcome=Outcome.EXIT_CODE)
    mesh.pass_time(1.6)
    mesh.skip()
    mesh.wait(0.0)
    assert not mesh.state.jobs
    assert "Before that: Exit status 7." in mesh.unseen[-1].error
    mesh.skip()
