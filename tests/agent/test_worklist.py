"""The worklist by transcript: what comes in, which steps come out; then any order at all."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from planetmesh.agent.worklist import (
    DRAINING,
    Cancelled,
    Close,
    GiveBack,
    Kill,
    RecallBacklog,
    SetSlots,
    Start,
    Worklist,
)
from planetmesh.model.ids import JobId
from planetmesh.model.job import Limits
from planetmesh.model.node import Gpu
from planetmesh.model.resources import Resources
from planetmesh.settings import Settings
from planetmesh.wire.agent import AssignTask, Held, OpenJob

A, B = JobId("aaaaaaaaaa"), JobId("bbbbbbbbbb")


def opening(job_id=A, cpus=1.0, gpus=0, memory=0, at_most_once=False):
    requests = Resources(int(cpus * 1000), memory, gpus)
    return OpenJob(job_id, "command", {}, requests, {}, Limits(), at_most_once)


def task(index, job_id=A, attempt=1):
    return AssignTask(job_id, index, attempt)


def held(index, job_id=A, attempt=1, running=False):
    return Held(job_id, index, attempt, running)


def worklist(cpus=4, gpus=()):
    devices = tuple(Gpu(name, "card", 0) for name in gpus)
    return Worklist(Resources(cpus * 1000, 2**33, len(gpus)), devices, Settings())


def begin(work, count, job_id=A, running=True, **opened):
    """Open a job with so many tasks; report as started what was handed over."""
    work.open_job(opening(job_id, **opened))
    for index in range(count):
        assert work.assign(task(index, job_id))
    steps = work.next_steps()
    for step in steps:
        if running and isinstance(step, Start):
            assert work.on_started(step.task.job_id, step.task.index, step.task.attempt)
    return steps


def kinds(steps):
    return [type(step).__name__ for step in steps]


def started(steps):
    return [(step.task.job_id, step.task.index) for step in steps if isinstance(step, Start)]


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


class AnyOrder(RuleBasedStateMachine):
    """Random jobs, ends, cancels, recalls; a launcher that obeys. Nothing is lost, doubled or overbooked."""

    def __init__(self):
        super().__init__()
        self.work = worklist(cpus=4, gpus=("g0", "g1"))
        self.launchers = {}
        self.given = {}
        self.ended = set()
        self.index = 0

    @rule(job=st.sampled_from([A, B]), cpus=st.sampled_from([0.5, 1, 2]), gpus=st.integers(0, 1))
    def open(self, job, cpus, gpus):
        if job not in self.work.jobs:
            self.work.open_job(opening(job, cpus=cpus, gpus=gpus))
            self.launchers[job] = {"slots": 0, "queue": [], "running": []}

    @precondition(lambda self: self.work.jobs)
    @rule(data=st.data(), count=st.integers(1, 6))
    def assign(self, data, count):
        job = data.draw(st.sampled_from(sorted(self.work.jobs)))
        for _ in range(count):
            self.index += 1
            self.work.assign(task(self.index, job))
            self.given[job, self.index] = "here"

    @rule()
    def work_on(self):
        for step in self.work.next_steps():
            self.obey(step)
        for job_id, launcher in self.launchers.items():
            while launcher["queue"] and len(launcher["running"]) < launcher["slots"]:
                launcher["running"].append(launcher["queue"].pop(0))
                self.work.on_started(job_id, *launcher["running"][-1])

    def obey(self, step):
        match step:
            case Start(given, gpus):
                self.launchers[given.job_id]["queue"].append((given.index, given.attempt))
                assert len(gpus) == self.work.jobs[given.job_id].opened.requests.gpus
            case SetSlots(job_id, count):
                self.launchers[job_id]["slots"] = count
            case Kill(job_id, index, attempt):
                launcher = self.launchers[job_id]
                for place in (launcher["queue"], launcher["running"]):
                    if (index, attempt) in place:
                        place.remove((index, attempt))
                        self.finish(job_id, index, attempt, 0.5)
            case RecallBacklog(job_id, count):
                queue = self.launchers[job_id]["queue"]
                back = queue[-count:]
                del queue[-count:]
                self.work.on_recalled(job_id, back)
            case GiveBack(given, _):
                self.end(given.job_id, given.index)
            case Cancelled(job_id, index, _):
                self.end(job_id, index)

    def finish(self, job_id, index, attempt, seconds):
        assert self.work.on_ended(job_id, index, attempt, seconds)
        self.end(job_id, index)

    def end(self, job_id, index):
        assert (job_id, index) not in self.ended
        self.ended.add((job_id, index))

    @precondition(lambda self: any(launcher["running"] for launcher in self.launchers.values()))
    @rule(data=st.data(), seconds=st.sampled_from([0.001, 1.0]))
    def task_ends(self, data, seconds):
        job_id = data.draw(st.sampled_from([job for job, each in self.launchers.items() if each["running"]]))
        index, attempt = self.launchers[job_id]["running"].pop(0)
        self.finish(job_id, index, attempt, seconds)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), cancel=st.booleans())
    def take_back(self, data, cancel):
        job_id, index = data.draw(st.sampled_from(sorted(self.given)))
        if (job_id, index) in self.ended or held(index, job_id) not in self.work.held():
            return
        if cancel:
            self.work.cancel(job_id, index, 1)
        else:
            self.work.recall((held(index, job_id),))

    @rule(on=st.booleans(), now=st.booleans())
    def drain(self, on, now):
        self.work.drain(on=on, now=now)

    @invariant()
    def never_overbooked(self):
        cpus = gpus = 0
        for job_id, launcher in self.launchers.items():
            requests = self.work.jobs[job_id].opened.requests
            cpus += requests.cpu_millis * len(launcher["running"])
            gpus += requests.gpus * len(launcher["running"])
        assert cpus <= 4000 + self.short_excess()
        assert gpus <= 2

    def short_excess(self):
        """Slots taken away while short tasks were ahead may be used once more; never of longer ones."""
        jobs = self.work.jobs.values()
        return 4000 if any((job.mean_seconds or 1) < 0.05 for job in jobs) else 0

    @invariant()
    def nothing_is_lost(self):
        inside = {(each.job_id, each.index) for each in self.work.held()}
        pending = {key for key in self.given if key not in self.ended}
        waiting = {(s.task.job_id, s.task.index) for s in self.work._urgent if isinstance(s, GiveBack)} | {
            (s.job_id, s.index) for s in self.work._urgent if isinstance(s, Cancelled)
        }
        assert pending == inside | waiting

    def teardown(self):
        self.work.drain(on=False)
        for _ in range(300):
            self.work_on()
            for job_id, launcher in self.launchers.items():
                for index, attempt in list(launcher["running"]):
                    launcher["running"].remove((index, attempt))
                    self.finish(job_id, index, attempt, 1.0)
        assert self.ended == set(self.given)
        assert sorted(self.work._free_gpus) == ["g0", "g1"]


TestAnyOrder = pytest.mark.filterwarnings("ignore")(AnyOrder.TestCase)
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
