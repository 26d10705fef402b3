"""Does what the worklist decides: a launcher per job, tasks turned into starts, everything closed after.

Knows launchers and folders, neither the wire nor what is fair. What goes wrong with a task or a
launcher comes out as a call of the listener, never as an exception: this is the door around a task.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from planetmesh.agent.carrier import AttemptKey
from planetmesh.agent.job_run import JobRun
from planetmesh.agent.reports import sentence_of
from planetmesh.agent.sandbox.messages import OUTPUT_MOST_BYTES, Ended, Report, Start
from planetmesh.agent.stage import Stage
from planetmesh.agent.warm import LauncherSource, Surroundings, WarmLaunchers
from planetmesh.errors import Conflict, MeshError
from planetmesh.groups import begin_in
from planetmesh.model.ids import JobId
from planetmesh.wire.agent import AssignTask, OpenJob

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who hears what happens; the service."""

    def on_reports(self, job_id: JobId, reports: list[Report]) -> None: ...

    def on_refused(self, task: AssignTask, error: str) -> None:
        """The task could not be handed to a launcher."""

    def on_open_failed(self, job_id: JobId, error: str) -> None:
        """No launcher stands for this job; nothing that was handed over has run."""

    def on_launcher_gone(self, job_id: JobId, reason: str) -> None:
        """Closed as asked (no reason), or lost with all that it ran."""


class Runner:
    """Owns the launchers. Its calls return at once; the waiting happens in the given group."""

    def __init__(
        self, source: LauncherSource, around: Surroundings, listener: Listener, group: asyncio.TaskGroup
    ) -> None:
        self.output_most_bytes = OUTPUT_MOST_BYTES
        self.stage: Stage | None = None
        """Prepares the folders of tasks with files."""
        self.warm = WarmLaunchers(source, around, group)
        self._around = around
        self._listener = listener
        self._group = group
        self._jobs: dict[JobId, JobRun] = {}
        self.is_paused = False

    def start(self, opened: OpenJob, tasks: Sequence[tuple[AssignTask, tuple[str, ...]]], slots: int) -> None:
        """Start tasks of one job, each with the GPUs lent to it."""
        job = self._jobs.get(opened.job_id)
        if job is None or job.is_ending:
            job = self._begin(opened, slots, job)
        starts: list[Start] = []
        for task, gpus in tasks:
            try:
                start = job.prepare(task, gpus)
            except (MeshError, OSError) as error:
                # The listener asks for the next steps: not while these are being taken.
                asyncio.get_running_loop().call_soon(self._listener.on_refused, task, sentence_of(error))
                continue
            if self.stage is not None and (opened.files or task.files or opened.outputs):
                self.stage.begin(job, task, start)
            else:
                starts.append(start)
        job.tell(lambda launcher: launcher.start(starts))

    def set_slots(self, job_id: JobId, count: int) -> None:
        job = self._jobs.get(job_id)
        if job:
            job.slots = count
            job.tell(lambda launcher: launcher.set_slots(count))

    def kill(self, job_id: JobId, index: int, attempt: int) -> None:
        job = self._jobs.get(job_id)
        if self.stage is not None and self.stage.stop(AttemptKey(job_id, index, attempt), Ended):
            return
        if job:
            job.tell(lambda launcher: launcher.kill(index, attempt))

    def recall(self, job_id: JobId, count: int) -> None:
        job = self._jobs.get(job_id)
        if self.stage is not None:
            self.stage.recall(job_id)
        if job:
            job.tell(lambda launcher: launcher.recall(count))

    def close(self, job_id: JobId) -> None:
        """Stop what runs, leave nothing behind; the listener hears when it is done."""
        job = self._jobs.get(job_id)
        if job is None or job.is_ending:
            asyncio.get_running_loop().call_soon(self._listener.on_launcher_gone, job_id, "")
        else:
            job.tell_when_closed = True
            job.end()

    def rest(self, job_id: JobId) -> None:
        """Let a launcher go that has nothing to do; the next start opens another."""
        job = self._jobs.get(job_id)
        if job:
            job.end()

    def pause(self, *, on: bool) -> bool:
        """Hear no reports while they could not be kept; tasks that write much then wait on their pipes.

        True if that is a change.
        """
        if on == self.is_paused:
            return False
        self.is_paused = on
        for job in self._jobs.values():
            job.tell(lambda launcher: launcher.pause() if on else launcher.resume())
        return True

    async def close_all(self) -> None:
        """Stop everything and wait until nothing is left."""
        jobs = list(self._jobs.values())
        for job in jobs:
            job.end()
        for job in jobs:
            await job.done.wait()
        await self.warm.close()

    def _begin(self, opened: OpenJob, slots: int, previous: JobRun | None) -> JobRun:
        job = JobRun(opened, self.warm, slots, has_gpus=self._around.has_gpus)
        if self.is_paused:
            job.tell(lambda launcher: launcher.pause())
        self._jobs[opened.job_id] = job
        if not begin_in(self._group, self._serve(job, previous)):
            # Something ended the agent, and a report of what ran asked for more.
            job.end()
            job.done.set()
        return job

    async def _serve(self, job: JobRun, previous: JobRun | None) -> None:
        """One launcher from its opening to its end."""
        try:
            if previous:
                await previous.done.wait()
            on_reports = partial(self._listener.on_reports, job.job_id)
            await job.serve(on_reports, partial(self._on_lost, job), self.output_most_bytes)
        except Conflict:
            # Nothing can be started on this node any more: the whole agent must say so and end.
            raise
        except (MeshError, OSError) as error:
            job.end()
            log.warning("launcher.not_opened", extra={"job_id": job.job_id, "reason": sentence_of(error)})
            self._listener.on_open_failed(job.job_id, sentence_of(error))
        finally:
            job.end()
            if self.stage is not None:
                self.stage.forget(job)
        if job.tell_when_closed:
            self._listener.on_launcher_gone(job.job_id, "")
        await job.clear_up()
        job.done.set()
        if self._jobs.get(job.job_id) is job:
            del self._jobs[job.job_id]

    def _on_lost(self, job: JobRun, reason: str) -> None:
        log.warning("launcher.lost", extra={"job_id": job.job_id, "reason": reason})
        job.lose()
        self._listener.on_launcher_gone(job.job_id, reason)
