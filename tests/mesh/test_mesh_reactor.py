"""The reactor by transcript: jobs and tasks. Event in, effects out; every effect is accounted for."""

from __future__ import annotations

import builders
import msgspec
import pytest
from transcript import Transcript

from planetmesh.errors import BadInput, Conflict
from planetmesh.mesh import effects as fx
from planetmesh.mesh import reactor
from planetmesh.model.blob import Digest, Made, StagedFile
from planetmesh.model.job import Items, Outcome, TaskState


def two_machines(mesh: Transcript, *, cpus: float = 1) -> None:
    mesh.join("desk", cpus)
    mesh.join("nas", cpus)
    mesh.skip()


def test_the_natural_way_of_one_task(mesh: Transcript):
    mesh.join("desk")
    mesh.skip()
    mesh.submit("a")
    mesh.expect("""
        save job a
        job a changed
    """)
    mesh.place()
    mesh.expect("""
        save a/0 ASSIGNED #1 on desk
        save job a started
        desk <- OpenJob a
        desk <- AssignTask a/0 #1
        job a changed
    """)
    mesh.start("desk", "a")
    mesh.expect("""
        save a/0 RUNNING #1 on desk (later)
        job a changed
    """)
    mesh.end("desk", "a")
    mesh.expect("""
        save a/0 COMPLETED #1 on desk ok
        job a changed
        save job a started completed
        desk <- CloseJob a
        job a ended COMPLETED
    """)
    assert not mesh.state.jobs
    assert not mesh.state.waiting()


def test_files_travel_with_job_and_task_and_what_was_made_is_kept(mesh: Transcript):
    digest = Digest("ab" * 32)
    model, photo = StagedFile("model", digest, 9, is_tree=True), StagedFile("x.png", digest, 5)
    mesh.join("desk")
    mesh.skip()
    mesh.submit("a", Items(("x.png",), (photo,)), files=(model,), outputs=("*.txt",))
    mesh.skip()
    mesh.place()
    sent = [effect.message for effect in mesh.unseen if isinstance(effect, fx.Send)]
    opened, assigned = sent
    assert (opened.files, opened.outputs) == ((model,), ("*.txt",))
    assert assigned.files == (photo,)
    mesh.skip()
    made = Made(digest, 1, 7)
    mesh.end("desk", "a", made=made)
    ended = [effect.task for effect in mesh.unseen if isinstance(effect, fx.SaveTask)]
    assert [task.made for task in ended] == [made]
    mesh.skip()


def test_bad_inputs_end_a_task_at_once_with_what_was_made_of_the_others(mesh: Transcript):
    made = Made(Digest("ab" * 32), 19, 7)
    mesh.join("desk")
    mesh.submit("a", 4, max_attempts=3)
    for index in range(4):
        mesh.place()
        mesh.skip()
        mesh.end("desk", "a", index, outcome=Outcome.INPUTS, exit_code=1, error="1 of 20", made=made)
        (task,) = [effect.task for effect in mesh.unseen if isinstance(effect, fx.SaveTask)]
        assert (task.state, task.outcome, task.made) == (TaskState.FAILED, Outcome.INPUTS, made)
        assert task.error == "1 of 20"
    node = mesh.state.nodes[builders.node_id("desk")]
    assert node.node.reliability == 1.0
    assert not node.node.confined
    mesh.skip()


def test_files_of_an_attempt_that_is_tried_again_are_not_kept(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a", max_attempts=1)
    mesh.place()
    mesh.skip()
    mesh.end("desk", "a", outcome=Outcome.EXIT_CODE, exit_code=1, made=Made(Digest("ab" * 32), 1, 7))
    (task,) = [effect.task for effect in mesh.unseen if isinstance(effect, fx.SaveTask)]
    assert (task.state, task.made) == (TaskState.FAILED, None)
    mesh.skip()


def test_a_job_without_tasks_is_refused(mesh: Transcript):
    with pytest.raises(BadInput):
        mesh.submit("a", builders.items())
    assert not mesh.state.jobs


def test_an_end_may_come_before_the_start_was_seen(mesh: Transcript):
    two_machines(mesh)
    mesh.submit("a")
    mesh.place()
    mesh.skip()
    mesh.end("desk", "a", wall_seconds=2.0)
    assert "save a/0 COMPLETED #1 on desk ok" in [line.strip() for line in _lines(mesh)]


def _lines(mesh: Transcript) -> list[str]:
    from transcript import show

    lines = [show(effect) for effect in mesh.unseen]
    mesh.skip()
    return lines


class TestRetry:
    def test_another_machine_comes_first(self, mesh: Transcript):
        two_machines(mesh)
        mesh.submit("a")
        mesh.place()
        mesh.skip()
        mesh.end("desk", "a", outcome=Outcome.EXIT_CODE, error="Exit status 1.")
        mesh.expect("""
            save a/0 RETRYING #1 on desk exit_code
            keep a/0 #1 exit_code
            job a changed
        """)
        assert mesh.place() == []
        mesh.wait(2.0)
        mesh.expect("""
            save a/0 QUEUED #1 on desk exit_code (later)
            job a changed
        """)
        mesh.place()
        assert mesh.where() == {"nas": "a/0"}
        mesh.skip()
        mesh.end("nas", "a", attempt=2)
        assert "job a ended COMPLETED" in _lines(mesh)

    def test_the_same_machine_again_if_there_is_no_other(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a")
        for attempt in (1, 2):
            mesh.place()
            mesh.end("desk", "a", attempt=attempt, outcome=Outcome.TIMED_OUT, error="Too slow.")
            mesh.hear("desk")
            mesh.wait(3.0)
        mesh.place()
        mesh.skip()
        mesh.end("desk", "a", attempt=3, outcome=Outcome.TIMED_OUT, error="Too slow.")
        mesh.expect("""
            save a/0 FAILED #3 on desk timed_out
            job a changed
            save job a started completed
            desk <- CloseJob a
            job a ended FAILED: Too slow (no attempts left of 3).
        """)

    def test_back_offs_grow_and_spread(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", max_attempts=9)
        delays = []
        for attempt in range(1, 9):
            mesh.place()
            mesh.end("desk", "a", attempt=attempt, outcome=Outcome.EXIT_CODE)
            delays.append(mesh.task("a").retry_at - mesh.now.steady)
            mesh.hear("desk")
            mesh.pass_time(delays[-1])
            mesh.hear("desk")
            mesh.wait(0)
        mesh.skip()
        for number, delay in enumerate(delays):
            assert delay == pytest.approx(min(60, 2**number), rel=0.25)
        assert len({round(delay / min(60, 2**number), 6) for number, delay in enumerate(delays)}) > 4

    def test_not_found_goes_elsewhere_and_then_gives_up_at_once(self, mesh: Transcript):
        two_machines(mesh)
        mesh.submit("a", max_attempts=9)
        mesh.place()
        mesh.end("desk", "a", outcome=Outcome.NOT_FOUND, error="No such program: magick.")
        assert mesh.task("a").state is TaskState.RETRYING
        mesh.wait(2.0)
        mesh.place()
        mesh.skip()
        mesh.end("nas", "a", attempt=2, outcome=Outcome.NOT_FOUND, error="No such program: magick.")
        assert (
            _lines(mesh)[-1] == "job a ended FAILED: No such program: magick (no other machine could run it)."
        )

    def test_a_failure_that_is_told_twice_counts_once(self, mesh: Transcript):
        two_machines(mesh)
        mesh.submit("a")
        mesh.place()
        mesh.end("desk", "a", outcome=Outcome.EXIT_CODE)
        mesh.skip()
        for outcome in (Outcome.EXIT_CODE, Outcome.OK):
            mesh.end("desk", "a", outcome=outcome)
        mesh.start("desk", "a")
        mesh.give_back("desk", "a")
        mesh.expect("")
        assert mesh.task("a").failures == 1

    def test_a_single_attempt_fails_without_remarks(self, mesh: Transcript):
        two_machines(mesh)
        mesh.submit("a", max_attempts=1)
        mesh.place()
        mesh.skip()
        mesh.end("desk", "a", outcome=Outcome.EXIT_CODE, error="Exit status 1.")
        assert _lines(mesh)[-1] == "job a ended FAILED: Exit status 1."

    def test_a_failed_task_fails_the_job_unless_partial(self, mesh: Transcript):
        mesh.join("desk", 2)
        for name, partial, state in (("a", False, "FAILED"), ("b", True, "PARTIALLY_COMPLETED")):
            mesh.submit(name, 2, max_attempts=1, partial=partial)
            mesh.place()
            mesh.end("desk", name, 0)
            mesh.skip()
            mesh.end("desk", name, 1, outcome=Outcome.EXIT_CODE, error="Exit status 1.")
            assert _lines(mesh)[-1] == f"job {name} ended {state}: Exit status 1."


class TestLoss:
    def test_a_task_that_kills_three_machines_is_the_culprit(self, mesh: Transcript):
        for name in ("m1", "m2", "m3", "m4"):
            mesh.join(name)
        mesh.submit("a", max_attempts=1)
        for attempt in (1, 2, 3):
            mesh.hear("m4")
            mesh.place()
            mesh.skip()
            mesh.start(f"m{attempt}", "a", attempt=attempt)
            mesh.cut(f"m{attempt}")
            for name in ("m1", "m2", "m3", "m4"):
                if mesh.node(name).connected:
                    mesh.pass_time(4.0)
            mesh.pass_time(12.0)
            mesh.hear(*[n for n in ("m1", "m2", "m3", "m4") if mesh.node(n).connected])
            mesh.skip()
            mesh.wait(3.0)
            if attempt < 3:
                assert mesh.task("a").losses == attempt
                mesh.hear(*[n for n in ("m1", "m2", "m3", "m4") if mesh.node(n).connected])
                mesh.wait(5.0)
        assert _lines(mesh)[-2:] == [
            f"job a ended FAILED: {reactor.LOSS_ERROR[:-1]} (what it ran on went away 3 times).",
            "node m3 changed",
        ]

    def test_a_late_end_after_offline_counts_if_nobody_else_has_the_task(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a")
        mesh.place()
        mesh.wait(20.0)
        assert mesh.task("a").state is TaskState.RETRYING
        mesh.join("desk", held=(builders.held("a", running=False),))
        assert (mesh.task("a").state, mesh.task("a").losses, mesh.task("a").excluded) == ("RUNNING", 0, ())
        mesh.skip()
        mesh.end("desk", "a")
        assert _lines(mesh)[-1] == "job a ended COMPLETED"

    def test_a_late_end_is_fenced_once_a_newer_attempt_was_placed(self, mesh: Transcript):
        two_machines(mesh)
        mesh.submit("a")
        mesh.place()
        mesh.start("desk", "a")
        mesh.cut("desk")
        mesh.pass_time(16.0)
        mesh.hear("nas")
        mesh.wait(0)
        mesh.wait(2.0)
        mesh.place()
        assert mesh.where() == {"nas": "a/0"}
        mesh.skip()
        mesh.join("desk", held=(builders.held("a"),))
        mesh.expect("""
            save node desk HEALTHY
            desk <- Registered drop a/0#1
            node desk changed
        """)
        mesh.end("desk", "a", attempt=1, outcome=Outcome.EXIT_CODE)
        mesh.start("desk", "a", attempt=1)
        mesh.give_back("desk", "a", attempt=1)
        mesh.end("desk", "a", attempt=2)
        mesh.expect("")
        mesh.end("nas", "a", attempt=2)
        assert _lines(mesh)[-1] == "job a ended COMPLETED"
        mesh.end("nas", "a", attempt=2)
        mesh.expect("")

    def test_three_blips_of_one_machine_do_not_fail_its_long_task(self, mesh: Transcript):
        mesh.join("laptop")
        mesh.submit("a")
        mesh.place()
        mesh.start("laptop", "a")
        for _ in range(4):
            mesh.cut("laptop")
            mesh.wait(20.0)
            assert mesh.task("a").state is TaskState.RETRYING
            mesh.join("laptop", held=(builders.held("a"),))
            assert mesh.task("a").state is TaskState.RUNNING
        assert mesh.task("a").losses == 0
        mesh.skip()

    def test_a_failure_that_comes_late_counts_as_a_failure_not_as_a_loss(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a")
        mesh.place()
        mesh.wait(20.0)
        mesh.skip()
        mesh.end("desk", "a", outcome=Outcome.EXIT_CODE)
        mesh.expect("""
            save a/0 RETRYING #1 on desk exit_code
            keep a/0 #1 exit_code
            job a changed
        """)
        assert (mesh.task("a").losses, mesh.task("a").failures) == (0, 1)

    def test_at_most_once_is_not_tried_again_after_a_loss(self, mesh: Transcript):
        two_machines(mesh)
        mesh.submit("a", at_most_once=True)
        mesh.place()
        mesh.cut("desk")
        mesh.pass_time(20.0)
        mesh.hear("nas")
        mesh.skip()
        mesh.wait(0)
        mesh.expect("""
            save node desk OFFLINE
            save a/0 FAILED #1 on desk lost
            job a changed
            save job a started completed
            job a ended FAILED: The machine it ran on went away (it may have run, and this job's tasks run at most once).
            node desk changed
        """)  # noqa: E501  a line is one effect

    def test_at_most_once_that_never_arrived_is_placed_again(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", at_most_once=True)
        mesh.place()
        mesh.cut("desk")
        mesh.skip()
        mesh.join("desk")
        mesh.expect("""
            save a/0 QUEUED #1 on desk returned
            job a changed
            save node desk HEALTHY
            desk <- Registered
            node desk changed
        """)
        mesh.place()
        mesh.skip()
        assert mesh.task("a").attempt == 2

    def test_at_most_once_that_was_stopped_while_it_ran_is_over(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", at_most_once=True)
        mesh.place()
        mesh.start("desk", "a")
        mesh.skip()
        mesh.give_back("desk", "a")
        assert _lines(mesh)[-1].startswith("job a ended FAILED: It was stopped while it ran (it may have run")

    @pytest.mark.parametrize("how", ["returned", Outcome.CANCELLED])
    def test_at_most_once_that_ran_is_over_even_if_its_start_was_never_heard_of(self, mesh: Transcript, how):
        mesh.join("desk")
        mesh.submit("a", at_most_once=True)
        mesh.place()
        mesh.skip()
        assert mesh.task("a").state is TaskState.ASSIGNED
        if how == "returned":
            message = msgspec.structs.replace(builders.returned("a"), started=True)
            mesh.take(reactor.on_task_returned(mesh.state, builders.node_id("desk"), message, mesh.now))
        else:
            mesh.end("desk", "a", outcome=how)
        assert _lines(mesh)[-1].startswith("job a ended FAILED: It was stopped while it ran (it may have run")


class TestCancel:
    def test_a_job(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", 3)
        mesh.place()
        mesh.skip()
        mesh.cancel("a", "enough")
        mesh.expect("""
            save job a started cancelled
            job a changed
            save a/0 CANCELLED #1 on desk cancelled
            desk <- StopTask a/0 #1
            job a changed
            save job a started cancelled completed
            desk <- CloseJob a
            job a ended CANCELLED
        """)
        mesh.end("desk", "a", outcome=Outcome.CANCELLED)
        mesh.expect("")

    def test_one_task_while_it_waits_in_a_back_off(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", 2)
        mesh.place()
        mesh.end("desk", "a", 0, outcome=Outcome.EXIT_CODE)
        mesh.skip()
        mesh.cancel_task("a", 0)
        mesh.expect("""
            save a/0 CANCELLED #1 on desk cancelled
            job a changed
        """)
        mesh.wait(3.0)
        mesh.cancel_task("a", 0)
        mesh.cancel_task("a", 99)
        mesh.expect("")
        mesh.cancel_task("a", 1)
        assert _lines(mesh)[-1] == "job a ended FAILED"

    def test_a_task_far_ahead_costs_one_record_and_is_refused_beyond_a_bound(self, mesh: Transcript):
        mesh.submit("a", 1_000_000)
        with pytest.raises(Conflict):
            mesh.cancel_task("a", 10_001)
        mesh.cancel_task("a", 10_000)
        mesh.cancel_task("a", 1)
        live = mesh.job("a")
        assert (live.next_index, live.ahead, live.tasks) == (0, {1, 10_000}, {})
        assert (live.counts.queued, live.counts.cancelled) == (999_998, 2)
        mesh.join("desk", 4)
        placed = mesh.place()
        assert [placement.index for placement in placed] == [0, 2, 3, 4]
        mesh.cancel("a")
        mesh.skip()

    def test_a_task_that_runs_frees_its_place_at_once(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", 2)
        mesh.place()
        mesh.cancel_task("a", 0)
        mesh.place()
        mesh.skip()
        assert mesh.where() == {"desk": "a/1"}


class TestReturned:
    def test_costs_nothing_and_the_node_rests(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", max_attempts=1)
        mesh.place()
        mesh.skip()
        mesh.give_back("desk", "a")
        mesh.expect("""
            save a/0 QUEUED #1 on desk returned
            job a changed
        """)
        assert mesh.place() == []
        mesh.pass_time(reactor.REST_SECONDS)
        assert [placement.index for placement in mesh.place()] == [0]
        assert mesh.skip().task("a").failures == 0

    @pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.RETURNED])
    def test_as_a_result(self, mesh: Transcript, outcome: Outcome):
        mesh.join("desk")
        mesh.submit("a", max_attempts=1)
        mesh.place()
        mesh.start("desk", "a")
        mesh.skip()
        mesh.end("desk", "a", outcome=outcome)
        mesh.expect("""
            save a/0 QUEUED #1 on desk returned
            job a changed
        """)
        assert mesh.node("desk").node.reliability == 1.0


def test_a_million_tasks_cost_nothing_before_they_run(mesh: Transcript):
    mesh.submit("a", 1_000_000)
    mesh.join("desk", 2)
    mesh.place()
    live = mesh.job("a")
    assert len(live.tasks) == 2
    assert live.counts.queued == 999_998
    for _ in range(100):
        for index in list(live.tasks):
            mesh.end("desk", "a", index, wall_seconds=100.0)
        mesh.place()
    mesh.skip()
    assert len(live.tasks) == 2
    assert not live.ahead
    assert not live.ready


def test_answers_of_a_liar_change_nothing(mesh: Transcript):
    two_machines(mesh)
    mesh.submit("a", 2)
    mesh.place()
    mesh.skip()
    for node, index, attempt in [
        ("nas", 0, 1),
        ("desk", 0, 2),
        ("desk", 7, 1),
        ("desk", -1, 1),
        ("desk", 0, 0),
    ]:
        mesh.start(node, "a", index, attempt)
        mesh.end(node, "a", index, attempt)
        mesh.give_back(node, "a", index, attempt)
        assert not reactor.still_counts(
            mesh.state, builders.node_id(node), builders.job_id("a"), index, attempt
        )
    mesh.end("desk", "unknown")
    mesh.expect("")


def test_why_a_job_waits_is_said_for_each_node(mesh: Transcript):
    mesh.join("small", 0.5)
    mesh.join("busy")
    mesh.join("gone")
    mesh.cut("gone")
    mesh.submit("a", 2, max_running=1)
    mesh.place()
    mesh.skip()
    reasons = {
        live.node.name: reason.code for live, reason in reactor.waiting_reasons(mesh.state, mesh.job("a"))
    }
    assert reasons == {"small": "too_small", "busy": "full", "gone": "offline"}
