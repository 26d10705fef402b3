"""Where all news of the agent comes together: from the coordinator, from the launchers, from the clock.

Each piece of news changes the worklist, then the steps it asks for are taken. Nothing here waits, so
heartbeats go on whatever the tasks do. Made by `service`, which owns the loops.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from planetmesh.agent import reports as words
from planetmesh.agent.link import Link
from planetmesh.agent.outbox import Durable, Outbox
from planetmesh.agent.runner import Runner
from planetmesh.agent.sandbox.messages import Ended, Output, Recalled, Report, Started
from planetmesh.agent.state import AgentState, Phase
from planetmesh.agent.worklist import (
    Cancelled,
    Close,
    GiveBack,
    Kill,
    RecallBacklog,
    SetSlots,
    Start,
    Step,
    Worklist,
)
from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome
from planetmesh.model.node import NodeInfo
from planetmesh.wire.agent import (
    AssignTask,
    CloseJob,
    Drain,
    OpenJob,
    RecallTasks,
    Registered,
    RegisterNode,
    StopTask,
    TaskReturned,
    TaskStarted,
    ToAgent,
)
from planetmesh.wire.codec import PROTOCOL

log = logging.getLogger(__name__)

CLOCK_OFF_SECONDS = 300.0
"""A clock that is further off makes certificates and people's times wrong."""
IDLE_SECONDS = 60.0
"""A launcher without a task is let go after this; opening another takes some ten milliseconds."""


class Desk:
    """Implements the link's Owner and the runner's Listener."""

    runner: Runner
    link: Link

    def __init__(
        self,
        info: NodeInfo,
        worklist: Worklist,
        outbox: Outbox,
        name: str,
        on_state: Callable[[AgentState], None],
    ) -> None:
        self.worklist = worklist
        self.outbox = outbox
        self.on_state = on_state
        self.on_link_up: Callable[[], None] = lambda: None
        self.is_leaving = False
        self._info = info
        self._name = name
        self._instance = secrets.token_hex(8)
        self._idle_since: dict[JobId, float] = {}

    def refuse(self, reason: str) -> None:
        """Take no task from now on; the next hello says why."""
        self._info = msgspec.structs.replace(self._info, refuses=reason)

    # From the coordinator

    def hello(self, first_unacknowledged: int) -> RegisterNode:
        held = (*self.worklist.held(), *self.outbox.ended())
        return RegisterNode(PROTOCOL, self._info, self._instance, held, first_unacknowledged)

    def on_told(self, registered: Registered) -> None:
        self._name = registered.name or self._name
        self.worklist.settings = self.link.settings
        if registered.output_most_bytes > 0:
            self.runner.output_most_bytes = registered.output_most_bytes

    def on_registered(self, registered: Registered, endpoint: str) -> None:
        off = time.time() - registered.server_time
        if abs(off) > CLOCK_OFF_SECONDS:
            log.warning("clock.off", extra={"seconds": round(off), "hint": "Set this machine's clock."})
        self.worklist.drop(registered.drop)
        self.worklist.close_unused()
        # The coordinator says it again if it still wants this node drained.
        self.worklist.drain(on=self.is_leaving)
        self.on_link_up()
        self.on_state(AgentState(Phase.REGISTERED, "", "", endpoint, self._name, registered.mesh_name))
        self.work()

    def on_messages(self, messages: list[ToAgent]) -> None:
        for message in messages:
            match message:
                case AssignTask():
                    self._on_assigned(message)
                case OpenJob():
                    self.worklist.open_job(message)
                case StopTask(job_id, index, attempt):
                    self.worklist.cancel(job_id, index, attempt)
                case RecallTasks(tasks):
                    self.worklist.recall(tasks)
                case CloseJob(job_id):
                    self.worklist.close_job(job_id)
                case Drain(on, now):
                    self.worklist.drain(on=on or self.is_leaving, now=now)
                case _:
                    log.debug("link.unexpected", extra={"kind": type(message).__name__})
        self.work()

    def on_confirmed(self) -> None:
        self._mind_outbox()

    def is_busy(self) -> bool:
        return self.worklist.backlog > 0

    def _on_assigned(self, task: AssignTask) -> None:
        reason = self._info.refuses
        if not reason and not self.worklist.assign(task):
            reason = "its job was not opened on this node"
        if reason:
            self._put([TaskReturned(task.job_id, task.index, task.attempt, reason)])

    # From the launchers

    def on_reports(self, job_id: JobId, reports: list[Report]) -> None:
        said: list[Durable] = []
        # An end says that there was a start, so the start of a short task needs no message.
        over = {(each.index, each.attempt) for each in reports if isinstance(each, Ended)}
        for report in reports:
            match report:
                case Started(index, attempt):
                    if self.worklist.on_started(job_id, index, attempt) and (index, attempt) not in over:
                        self.link.post(TaskStarted(job_id, index, attempt))
                case Output(index, attempt):
                    held = self.worklist.launched(job_id, index, attempt)
                    if held and not held.silent:
                        said.append(words.output_of(job_id, report))
                case Ended(index, attempt):
                    held = self.worklist.on_ended(job_id, index, attempt, report.wall_seconds)
                    if held and not held.silent:
                        said.append(words.end_of(job_id, report, held, self._name))
                case Recalled(attempts):
                    self.worklist.on_recalled(job_id, attempts)
                case _:
                    log.debug("launcher.unexpected", extra={"kind": type(report).__name__})
        self._put(said)
        self.work()

    def on_refused(self, task: AssignTask, error: str) -> None:
        held = self.worklist.on_ended(task.job_id, task.index, task.attempt, 0.0)
        if held and not held.silent:
            self._put([words.failed(task, Outcome.STAGING, f"{self._name}: {error}")])
        self.work()

    def on_open_failed(self, job_id: JobId, error: str) -> None:
        failed = [held.task for held in self.worklist.on_open_failed(job_id) if not held.silent]
        self._put([words.failed(task, Outcome.STAGING, f"{self._name}: {error}") for task in failed])
        self.work()

    def on_launcher_gone(self, job_id: JobId, reason: str) -> None:
        lost = [held.task for held in self.worklist.on_launcher_gone(job_id) if not held.silent]
        self._put([words.failed(task, Outcome.LOST, f"{self._name}: {reason}") for task in lost])
        self.work()

    # From the clock

    def tick(self, now: float) -> None:
        """Try again what could not be written; let idle launchers go."""
        self.outbox.write()
        self._mind_outbox()
        for job_id, job in self.worklist.jobs.items():
            if job.wanted:
                self._idle_since.pop(job_id, None)
            elif now - self._idle_since.setdefault(job_id, now) > IDLE_SECONDS:
                self.runner.rest(job_id)
        for job_id in self._idle_since.keys() - self.worklist.jobs.keys():
            del self._idle_since[job_id]

    # Doing

    def work(self) -> None:
        """Take all steps that the worklist asks for now."""
        said: list[Durable] = []
        starts: dict[JobId, list[tuple[AssignTask, tuple[str, ...]]]] = defaultdict(list)
        for step in self.worklist.next_steps():
            if isinstance(step, Start):
                starts[step.task.job_id].append((step.task, step.gpus))
            else:
                self._take(step, said)
        for job_id, tasks in starts.items():
            job = self.worklist.jobs[job_id]
            self.runner.start(job.opened, tasks, job.slots)
        self._put(said)

    def _take(self, step: Step, said: list[Durable]) -> None:
        match step:
            case Kill(job_id, index, attempt):
                self.runner.kill(job_id, index, attempt)
            case SetSlots(job_id, count):
                self.runner.set_slots(job_id, count)
            case RecallBacklog(job_id, count):
                self.runner.recall(job_id, count)
            case GiveBack(task, reason):
                said.append(TaskReturned(task.job_id, task.index, task.attempt, reason))
            case Cancelled(job_id, index, attempt):
                said.append(words.cancelled(job_id, index, attempt))
            case Close(job_id):
                self.runner.close(job_id)

    def _put(self, messages: Sequence[Durable]) -> None:
        if messages:
            self.outbox.put(messages)
            self.link.wake()
            self._mind_outbox()

    def _mind_outbox(self) -> None:
        """While no more can be kept, tasks that write wait on their pipes; they are not failed."""
        full = not self.outbox.has_room if self.runner.is_paused else self.outbox.is_full
        if self.runner.pause(on=full):
            log.warning("outbox.full" if full else "outbox.flows", extra={"bytes": self.outbox.size_bytes})
