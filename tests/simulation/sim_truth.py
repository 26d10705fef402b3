"""What really happened, and what must always be true: a broken promise is noticed at the step that breaks it.

The world reports each physical start and end of a task, the engine each decision, commit and send. `fail`
keeps the first contradiction; the world stops at it.
"""

from __future__ import annotations

import traceback
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from planetmesh.mesh.state import MeshState, check
from planetmesh.model.ids import JobId, NodeId, TaskKey
from planetmesh.model.job import Job, Outcome, Task
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


class Broken(Exception):
    """A promise was broken."""


class Truth:
    def __init__(self) -> None:
        self.failure = ""
        self.jobs: dict[JobId, Job] = {}
        """All that were ever handed to the engine, acknowledged or not."""
        self.acknowledged: set[JobId] = set()
        self.cancelled: set[JobId] = set()
        """Whose cancel was acknowledged."""
        self.cancelled_tasks: set[TaskKey] = set()
        self.running: dict[RunKey, Run] = {}
        self.starts: Counter[TaskKey] = Counter()
        self.ends: dict[RunKey, Outcome] = {}
        """How attempts really ended."""
        self.given: dict[RunKey, NodeId] = {}
        """Where each attempt was sent."""
        self.rows: dict[TaskKey, Task] = {}
        """Tasks that have not ended, as the last commit (or load) left them."""
        self.ended: dict[TaskKey, Task] = {}
        """The accepted end of each task, since it was committed."""
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
            for index, task in live.tasks.items():
                key = (job_id, index)
                row = turn.tasks.get(key) or self.rows.get(key)
                if row != task:
                    self.fail(f"the table has {task}, the disk {row}")
        for key, task in turn.tasks.items():
            if key in self.ended and self.ended[key] != _as_kept(task):
                self.fail(f"{task} was to be written over {self.ended[key]}")
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
        self.counted["commits"] += 1
        for task in changes.tasks:
            if task.ended:
                self._accept(task)
            else:
                self.rows[task.key] = task

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
        """Memory was made anew from the disk."""
        check(state)
        self.rows = {task.key: task for live in state.jobs.values() for task in live.tasks.values()}
        ended = {task.key: task for task in rows if task.ended}
        for task in ended.values():
            self._accept(task)
        for key in self.ended:
            if key not in ended:
                self.fail(f"the end of {key} was on the disk and is not there any more")
        known = {task.job_id for task in rows} | state.jobs.keys()
        for job_id in self.acknowledged:
            if job_id not in known:
                self.fail(f"job {job_id} was acknowledged and is not on the disk")
        for job_id in self.cancelled & state.jobs.keys():
            if state.jobs[job_id].job.cancelled_at is None:
                self.fail(f"the cancel of {job_id} was acknowledged and is not on the disk")

    # The wire

    def on_said(self, node_id: NodeId, message: TaskResult | TaskReturned) -> None:
        """An agent tells an end: it cannot have one while it still runs there."""
        key = (message.job_id, message.index, message.attempt)
        run = self.running.get(key)
        if run is not None and run.node_id == node_id:
            self.fail(f"{message} was said, and it still runs")


def _as_kept(task: Task) -> Task:
    """As the disk has it: when a back-off ends is not written, why it was placed only in short numbers."""
    return msgspec.structs.replace(task, retry_at=0.0, terms=None)


def _show(key: RunKey) -> str:
    return f"{key[0]}/{key[1]} #{key[2]}"
