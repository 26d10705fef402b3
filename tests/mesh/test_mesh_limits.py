"""The two limits that the coordinator keeps: in the queue, and from first start to end."""

from __future__ import annotations

import builders
import msgspec
from transcript import Transcript

from planetmesh.mesh import jobs, limits
from planetmesh.mesh.live_job import LiveJob
from planetmesh.model.job import Counts, Limits, Outcome, Task, TaskState


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
        save job a
        job a changed
        save job a completed
        job a ended FAILED: It waited 5 s for a machine, which is its limit.
    """)


def test_when_waiting_began_is_written_down_once(mesh: Transcript):
    mesh.submit("a", limits=Limits(queue_seconds=60))
    mesh.skip()
    mesh.wait(0.5)
    mesh.expect("save job a")
    mesh.wait(0.5)
    mesh.expect("")
    assert mesh.job("a").job.waiting_since == mesh.now.steady - 0.5


def restored(limit: float | None, *begun: float | None, attempt: int = 1) -> dict[int, float]:
    """When the tasks have begun by what a coordinator finds at steady time 100."""
    live = LiveJob(builders.job("a", len(begun), limits=Limits(total_seconds=limit)))
    for index, at in enumerate(begun):
        state = TaskState.ASSIGNED if attempt else TaskState.QUEUED
        live.put(Task(live.job.id, index, state, attempt=attempt, begun_at=at))
    limits.restore(live, 100.0)
    assert {i: t.begun_at for i, t in live.tasks.items() if t.begun_at is not None} == live.begun
    assert list(live.begun.values()) == sorted(live.begun.values())
    return live.begun


def test_limits_go_on_where_they_stood():
    assert restored(60, 70.0, 50.0, 60.0) == {1: 50.0, 2: 60.0, 0: 70.0}
    assert restored(60, None, 50.0) == {1: 50.0, 0: 100.0}, "an older program did not write it down"
    assert restored(60, 101.5, 50.0) == {1: 50.0, 0: 100.0}, "the clock was kept a little before the task"
    assert restored(60, None, attempt=0) == {}
    assert restored(None, None) == {}


def test_waiting_never_began_in_time_to_come():
    live = LiveJob(builders.job("a", limits=Limits(queue_seconds=5)))
    limits.restore(live, 100.0)
    assert live.job.waiting_since is None
    live.job = msgspec.structs.replace(live.job, waiting_since=101.0)
    limits.restore(live, 100.0)
    assert live.job.waiting_since == 100.0


def test_who_is_tried_again_has_not_begun(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a", limits=Limits(total_seconds=10), max_attempts=1)
    mesh.place()
    job, failed = mesh.job("a").job, mesh.task("a")
    assert failed.begun_at == mesh.now.steady
    mesh.pass_time(6)
    mesh.end("desk", "a", outcome=Outcome.EXIT_CODE)
    failed = msgspec.structs.replace(failed, state=TaskState.FAILED)
    _again, effects = jobs.on_retried(mesh.state, jobs.Earlier(job, Counts(failed=1), 1, (), (failed,)))
    mesh.take(effects)
    assert mesh.task("a").begun_at is None
    limits.restore(mesh.job("a"), mesh.now.steady)
    assert mesh.task("a").begun_at is None, "a restart of the coordinator does not begin it either"
    assert mesh.job("a").begun == {}
    mesh.place()
    assert mesh.job("a").begun == {0: mesh.now.steady}
    mesh.skip()


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
