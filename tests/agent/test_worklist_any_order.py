"""The worklist in any order at all, beside a launcher that obeys and files that come and go."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from worklist_words import A, B, held, opening, task, worklist

from planetmesh.agent.steps import (
    Cancelled,
    Fetch,
    GiveBack,
    Kill,
    RecallBacklog,
    SetSlots,
    Start,
    StopCollect,
    StopFetch,
)
from planetmesh.model.blob import Digest, StagedFile

FILE = StagedFile("in.bin", Digest("a" * 64), 10)


class AnyOrder(RuleBasedStateMachine):
    """Random jobs, ends, cancels, recalls; a launcher that obeys. Nothing is lost, doubled or overbooked."""

    def __init__(self):
        super().__init__()
        self.work = worklist(cpus=4, gpus=("g0", "g1"))
        self.launchers = {}
        self.given = {}
        self.ended = set()
        self.index = 0
        self.fetches = {}
        """Whether the files of each attempt have come."""
        self.leaving = set()

    @rule(
        job=st.sampled_from([A, B]),
        cpus=st.sampled_from([0.5, 1, 2]),
        gpus=st.integers(0, 1),
        files=st.sampled_from([(), (FILE,)]),
        outputs=st.sampled_from([(), ("*.png",)]),
    )
    def open(self, job, cpus, gpus, files, outputs):
        if job not in self.work.jobs:
            opened = opening(job, cpus=cpus, gpus=gpus)
            self.work.open_job(msgspec.structs.replace(opened, files=files, outputs=outputs))
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
                if self.work.jobs[given.job_id].opened.files:
                    assert self.fetches[given.job_id, given.index]
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
            case _:
                self.obey_for_files(step)

    def obey_for_files(self, step):
        match step:
            case Fetch(given):
                assert (given.job_id, given.index) not in self.fetches
                self.fetches[given.job_id, given.index] = False
            case StopFetch(job_id, index, _):
                del self.fetches[job_id, index]
            case StopCollect(job_id, index, _):
                self.leaving.remove((job_id, index))

    def finish(self, job_id, index, attempt, seconds, leaves=False):
        assert self.work.on_ended(job_id, index, attempt, seconds, leaves=leaves)
        if leaves:
            self.leaving.add((job_id, index))
        else:
            self.end(job_id, index)

    @precondition(lambda self: not all(self.fetches.values()))
    @rule(data=st.data(), fails=st.booleans())
    def files_come(self, data, fails):
        job_id, index = data.draw(st.sampled_from([key for key, here in self.fetches.items() if not here]))
        if not fails:
            self.fetches[job_id, index] = True
            self.work.on_fetched(job_id, index, 1)
        elif self.work.on_fetch_failed(job_id, index, 1):
            self.end(job_id, index)

    @precondition(lambda self: self.leaving)
    @rule(data=st.data())
    def files_have_left(self, data):
        job_id, index = data.draw(st.sampled_from(sorted(self.leaving)))
        if self.work.on_left(job_id, index, 1):
            self.leaving.remove((job_id, index))
            self.end(job_id, index)

    def end(self, job_id, index):
        assert (job_id, index) not in self.ended
        self.ended.add((job_id, index))

    @precondition(lambda self: any(launcher["running"] for launcher in self.launchers.values()))
    @rule(data=st.data(), seconds=st.sampled_from([0.001, 1.0]))
    def task_ends(self, data, seconds):
        job_id = data.draw(st.sampled_from([job for job, each in self.launchers.items() if each["running"]]))
        index, attempt = self.launchers[job_id]["running"].pop(0)
        leaves = bool(self.work.jobs[job_id].opened.outputs)
        self.finish(job_id, index, attempt, seconds, leaves)

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
            for job_id, index in [key for key, here in self.fetches.items() if not here]:
                self.fetches[job_id, index] = True
                self.work.on_fetched(job_id, index, 1)
            for job_id, launcher in self.launchers.items():
                for index, attempt in list(launcher["running"]):
                    launcher["running"].remove((index, attempt))
                    self.finish(job_id, index, attempt, 1.0)
            for job_id, index in sorted(self.leaving):
                if self.work.on_left(job_id, index, 1):
                    self.leaving.remove((job_id, index))
                    self.end(job_id, index)
        self.work_on()
        assert self.ended == set(self.given)
        assert not self.fetches
        assert not self.leaving
        assert sorted(self.work._free_gpus) == ["g0", "g1"]


TestAnyOrder = pytest.mark.filterwarnings("ignore")(AnyOrder.TestCase)
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
