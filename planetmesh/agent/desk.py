"""Where all news of the agent comes together: from the coordinator, from the launchers, from the clock.

Each piece of news changes the worklist, then the steps it asks for are taken. Nothing here waits, so
heartbeats go on whatever the tasks do. Made by `service`, which owns the loops.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from planetmesh.agent import reports as words
from planetmesh.agent.aside import Durable
from planetmesh.agent.carrier import AttemptKey
from planetmesh.agent.files import Files
from planetmesh.agent.journal import Journal
from planetmesh.agent.link import Link
from planetmesh.agent.outbox import Outbox
from planetmesh.agent.runner import Runner
from planetmesh.agent.sandbox.messages import Ended, Output, Recalled, Report, Started
from planetmesh.agent.stage import Left
from planetmesh.agent.state import AgentState, Phase
from planetmesh.agent.steps import (
    Cancelled,
    Close,
    Fetch,
    GiveBack,
    Kill,
    RecallBacklog,
    SetSlots,
    Start,
    Step,
    StopCollect,
    StopFetch,
)
from planetmesh.agent.worklist import Worklist
from planetmesh.model.blob import Made
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
    TaskResult,
    TaskReturned,
    TaskStarted,
    ToAgent,
)
from planetmesh.wire.codec import PROTOCOL

BRINGING = (Outcome.OK, Outcome.INPUTS)
"""Outcomes after which what was made is taken along."""

log = logging.getLogger(__name__)

CLOCK_OFF_SECONDS = 300.0
"""A clock that is further off makes certificates and people's times wrong."""
IDLE_SECONDS = 60.0
"""A launcher without a task is let go after this; opening another takes some ten milliseconds."""


class Desk:
    """Implements the link's Owner and the runner's Listener."""

    runner: Runner
    link: Link
    files: Files | None = None
    """None: tasks with files are refused."""

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
        self.clock_ahead_seconds = 0.0
        """This machine's clock before the coordinator's at the last hello."""
        self.journal = Journal()
        self._info = info
        self._name = name
        self._instance = secrets.token_hex(8)
        self._idle_since: dict[JobId, float] = {}
        self._server_ahead = time.time() - time.monotonic()
        self._leaving: dict[AttemptKey, TaskResult] = {}
        """Ends to be told once the files are with the coordinator."""

    def server_now(self) -> float:
        """Epoch seconds by the coordinator's clock, as it told at the last hello."""
        return self._server_ahead + time.monotonic()

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
        self._server_ahead = registered.server_time - time.monotonic()
        self.clock_ahead_seconds = off
        if abs(off) > CLOCK_OFF_SECONDS:
            log.warning("clock.off", extra={"seconds": round(off), "hint": "Set this machine's clock."})
        log.info(
            "link.up",
            extra={"endpoint": endpoint, "mesh": registered.mesh_name, "drop": len(registered.drop)},
        )
        self.worklist.drop(registered.drop)
        self.worklist.close_unused()
        # The coordinator says it again if it still wants this node drained.
        self.worklist.drain(on=self.is_leaving)
        self.on_link_up()
        if self.files is not None:
            self.files.on_link(endpoint)
        self.on_state(AgentState(Phase.REGISTERED, "", "", endpoint, self._name, registered.mesh_name))
        self.work()

    def on_messages(self, messages: list[ToAgent]) -> None:
        for message in messages:
            match message:
                case AssignTask():
                    self._on_assigned(message)
                case OpenJob():
                    self.journal.on_job_opened(message)
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

    def is_linked(self) -> bool:
        return self.link.is_up

    def _on_assigned(self, task: AssignTask) -> None:
        reason = self._info.refuses
        if not reason and not self.worklist.assign(task):
            reason = "its job was not opened on this node"
        if reason:
            self.journal.on_refused(task, reason)
            self._put([TaskReturned(task.job_id, task.index, task.attempt, reason)])
        else:
            self.journal.on_accepted(task)

    # From the launchers

    def on_reports(self, job_id: JobId, reports: list[Report]) -> None:
        said: list[Durable] = []
        # An end says that there was a start, so the start of a short task needs no message.
        over = {(each.index, each.attempt) for each in reports if isinstance(each, Ended)}
        for report in reports:
            match report:
                case Started(index, attempt):
                    self.journal.on_started(job_id, index, attempt)
                    is_news = (index, attempt) not in over or self._brings_files(job_id)
                    if self.worklist.on_started(job_id, index, attempt) and is_news:
                        self.link.post(TaskStarted(job_id, index, attempt))
                case Output(index, attempt):
                    held = self.worklist.launched(job_id, index, attempt)
                    if held and not held.silent:
                        said.append(words.output_of(job_id, report))
                case Ended(index, attempt):
                    said += self._on_ended(job_id, report)
                case Recalled(attempts):
                    for index, attempt in attempts:
                        self._take_back(AttemptKey(job_id, index, attempt), discard=True)
                    self.worklist.on_recalled(job_id, attempts)
                case _:
                    log.debug("launcher.unexpected", extra={"kind": type(report).__name__})
        self._put(said)
        self.work()

    def _on_ended(self, job_id: JobId, ended: Ended) -> list[Durable]:
        """What there is to tell at once; nothing if its files come first."""
        key = AttemptKey(job_id, ended.index, ended.attempt)
        before = self.worklist.launched(job_id, ended.index, ended.attempt)
        end = words.end_of(job_id, ended, before, self._name) if before and not before.silent else None
        has_made = isinstance(end, TaskResult) and end.outcome in BRINGING
        brings = has_made and self._brings_files(job_id)
        left = self._take_back(key, discard=not brings)
        leaves = brings and left is not None
        self.worklist.on_ended(job_id, ended.index, ended.attempt, ended.wall_seconds, leaves=leaves)
        if not isinstance(end, TaskResult) or not brings:
            return [end] if end is not None else []
        if left is None or self.files is None:
            return [words.without_files(end, f"{self._name}: Its folder was taken away.")]
        self._leaving[key] = end
        opened = self.worklist.jobs[job_id].opened
        most_bytes = self.worklist.settings.output_files_most_bytes
        needs_all = end.outcome is Outcome.OK
        self.files.deliverer.deliver(key, left, opened.outputs, most_bytes, needs_all=needs_all)
        return []

    def _brings_files(self, job_id: JobId) -> bool:
        job = self.worklist.jobs.get(job_id)
        return job is not None and bool(job.opened.outputs)

    def _take_back(self, key: AttemptKey, *, discard: bool) -> Left | None:
        """The folder of an attempt that is over, if it had one and it is still there."""
        if self.files is None:
            return None
        try:
            left = self.files.stage.take_back(key)
        except OSError as error:
            log.warning("work.folder_lost", extra={**key.fields, "reason": str(error)})
            return None
        if left is not None and discard:
            self.files.stage.discard(left)
        return left

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
        if not reason:
            self.journal.on_job_closed(job_id)
        lost = [held.task for held in self.worklist.on_launcher_gone(job_id) if not held.silent]
        self._put([words.failed(task, Outcome.LOST, f"{self._name}: {reason}") for task in lost])
        self.work()

    # About files

    def on_fetched(self, key: AttemptKey) -> None:
        self.journal.on_fetched(key)
        self.worklist.on_fetched(key.job_id, key.index, key.attempt)
        self.work()

    def on_fetch_failed(self, key: AttemptKey, sentence: str) -> None:
        task = self.worklist.on_fetch_failed(key.job_id, key.index, key.attempt)
        if task is not None:
            error = f"{self._name}: Its files were not brought here: {sentence}"
            self._put([words.failed(task, Outcome.STAGING, error)])
        self.work()

    def on_delivered(self, key: AttemptKey, made: Made | None) -> None:
        self.journal.on_delivered(key)
        self._on_left(key, lambda end: msgspec.structs.replace(end, made=made))

    def on_delivery_failed(self, key: AttemptKey, sentence: str) -> None:
        self._on_left(key, lambda end: words.without_files(end, f"{self._name}: {sentence}"))

    def _on_left(self, key: AttemptKey, change: Callable[[TaskResult], TaskResult]) -> None:
        end = self._leaving.pop(key, None)
        if self.worklist.on_left(key.job_id, key.index, key.attempt) and end is not None:
            self._put([change(end)])
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
            case GiveBack(task, reason, started):
                said.append(TaskReturned(task.job_id, task.index, task.attempt, reason, started))
            case Cancelled(job_id, index, attempt, started):
                said.append(words.cancelled(job_id, index, attempt, started=started))
            case Fetch(task):
                self._fetch(task)
            case StopFetch(job_id, index, attempt) if self.files is not None:
                self.files.fetcher.stop(AttemptKey(job_id, index, attempt))
            case StopCollect(job_id, index, attempt) if self.files is not None:
                self._leaving.pop(AttemptKey(job_id, index, attempt), None)
                self.files.deliverer.stop(AttemptKey(job_id, index, attempt))
            case Close(job_id):
                self.runner.close(job_id)

    def _fetch(self, task: AssignTask) -> None:
        key = AttemptKey(task.job_id, task.index, task.attempt)
        if self.files is not None:
            self.files.fetcher.fetch(key, (*self.worklist.jobs[task.job_id].opened.files, *task.files))
        else:
            # The next steps are asked for again: not while these are being taken.
            fail = partial(self.on_fetch_failed, key, "files are not handled on this node.")
            asyncio.get_running_loop().call_soon(fail)

    def _put(self, messages: Sequence[Durable]) -> None:
        if messages:
            self.journal.on_said(messages)
            self.outbox.put(messages)
            self.link.wake()
            self._mind_outbox()

    def _mind_outbox(self) -> None:
        """While no more can be kept, tasks that write wait on their pipes; they are not failed."""
        full = not self.outbox.has_room if self.runner.is_paused else self.outbox.is_full
        if self.runner.pause(on=full):
            size = self.outbox.size_bytes
            if full:
                log.warning("outbox.full", extra={"bytes": size})
            else:
                log.info("outbox.flows", extra={"bytes": size})
