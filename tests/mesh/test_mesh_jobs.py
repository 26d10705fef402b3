"""What people ask of jobs, by transcript: pause, resume, change, wait for others, try again."""

from __future__ import annotations

import builders
import msgspec
import pytest
from transcript import Transcript

from planetmesh.errors import BadInput, Conflict
from planetmesh.mesh import jobs
from planetmesh.mesh.effects import JobEnded, SaveTask
from planetmesh.mesh.jobs import Earlier
from planetmesh.mesh.state import check
from planetmesh.model.ids import JobId
from planetmesh.model.job import After, Condition, Counts, JobState, Outcome, Task, TaskState

A, B, C = (builders.job_id(name) for name in "abc")


def ends(mesh: Transcript) -> dict[str, str]:
    """Jobs that have ended since the last look, with how."""
    found = {}
    for effect in mesh.unseen:
        if isinstance(effect, JobEnded):
            cancelled = effect.job.cancelled_at is not None
            found[effect.job.id[0]] = (effect.counts.completed, effect.counts.failed, cancelled)
    mesh.skip()
    return found


class TestPause:
    def test_nothing_more_is_placed_and_backlog_comes_back(self, mesh: Transcript):
        mesh.join("desk", 2)
        mesh.submit("a", 4)
        mesh.place()
        mesh.start("desk", "a", 0)
        mesh.skip()
        mesh.pause("a")
        mesh.expect("""
            save job a started
            desk <- RecallTasks a/1#1
            job a changed
        """)
        mesh.end("desk", "a", 0)
        assert mesh.place() == []
        mesh.give_back("desk", "a", 1)
        assert mesh.place() == []
        mesh.skip()
        mesh.pause("a")
        mesh.expect("")
        mesh.resume("a")
        mesh.expect("""
            save job a started
            job a changed
        """)
        assert {each.index for each in mesh.place()} >= {1, 2}
        mesh.skip()

    def test_a_back_off_that_is_over_waits_too(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a")
        mesh.place()
        mesh.end("desk", "a", outcome=Outcome.EXIT_CODE)
        mesh.pause("a")
        mesh.stay("desk", seconds=4.0)
        assert mesh.task("a").state is TaskState.QUEUED
        assert mesh.place() == []
        mesh.resume("a")
        assert len(mesh.place()) == 1
        mesh.skip()


class TestEdit:
    def test_a_higher_priority_comes_first_from_now_on(self, mesh: Transcript):
        mesh.submit("a", 2)
        mesh.submit("b", 2)
        mesh.edit("b", priority=5)
        mesh.join("desk", 2)
        assert {each.job_id for each in mesh.place()} == {B}
        mesh.skip()

    def test_fewer_or_any_number_at_a_time(self, mesh: Transcript):
        mesh.join("desk", 3)
        mesh.submit("a", 9, max_running=1)
        assert len(mesh.place()) == 1
        mesh.edit("a", max_running=2)
        assert len(mesh.place()) == 1
        mesh.edit("a", max_running=0)
        assert len(mesh.place()) == 1
        assert mesh.job("a").job.max_running is None
        mesh.skip()

    def test_what_is_not_named_stays(self, mesh: Transcript):
        mesh.submit("a", priority=3)
        mesh.edit("a", max_running=2)
        mesh.edit("a", priority=4)
        assert (mesh.job("a").job.priority, mesh.job("a").job.max_running) == (4, 2)
        mesh.skip()

    def test_a_circle_is_refused_and_named(self, mesh: Transcript):
        mesh.submit("a")
        mesh.submit("b", after=(After(A),))
        mesh.submit("c", after=(After(B),))
        with pytest.raises(BadInput, match=f"{A} after {C} after {B} after {A}"):
            mesh.edit("a", after=(After(C),))
        with pytest.raises(BadInput, match="circle"):
            mesh.edit("a", after=(After(A),))
        assert mesh.job("a").job.waits == ()
        mesh.skip()

    def test_one_that_has_begun_waits_for_nobody(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a")
        mesh.submit("b")
        mesh.place()
        with pytest.raises(Conflict, match="begun already"):
            mesh.edit("a", after=(After(B),))
        mesh.skip()


class TestAfter:
    def test_it_waits_for_the_others_success(self, mesh: Transcript):
        mesh.join("desk", 4)
        mesh.submit("a")
        mesh.submit("b", after=(After(A),))
        assert [each.job_id for each in mesh.place()] == [A]
        mesh.skip()
        mesh.end("desk", "a")
        mesh.expect("""
            save a/0 COMPLETED #1 on desk ok
            job a changed
            save job a started completed
            desk <- CloseJob a
            job a ended COMPLETED
            save job b
            job b changed
        """)
        assert [each.job_id for each in mesh.place()] == [B]
        mesh.skip()

    def test_a_failure_cancels_the_whole_chain(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", max_attempts=1)
        mesh.submit("b", after=(After(A),))
        mesh.submit("c", 3, after=(After(B), After(A, Condition.END)))
        mesh.place()
        mesh.skip()
        mesh.end("desk", "a", outcome=Outcome.EXIT_CODE)
        assert ends(mesh) == {"a": (0, 1, False), "b": (0, 0, True), "c": (0, 0, True)}
        assert not mesh.state.jobs
        assert not mesh.state.dependents

    @pytest.mark.parametrize(
        ("on", "fails", "runs"),
        [
            (Condition.FAILURE, True, True),
            (Condition.FAILURE, False, False),
            (Condition.END, True, True),
            (Condition.END, False, True),
            (Condition.SUCCESS, False, True),
        ],
    )
    def test_conditions(self, mesh: Transcript, on: Condition, fails: bool, runs: bool):
        mesh.join("desk")
        mesh.submit("a", max_attempts=1)
        mesh.submit("b", after=(After(A, on),))
        mesh.place()
        mesh.end("desk", "a", outcome=Outcome.EXIT_CODE if fails else Outcome.OK)
        assert bool(mesh.place()) == runs
        mesh.skip()

    def test_a_chain_of_thousands_is_settled_without_depth(self, mesh: Transcript):
        names = [builders.job_id(f"x{number}x") for number in range(3000)]
        for before, job_id in zip([None, *names], names, strict=False):
            job = builders.job("a", after=(After(before),) if before else ())
            mesh.take(jobs.on_job_submitted(mesh.state, msgspec.structs.replace(job, id=job_id)))
        mesh.skip()
        mesh.take(jobs.on_cancel(mesh.state, names[0], "", mesh.now))
        assert not mesh.state.jobs
        mesh.skip()

    def test_jobs_that_ended_before_it_was_handed_in(self, mesh: Transcript):
        job = builders.job("b", after=(After(A), After(C, Condition.FAILURE)))
        known = {A: JobState.COMPLETED, C: JobState.FAILED}
        mesh.take(jobs.on_job_submitted(mesh.state, job, known))
        assert mesh.job("b").job.waits == ()
        with pytest.raises(BadInput, match=f"job {A} has succeeded, and that job is CANCELLED"):
            jobs.on_job_submitted(mesh.state, builders.job("d", after=(After(A),)), {A: JobState.CANCELLED})
        with pytest.raises(Conflict, match="not known"):
            jobs.on_job_submitted(mesh.state, builders.job("d", after=(After(A),)))
        mesh.skip()

    def test_a_cancelled_waiter_is_forgotten(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a")
        mesh.submit("b", after=(After(A),))
        mesh.cancel("b")
        assert not mesh.state.dependents
        mesh.place()
        mesh.end("desk", "a")
        mesh.skip()


def ended(name: str, count: int, counts: Counts, failed: tuple[Task, ...], **changes) -> jobs.Earlier:
    job = msgspec.structs.replace(builders.job(name, count), completed_at=5.0, started_at=1.0, **changes)
    return jobs.Earlier(job, counts, count, (), failed)


class TestRetry:
    def test_only_the_failed_ones_with_new_attempts(self, mesh: Transcript):
        failed = Task(A, 1, TaskState.FAILED, attempt=3, failures=3, excluded=(builders.node_id("desk"),))
        again, effects = jobs.on_retried(mesh.state, ended("a", 3, Counts(completed=2, failed=1), (failed,)))
        mesh.take(effects)
        assert again == 1
        mesh.expect("""
            save job a started
            save a/1 QUEUED #3 on nowhere
            job a changed
        """)
        mesh.join("desk")
        mesh.place()
        mesh.skip()
        mesh.end("desk", "a", 1, attempt=4)
        assert ends(mesh) == {"a": (3, 0, False)}

    def test_of_a_job_that_still_runs(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", 2, max_attempts=1)
        mesh.place()
        mesh.end("desk", "a", 0, outcome=Outcome.EXIT_CODE)
        failed = next(each.task for each in mesh.unseen if isinstance(each, SaveTask) and each.task.ended)
        earlier = jobs.Earlier(mesh.job("a").job, mesh.job("a").counts, 1, (), (failed,))
        _again, effects = jobs.on_retried(mesh.state, earlier)
        mesh.take(effects)
        assert mesh.job("a").counts == Counts(queued=2)
        with pytest.raises(Conflict, match="No task"):
            jobs.on_retried(mesh.state, earlier)
        mesh.skip()

    def test_tasks_that_failed_while_they_waited_have_no_rows(self, mesh: Transcript):
        earlier = ended("a", 4, Counts(completed=1, failed=3), (), rest=TaskState.FAILED, rest_error="late")
        earlier = msgspec.structs.replace(earlier, next_index=1)
        again, effects = jobs.on_retried(mesh.state, earlier)
        mesh.take(effects)
        assert (again, mesh.job("a").counts) == (3, Counts(queued=3, completed=1))
        mesh.join("desk", 4)
        assert [each.index for each in mesh.place()] == [1, 2, 3]
        mesh.skip()

    def test_never_what_may_run_only_once(self, mesh: Transcript):
        failed = Task(A, 0, TaskState.FAILED, attempt=1)
        earlier = ended("a", 1, Counts(failed=1), (failed,))
        job = msgspec.structs.replace(earlier.job, spec=builders.spec(at_most_once=True))
        with pytest.raises(Conflict, match="only once"):
            jobs.on_retried(mesh.state, msgspec.structs.replace(earlier, job=job))

    def test_cancelled_ones_stay(self, mesh: Transcript):
        failed = Task(A, 0, TaskState.FAILED, attempt=1)
        earlier = ended("a", 5, Counts(failed=1, cancelled=4), (failed,), rest=TaskState.CANCELLED)
        _again, effects = jobs.on_retried(mesh.state, msgspec.structs.replace(earlier, next_index=1))
        mesh.take(effects)
        mesh.join("desk", 8)
        assert [each.index for each in mesh.place()] == [0]
        mesh.end("desk", "a", 0, attempt=2)
        assert mesh.unseen[-1].counts == Counts(completed=1, cancelled=4)
        mesh.skip()


class TestCauseRetried:
    """Jobs that were cancelled only because another failed wait for it again when that is tried again."""

    def fail(self, mesh: Transcript, name: str) -> dict[JobId, Earlier]:
        """The job fails; what the disk then has of all that ended with it."""
        mesh.skip()
        mesh.end("desk", name, outcome=Outcome.EXIT_CODE)
        found = {}
        for each in mesh.unseen:
            if isinstance(each, JobEnded):
                failed = tuple(
                    save.task
                    for save in mesh.unseen
                    if isinstance(save, SaveTask) and save.task.job_id == each.job.id
                )
                next_index = len(failed)
                found[each.job.id] = Earlier(each.job, each.counts, next_index, (), failed)
        mesh.skip()
        return found

    def retry(self, mesh: Transcript, cause: Earlier, *dropped: Earlier, **ended: JobState) -> set[str]:
        _again, effects = jobs.on_retried(mesh.state, cause)
        mesh.take(effects)
        known = {each.job.id: JobState.CANCELLED for each in dropped}
        known |= {builders.job_id(name): state for name, state in ended.items()}
        waiting, effects = jobs.on_cause_retried(mesh.state, dropped, known)
        mesh.take(effects)
        check(mesh.state)
        return {each.rstrip("0") for each in waiting}

    def test_the_whole_chain_waits_again_and_runs(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", max_attempts=1)
        mesh.submit("b", 2, after=(After(A),))
        mesh.submit("c", after=(After(B),))
        mesh.place()
        was = self.fail(mesh, "a")
        assert (was[B].job.dropped_for, was[C].job.dropped_for) == (A, B)
        assert self.retry(mesh, was[A], was[B], was[C]) == {"b", "c"}
        mesh.expect("""
            save job a started
            save a/0 QUEUED #1 on desk
            job a changed
            save job b
            job b changed
            save job c
            job c changed
        """)
        assert mesh.job("b").counts == Counts(queued=2)
        assert mesh.job("b").job.waits == (After(A),)
        assert not mesh.job("b").job.cancel_reason
        assert [each.job_id for each in mesh.place()] == [A]
        mesh.end("desk", "a", attempt=2)
        for _ in range(2):
            (placed,) = mesh.place()
            mesh.end("desk", "b", placed.index)
        assert [each.job_id for each in mesh.place()] == [C]
        mesh.skip()

    def test_it_fails_again(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", max_attempts=1)
        mesh.submit("b", after=(After(A),))
        mesh.place()
        was = self.fail(mesh, "a")
        self.retry(mesh, was[A], was[B])
        mesh.place()
        mesh.end("desk", "a", attempt=2, outcome=Outcome.EXIT_CODE)
        assert ends(mesh)["b"] == (0, 0, True)
        assert not mesh.state.jobs
        mesh.skip()

    def test_what_a_person_cancelled_stays(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", max_attempts=1)
        mesh.submit("b", 3, after=(After(A),))
        mesh.submit("c", after=(After(A),))
        mesh.place()
        mesh.cancel_task("b", 1)
        mesh.cancel("c")
        assert [each.job.dropped_for for each in mesh.unseen if isinstance(each, JobEnded)] == [None]
        was = self.fail(mesh, "a")
        assert C not in was
        b = msgspec.structs.replace(was[B], next_index=0, ahead=(1,), failed=())
        assert self.retry(mesh, was[A], b) == {"b"}
        assert mesh.job("b").counts == Counts(queued=2, cancelled=1)
        mesh.skip()

    def test_another_job_in_the_way_is_to_blame_then(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", max_attempts=1)
        mesh.submit("b", max_attempts=1)
        mesh.submit("c", after=(After(A), After(B)))
        mesh.submit("d", after=(After(C),))
        mesh.place(1)
        was = self.fail(mesh, "a")
        mesh.place()
        was |= self.fail(mesh, "b")
        d = was[builders.job_id("d")]
        assert was[C].job.dropped_for == A
        assert self.retry(mesh, was[A], was[C], d, b=JobState.FAILED) == set()
        blaming = mesh.unseen[-1].job
        assert (blaming.id, blaming.dropped_for) == (C, B)
        assert (
            blaming.cancel_reason == f"it was to run only once job {B} has succeeded, and that job is FAILED"
        )
        c = msgspec.structs.replace(was[C], job=blaming)
        assert self.retry(mesh, was[B], c, d) == {"c", "d"}
        assert mesh.job("c").job.waits == (After(A), After(B))
        mesh.skip()

    def test_one_that_ended_well_meanwhile_is_not_in_the_way(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", max_attempts=1)
        mesh.submit("b")
        mesh.submit("c", after=(After(A), After(B)))
        mesh.place(1)
        was = self.fail(mesh, "a")
        mesh.place()
        mesh.end("desk", "b")
        assert self.retry(mesh, was[A], was[C], b=JobState.COMPLETED) == {"c"}
        assert mesh.job("c").job.waits == (After(A),)
        mesh.skip()

    def test_in_whatever_order_they_are_given(self, mesh: Transcript):
        """One waits for two, of which one is brought back only after it."""
        mesh.join("desk")
        mesh.submit("a", max_attempts=1)
        mesh.submit("b", after=(After(A),))
        mesh.submit("d", after=(After(B),))
        mesh.submit("c", after=(After(A), After(builders.job_id("d"))))
        mesh.place()
        was = self.fail(mesh, "a")
        assert self.retry(mesh, was[A], was[C], was[builders.job_id("d")], was[B]) == {"b", "c", "d"}
        mesh.skip()

    def test_of_itself_it_is_told_which_to_try_again(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", max_attempts=1)
        mesh.submit("b", after=(After(A),))
        mesh.place()
        was = self.fail(mesh, "a")
        with pytest.raises(Conflict, match=f"because of job {A}") as refused:
            jobs.on_retried(mesh.state, was[B])
        assert f"planetmesh retry {A}" in refused.value.hint
