"""The worklist by transcript: what comes in, which steps come out."""

from __future__ import annotations

from worklist_words import A, B, begin, held, kinds, opening, started, task, worklist

from planetmesh.agent.steps import Cancelled, Close, GiveBack, Kill, SetSlots, Start
from planetmesh.agent.worklist import DRAINING
from planetmesh.model.ids import JobId
from planetmesh.settings import Settings


def test_exactly_as_many_as_fit_are_handed_over():
    work = worklist(cpus=4)
    steps = begin(work, 10)
    assert steps == [SetSlots(A, 4), *[Start(task(index), ()) for index in range(4)]]
    assert (work.running, work.backlog) == (4, 6)
    assert work.next_steps() == []


def test_an_end_makes_room_for_the_next():
    work = worklist(cpus=2)
    begin(work, 3)
    assert work.on_ended(A, 0, 1, 5.0)
    assert work.next_steps() == [Start(task(2), ())]
    work.on_ended(A, 1, 1, 5.0)
    assert work.next_steps() == [SetSlots(A, 1)]


def test_memory_and_fractions_of_cpus_count():
    work = worklist(cpus=1)
    assert begin(work, 9, cpus=0.25)[0] == SetSlots(A, 4)
    work = worklist(cpus=8)
    assert begin(work, 9, memory=2**32)[0] == SetSlots(A, 2)


def test_short_tasks_are_handed_over_ahead_once_they_are_known_to_be_short():
    work = worklist(cpus=2)
    begin(work, 100)
    work.on_ended(A, 0, 1, 0.002)
    assert len(started(work.next_steps())) == 1 + Settings().prefill_most
    assert work.jobs[A].slots == 2


def test_long_tasks_never_are():
    work = worklist(cpus=2)
    begin(work, 100)
    work.on_ended(A, 0, 1, 0.2)
    assert started(work.next_steps()) == [(A, 2)]


def test_a_second_job_gets_its_share_as_tasks_end():
    work = worklist(cpus=4)
    begin(work, 50)
    assert begin(work, 50, B) == [SetSlots(A, 2)]
    work.on_ended(A, 0, 1, 9.0)
    assert work.next_steps() == [SetSlots(B, 1), Start(task(0, B), ())]
    work.on_ended(A, 1, 1, 9.0)
    assert work.next_steps() == [SetSlots(B, 2), Start(task(1, B), ())]
    work.on_started(B, 0, 1)
    work.on_started(B, 1, 1)
    work.on_ended(A, 2, 1, 9.0)
    assert work.next_steps() == [Start(task(4), ())]


def test_a_slot_given_up_before_its_task_began_is_given_out_at_once():
    """Else neither runs, and nothing comes that would let anybody look again."""
    work = worklist(cpus=1)
    assert begin(work, 1, running=False) == [SetSlots(A, 1), Start(task(0), ())]
    steps = begin(work, 2, B, running=False, cpus=0)
    assert steps[:2] == [SetSlots(A, 0), SetSlots(B, 2)]
    assert started(steps) == [(B, 0), (B, 1)]
    for index in (0, 1):
        work.on_started(B, index, 1)
        work.on_ended(B, index, 1, 1.0)
    assert SetSlots(A, 1) in work.next_steps()


def test_a_large_task_is_not_starved_by_small_ones():
    work = worklist(cpus=4)
    begin(work, 8)
    begin(work, 1, B, cpus=4)
    for index in range(4):
        work.on_ended(A, index, 1, 9.0)
        steps = work.next_steps()
        for each in steps:
            if isinstance(each, Start):
                work.on_started(each.task.job_id, each.task.index, 1)
        work.assign(task(20 + index))
    for index in range(4, 8):
        work.on_ended(A, index, 1, 9.0)
    assert (B, 0) in started(work.next_steps())


def test_what_can_never_fit_is_given_back():
    work = worklist(cpus=2)
    (step,) = begin(work, 1, cpus=3)
    assert isinstance(step, GiveBack)
    assert "offers" in step.reason
    assert work.is_idle


def test_a_job_that_asks_for_nothing_is_bounded():
    work = worklist(cpus=1)
    assert len(started(begin(work, 500, cpus=0))) == 100


def test_each_task_has_gpus_of_its_own():
    work = worklist(cpus=8, gpus=("g0", "g1", "g2"))
    steps = begin(work, 5, gpus=1)
    assert [step.gpus for step in steps if isinstance(step, Start)] == [("g0",), ("g1",), ("g2",)]
    work.on_ended(A, 1, 1, 0.001)
    assert work.next_steps() == [Start(task(3), ("g1",))]


def test_an_unknown_job_is_not_taken():
    assert not worklist().assign(task(0))


def test_a_newer_attempt_replaces_an_older_one_and_an_older_is_ignored():
    work = worklist(cpus=1)
    begin(work, 2)
    work.assign(task(1, attempt=3))
    work.assign(task(1, attempt=2))
    assert held(1, attempt=3) in work.held()
    work.assign(task(0, attempt=2))
    assert work.next_steps() == [Kill(A, 0, 1)]
    assert held(0, attempt=1, running=True) not in work.held()
    ended = work.on_ended(A, 0, 1, 1.0)
    assert ended
    assert ended.silent
    assert started(work.next_steps()) == [(A, 1)]


def test_cancel_comes_before_everything_else():
    work = worklist(cpus=1)
    begin(work, 3)
    work.recall((held(2),))
    work.cancel(A, 0, 1)
    work.cancel(A, 1, 1)
    assert work.next_steps() == [Kill(A, 0, 1), GiveBack(task(2), "recalled"), Cancelled(A, 1, 1)]
    work.cancel(A, 0, 1)
    assert work.next_steps() == []
    ended = work.on_ended(A, 0, 1, 1.0)
    assert ended
    assert ended.stopped == "cancelled"


def test_a_cancel_of_something_unknown_is_answered():
    work = worklist()
    work.cancel(A, 7, 2)
    assert work.next_steps() == [Cancelled(A, 7, 2)]


def test_recall_of_what_the_launcher_holds_asks_it_and_keeps_the_rest():
    work = worklist(cpus=1)
    begin(work, 10)
    work.on_ended(A, 0, 1, 0.001)
    ahead = started(work.next_steps())
    assert len(ahead) == 9
    work.on_started(A, 1, 1)
    work.recall((held(8), held(9), held(1), held(77)))
    assert kinds(work.next_steps()) == ["RecallBacklog"]
    work.on_started(A, 2, 1)
    assert work.next_steps() == []
    work.on_recalled(A, [(index, 1) for index in reversed(range(3, 10))])
    steps = work.next_steps()
    assert [step for step in steps if isinstance(step, GiveBack)] == [
        GiveBack(task(8), "recalled"),
        GiveBack(task(9), "recalled"),
    ]
    assert started(steps) == [(A, index) for index in range(3, 8)]


def test_one_that_started_before_the_recall_runs_on():
    work = worklist(cpus=1)
    begin(work, 5)
    work.on_ended(A, 0, 1, 0.001)
    work.next_steps()
    work.recall((held(1),))
    assert kinds(work.next_steps()) == ["RecallBacklog"]
    work.on_started(A, 1, 1)
    work.on_recalled(A, [(2, 1), (3, 1), (4, 1)])
    assert not any(isinstance(step, GiveBack) for step in work.next_steps())


def test_drain_gives_back_what_waits_and_lets_the_rest_run():
    work = worklist(cpus=1)
    begin(work, 2)
    work.drain(on=True)
    assert work.next_steps() == [GiveBack(task(1), DRAINING)]
    work.assign(task(5))
    assert work.next_steps() == [GiveBack(task(5), DRAINING)]
    work.drain(on=True, now=True)
    assert work.next_steps() == [Kill(A, 0, 1)]
    assert work.on_ended(A, 0, 1, 1.0).stopped == DRAINING
    work.drain(on=False)
    work.assign(task(6))
    assert started(work.next_steps()) == [(A, 6)]


def test_dropped_tasks_are_stopped_silently():
    work = worklist(cpus=1)
    begin(work, 2)
    work.drop((held(0), held(1)))
    assert work.next_steps() == [Kill(A, 0, 1)]
    assert work.held() == ()
    assert work.on_ended(A, 0, 1, 1.0).silent


def test_a_closed_job_is_counted_until_its_launcher_is_gone():
    work = worklist(cpus=1)
    begin(work, 2)
    work.close_job(A)
    assert work.next_steps() == [Close(A)]
    assert begin(work, 1, B) == []
    assert work.on_launcher_gone(A) == ()
    assert started(work.next_steps()) == [(B, 0)]
    assert A not in work.jobs


def test_a_new_link_closes_jobs_of_which_nothing_is_ours():
    """Their ends may have been told while the link was down; those that go on are opened again."""
    work = worklist()
    begin(work, 1, A)
    begin(work, 1, B)
    work.drop((held(0, B),))
    work.open_job(opening(JobId("cccccccccc")))
    work.next_steps()
    work.close_unused()
    assert work.next_steps() == [Close(B), Close(JobId("cccccccccc"))]
    assert work.on_launcher_gone(B) == ()
    assert work.on_launcher_gone(JobId("cccccccccc")) == ()
    assert list(work.jobs) == [A]


def test_a_lost_launcher_costs_those_whose_turn_it_was():
    """A start is told a moment late: one that was handed over into a slot may have run."""
    work = worklist(cpus=1)
    begin(work, 4)
    work.on_ended(A, 0, 1, 0.001)
    assert started(work.next_steps()) == [(A, 1), (A, 2), (A, 3)]
    assert [each.task.index for each in work.on_launcher_gone(A)] == [1]
    assert started(work.next_steps()) == [(A, 2), (A, 3)]


def test_a_lost_launcher_costs_all_that_may_run_only_once():
    work = worklist(cpus=1)
    begin(work, 4, at_most_once=True)
    work.on_ended(A, 0, 1, 0.001)
    assert started(work.next_steps()) == [(A, 1), (A, 2), (A, 3)]
    assert [each.task.index for each in work.on_launcher_gone(A)] == [1, 2, 3]
    assert started(work.next_steps()) == []
