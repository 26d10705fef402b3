"""What really happened, and what must always be true: a broken promise is noticed at the step that breaks it.

The world reports each physical start and end of a task, the engine each decision, commit and send. `fail`
keeps the first contradiction; the world stops at it.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from planetmesh.mesh.state import MeshState, check
from planetmesh.model.ids import JobId, NodeId, TaskKey
from planetmesh.model.job import Job, JobState, Outcome, Task, TaskState, job_state
from planetmesh.wire.agent import AssignTask, TaskResult, TaskReturned

if TYPE_CHECKING:
    from sim_time import Machine

    from planetmesh.coordinator.turn import Turn
    from planetmesh.store.changes import Changes

RunKey = tuple[JobId, int, int]
"""Job, index, attempt."""


class Run(NamedTuple):
    """An attempt that runs right now."""

    machine: Machine
    node_id: NodeId
    since: float


class Wish:
    """A change of a job that somebody asks for, until it is answered."""

    def __init__(self, job_id: JobId, is_met: Callable[[Job], bool], failed: list[Task] | None) -> None:
        self.job_id = job_id
        self.is_met = is_met
        """Does the job's row say what was asked for?"""
        self.failed = failed
        """Of a retry: the ends that must be taken back."""
        self.was_met = False
        self.is_contested = False
        """Somebody else wanted something of this job at the same time."""


class Broken(Exception):
    """A promise was broken."""


class Truth:
    def __init__(self) -> None:
        self.failure = ""
        self.jobs: dict[JobId, Job] = {}
        """All that were ever handed to the engine, acknowledged or not."""
        self.acknowledged: set[JobId] = set()
        self.running: dict[RunKey, Run] = {}
        self.starts: Counter[TaskKey] = Counter()
        self.ends: dict[RunKey, Outcome] = {}
        """How attempts really ended."""
        self.given: dict[RunKey, NodeId] = {}
        """Where each attempt was sent."""
        self.rows: dict[TaskKey, Task] = {}
        """Tasks that have not ended, as the last commit (or load) left them."""
        self.ended: dict[TaskKey, Task] = {}
        """The accepted end of each task, since it was committed; taken back only by a retry."""
        self.job_rows: dict[JobId, Job] = {}
        """All jobs as the last commit left them."""
        self.job_ends: dict[JobId, JobState] = {}
        """How each ended last."""
        self.wishes: list[Wish] = []
        self.unwanted: dict[RunKey, float] = {}
        """Attempts that run and do not count any more, and since when that was seen."""
        self.counted: Counter[str] = Counter()

    def fail(self, words: str) -> None:
        if not self.failure:
            self.failure = words
        raise Broken(words)

    def fail_by(self, error: BaseException) -> None:
        if not self.failure:
            self.failure = "".join(traceback.format_exception(error)).strip()

    # Machines

    def on_start(self, machine: Machine, node_id: NodeId, key: RunKey) -> None:
        task, job = key[:2], self.jobs[key[0]]
        if key in self.running:
            self.fail(f"{_show(key)} runs on {self.running[key].machine.name} and on {machine.name}")
        if self.given.get(key) != node_id:
            self.fail(f"{_show(key)} runs on {machine.name}, and was given to {self.given.get(key)}")
        self.starts[task] += 1
        if job.spec.at_most_once and self.starts[task] > 1:
            self.fail(f"{_show(key)} may run once and was started {self.starts[task]} times")
        self.counted["attempts started"] += 1
        self.running[key] = Run(machine, node_id, machine.timeline.now)

    def on_end(self, key: RunKey, outcome: Outcome) -> None:
        self.running.pop(key)
        self.unwanted.pop(key, None)
        self.ends[key] = outcome

    def on_halt(self, machine: Machine) -> None:
        """All that ran there died."""
        for key in [key for key, run in self.running.items() if run.machine is machine]:
            self.on_end(key, Outcome.LOST)

    # The engine

    def on_decided(self, state: MeshState, turn: Turn) -> None:
        """Before the commit: the tables agree with each other and with the rows."""
        self.counted["turns"] += 1
        if not (turn.tasks or turn.jobs or turn.removed_nodes or turn.urgent):
            return
        check(state)
        for job_id, live in state.jobs.items():
            job_row = turn.jobs.get(job_id) or self.job_rows.get(job_id)
            if job_row is not live.job and job_row != live.job:
                self.fail(f"the table has {live.job}, the disk {job_row}")
            for index, task in live.tasks.items():
                key = (job_id, index)
                row = turn.tasks.get(key) or self.rows.get(key)
                if row != task:
                    self.fail(f"the table has {task}, the disk {row}")
        for key, task in turn.tasks.items():
            end = self.ended.get(key)
            if end is not None and end != _as_kept(task) and not self._is_asked_again(end, task):
                self.fail(f"{task} was to be written over {end}")
        for node_id, messages in turn.sends.items():
            given = [message for message in messages if isinstance(message, AssignTask)]
            if given:
                self._check_given(state, node_id, given)

    def _check_given(self, state: MeshState, node_id: NodeId, given: list[AssignTask]) -> None:
        node = state.nodes[node_id]
        smallest = min((requests.cpu_millis for requests, _since in node.held.values()), default=1000)
        most = node.offer.cpu_millis // max(10, smallest) + state.settings.prefill_most
        if len(node.held) > most:
            self.fail(f"{node.node.name} has {len(node.held)} tasks in hand, and {most} is the most")
        for job_id in {message.job_id for message in given}:
            live = state.jobs.get(job_id)
            most_running = live.job.max_running if live else None
            if live and live.is_held:
                self.fail(f"{job_id} is held back and was given out")
            if live and most_running and live.in_hands > most_running:
                self.fail(f"{job_id} has {live.counts}, and {most_running} may run")

    def on_commit(self, changes: Changes) -> None:
        """This is on the disk now, whether the coordinator lives to hear of it or not."""
        self.counted["commits"] += 1
        self._take_jobs(changes)
        for task in changes.tasks:
            end = self.ended.get(task.key)
            if end is not None and self._is_asked_again(end, task):
                self.counted["ends taken back by a retry"] += 1
                del self.ended[task.key]
            if task.ended:
                self._accept(task)
            elif task.key in self.ended:
                self.fail(f"{task} is written over its end, and nobody asked for that")
            else:
                self.rows[task.key] = task

    def _is_asked_again(self, end: Task, task: Task) -> bool:
        """Has somebody asked for the failed tasks of the job to be tried again, and may this be why?"""
        again = any(wish.failed is not None for wish in self._wishes_of(task.job_id))
        return (
            again
            and end.state is TaskState.FAILED
            and task.state is not TaskState.FAILED
            and task.attempts >= end.attempts
        )

    def _take_jobs(self, changes: Changes) -> None:
        for job in changes.jobs:
            if job.completed_at is not None:
                cancelled, counts = job.cancelled_at is not None, changes.counts[job.id]
                self.job_ends[job.id] = job_state(counts, partial=job.spec.partial, cancelled=cancelled)
        for job in changes.jobs:
            before = self.job_rows.get(job.id)
            if before is not None:
                self._check_job(before, job)
            self.job_rows[job.id] = job
            for wish in self._wishes_of(job.id):
                wish.was_met |= wish.is_met(job)

    def _check_job(self, before: Job, job: Job) -> None:
        wishes = self._wishes_of(job.id)
        # A retry also brings back those that were dropped because of the job, and those behind them.
        asked = self.wishes if before.dropped_for else wishes
        is_again = any(wish.failed is not None for wish in asked)
        if before.completed_at is not None and job.completed_at is None and not is_again:
            self.fail(f"{job} lives again, and nobody asked for that")
        if before.dropped_for and job.completed_at is None:
            self.counted["dropped jobs that wait again"] += 1
        if is_again and before.rest is not None and job.rest is None:
            for key in [key for key, end in self.ended.items() if key[0] == job.id and not end.attempts]:
                del self.ended[key]  # it had no row
        for after in before.waits:
            is_over = after in job.waits or job.cancelled_at is not None or wishes
            how = self.job_ends.get(after.job)
            if not is_over and (how is None or not after.on.is_met(how)):
                self.fail(f"{job} does not wait for {after} any more, and that job is {how}")

    def _accept(self, task: Task) -> None:
        """The one end of a task is on disk."""
        task = _as_kept(task)
        before = self.ended.get(task.key)
        if before is not None and before != task:
            self.fail(f"a second end: {task} after {before}")
        if before is None:
            self.ended[task.key] = task
            self.rows.pop(task.key, None)
            self.counted[f"tasks {task.state.lower()}"] += 1
        real = self.ends.get((*task.key, task.attempt))
        if task.outcome is Outcome.TIMED_OUT and task.error.startswith("It was not done"):
            return  # the whole task's limit: its attempt was stopped, or there was none
        claims = task.outcome in (Outcome.OK, Outcome.EXIT_CODE, Outcome.TIMED_OUT, Outcome.NOT_FOUND)
        if claims and real is not task.outcome:
            self.fail(f"{task} is said to have ended so, and really ended by {real}")

    def on_sent(self, node_id: NodeId, key: RunKey) -> None:
        if key in self.given:
            self.fail(f"{_show(key)} was given to {node_id} and before to {self.given[key]}")
        self.given[key] = node_id

    def on_loaded(self, state: MeshState, rows: list[Task]) -> None:
        """Memory was made anew from the disk: all that was ever committed is there, and nothing else."""
        check(state)
        live = {task.key: task for job in state.jobs.values() for task in job.tasks.values()}
        ended = {task.key: task for task in rows if task.ended}
        self._compare("tasks that have not ended", self.rows, live, _as_restored)
        self._compare("ends", self.ended, ended, _as_kept)
        self.rows = live
        for task in ended.values():
            self._accept(task)
        for job_id, job in self.job_rows.items():
            found = state.jobs.get(job_id)
            if found is None and job.completed_at is None:
                self.fail(f"{job} was on the disk and is not there any more")
            if found is not None:
                self.compare_job(job, found.job)
                self.job_rows[job_id] = found.job
        known = {task.job_id for task in rows} | state.jobs.keys()
        for job_id in self.acknowledged:
            if job_id not in known:
                self.fail(f"job {job_id} was acknowledged and is not on the disk")

    def compare_job(self, before: Job, now: Job) -> None:
        if _job_as_kept(before) != _job_as_kept(now):
            self.fail(f"{before} was on the disk, and now {now} is")

    def _compare(
        self,
        what: str,
        before: dict[TaskKey, Task],
        now: dict[TaskKey, Task],
        as_read: Callable[[Task], Task],
    ) -> None:
        """What has no row is made up, and looks like a task that was never placed."""
        for key in before.keys() | now.keys():
            wanted, found = before.get(key), now.get(key)
            if wanted is None and found is not None and not found.attempts:
                continue
            if wanted is None or found is None or as_read(wanted) != _as_kept(found):
                self.fail(f"{what}: {wanted} was on the disk, and now {found} is")

    # People

    def on_asked(self, job_id: JobId, is_met: Callable[[Job], bool], *, is_retry: bool) -> Wish:
        failed = None
        if is_retry:
            ends = self.ended.values()
            failed = [end for end in ends if end.job_id == job_id and end.state is TaskState.FAILED]
        wish = Wish(job_id, is_met, failed)
        for other in self._wishes_of(job_id):
            wish.is_contested = other.is_contested = True
        self.wishes.append(wish)
        return wish

    def on_refused(self, wish: Wish) -> None:
        self.wishes.remove(wish)

    def on_answered(self, wish: Wish) -> None:
        """It was told that it is done, so it is on the disk; from there on `on_loaded` watches over it."""
        self.wishes.remove(wish)
        job = self.job_rows[wish.job_id]
        if not (wish.was_met or wish.is_contested or wish.is_met(job)):
            self.fail(f"a change was acknowledged and is not on the disk: {job}")
        for end in wish.failed or ():
            if self.ended.get(end.key) is end:
                self.fail(f"a retry was acknowledged, and this is on the disk: {end}")

    def on_nobody_is_answered(self) -> None:
        """The coordinator's process is gone."""
        self.wishes.clear()

    def failed_jobs(self) -> Collection[JobId]:
        """Jobs with failed tasks, in the order of their first failure."""
        return dict.fromkeys(end.job_id for end in self.ended.values() if end.state is TaskState.FAILED)

    def _wishes_of(self, job_id: JobId) -> list[Wish]:
        return [wish for wish in self.wishes if wish.job_id == job_id]

    # The wire

    def on_said(self, node_id: NodeId, message: TaskResult | TaskReturned, newest: int) -> None:
        """An agent tells an end: it cannot have one while it still runs there, nor of what was replaced."""
        is_end = isinstance(message, TaskResult) and message.outcome is not Outcome.CANCELLED
        if is_end and message.attempt < newest:
            self.fail(f"{message} was said by an agent that was given attempt {newest} since")
        key = (message.job_id, message.index, message.attempt)
        run = self.running.get(key)
        if run is not None and run.node_id == node_id:
            self.fail(f"{message} was said, and it still runs")


def _as_kept(task: Task) -> Task:
    """As the disk has it: a back-off's end is not written, why it was placed only in short numbers.

    `begun_at` is of the process's own clock and moves with it.
    """
    begun_at = None if task.begun_at is None else 0.0
    return msgspec.structs.replace(task, retry_at=0.0, terms=None, begun_at=begun_at)


def _job_as_kept(job: Job) -> Job:
    """`waiting_since` is of the process's own clock too."""
    waiting_since = None if job.waiting_since is None else 0.0
    return msgspec.structs.replace(job, waiting_since=waiting_since)


def _as_restored(task: Task) -> Task:
    """A back-off ends with the process that waited it out."""
    is_over = task.state is TaskState.RETRYING
    return msgspec.structs.replace(_as_kept(task), state=TaskState.QUEUED if is_over else task.state)


def _show(key: RunKey) -> str:
    return f"{key[0]}/{key[1]} #{key[2]}"
