"""Folders for tasks that have files: prepared before the start, taken away at the end.

Works between the runner, which tells what is to be started, and `staging`, which lays the files in a
thread. A folder is in the tasks' reach only between `hand over` and `take back`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from planetmesh.agent.carrier import AttemptKey
from planetmesh.agent.fetcher import Fetcher
from planetmesh.agent.file_threads import FileThreads
from planetmesh.agent.job_run import JobRun
from planetmesh.agent.reports import sentence_of
from planetmesh.agent.sandbox.folders import task_user
from planetmesh.agent.sandbox.messages import Ended, Recalled, Report, Start, Why
from planetmesh.agent.staging import Blobs, Stager, Stamp, Stopped, reserve_of
from planetmesh.agent.task_folders import TaskFolders
from planetmesh.agent.warm import LauncherLike
from planetmesh.errors import MeshError
from planetmesh.groups import begin_in
from planetmesh.model.ids import JobId
from planetmesh.wire.agent import AssignTask, OpenJob

log = logging.getLogger(__name__)

KILLED_CODE = 128 + signal.SIGTERM


class Listener(Protocol):
    """Who hears of starts that came to nothing; the desk."""

    def on_reports(self, job_id: JobId, reports: list[Report]) -> None: ...

    def on_refused(self, task: AssignTask, error: str) -> None: ...


class Left(msgspec.Struct, frozen=True):
    """A task's folder after its end, out of the tasks' reach."""

    folder: Path
    staged: Mapping[str, Stamp]
    """The files that were laid into it, by name."""


class _Preparing(msgspec.Struct):
    job: JobRun
    stop: threading.Event
    why: type[Ended | Recalled] | None = None
    """As what its stop is told; nobody asks any more if None."""


class _Given(msgspec.Struct, frozen=True):
    job: JobRun
    folder: Path
    staged: Mapping[str, Stamp]
    is_handed_over: bool = False


class Stage:
    """Made once per agent process; used from its loop."""

    def __init__(
        self,
        work_root: Path,
        blobs: Blobs,
        fetcher: Fetcher,
        threads: FileThreads,
        listener: Listener,
        group: asyncio.TaskGroup,
    ) -> None:
        self._folders = TaskFolders(work_root)
        self._blobs = blobs
        self._fetcher = fetcher
        self._threads = threads
        self._listener = listener
        self._group = group
        self._user = task_user()
        self._reserve_bytes = reserve_of(work_root)
        self._preparing: dict[AttemptKey, _Preparing] = {}
        self._given: dict[AttemptKey, _Given] = {}

    def begin(self, job: JobRun, task: AssignTask, start: Start) -> None:
        """Prepare a folder and hand it over with the start, as soon as both it and the launcher stand."""
        key = AttemptKey(task.job_id, task.index, task.attempt)
        preparing = self._preparing[key] = _Preparing(job, threading.Event())
        begin_in(self._group, self._prepare(key, preparing, task, start))

    def stop(self, key: AttemptKey, why: type[Ended | Recalled] | None) -> bool:
        """Start it no more; told as asked. False: it is not being prepared (any more)."""
        preparing = self._preparing.get(key)
        if preparing is None:
            return False
        preparing.why = preparing.why or why
        preparing.stop.set()
        return True

    def recall(self, job_id: JobId) -> None:
        """Those of a job that are still being prepared go back to where they waited."""
        for key in self._preparing:
            if key.job_id == job_id:
                self.stop(key, Recalled)

    def take_back(self, key: AttemptKey) -> Left | None:
        """Out of the tasks' reach; None if it has no folder of its own. Raises OSError if that is gone."""
        given = self._given.pop(key, None)
        if given is None:
            return None
        return Left(self._folders.take_back(given.folder), given.staged)

    def discard(self, left: Left) -> None:
        """Remove it, in a while."""
        self._remove(left.folder)

    def forget(self, job: JobRun) -> None:
        """Its launcher is gone, and with it what was handed over."""
        for preparing in self._preparing.values():
            if preparing.job is job:
                preparing.stop.set()
        for key in [key for key, given in self._given.items() if given.job is job]:
            given = self._given.pop(key)
            if not given.is_handed_over:
                self._remove(given.folder)

    async def _prepare(self, key: AttemptKey, preparing: _Preparing, task: AssignTask, start: Start) -> None:
        job = preparing.job
        folder = None
        error: MeshError | OSError | None = None
        staged: dict[str, Stamp] = {}
        try:
            folder, staged = await self._threads.run(
                partial(self._lay, job.opened, task, key, preparing.stop)
            )
        except Stopped:
            preparing.stop.set()
        except (MeshError, OSError) as caught:
            error = caught
        finally:
            if self._preparing.get(key) is preparing:
                del self._preparing[key]
        if preparing.stop.is_set() or job.is_ending:
            if folder is not None:
                self._remove(folder)
            self._tell_stopped(key, preparing)
        elif folder is None:
            self._listener.on_refused(task, sentence_of(error) if error else "")
        else:
            self._given[key] = _Given(job, folder, staged)
            job.tell(partial(self._hand_over, key, task, start))

    def _lay(
        self, opened: OpenJob, task: AssignTask, key: AttemptKey, stop: threading.Event
    ) -> tuple[Path, dict[str, Stamp]]:
        folder = self._folders.new()
        try:
            layout = self._fetcher.layout_of((*opened.files, *task.files), key)
            stager = Stager(folder, self._blobs, self._user, stop, reserve_bytes=self._reserve_bytes)
            staged = stager.lay(layout)
        except BaseException:
            self._folders.remove(folder)
            raise
        # Only those who collect must know the files again.
        return folder, staged if opened.outputs else {}

    def _hand_over(self, key: AttemptKey, task: AssignTask, start: Start, launcher: LauncherLike) -> None:
        ready = self._given[key]
        try:
            folder = self._folders.hand_over(ready.folder, ready.job.folder)
        except OSError as error:
            del self._given[key]
            self._remove(ready.folder)
            # The listener asks for the next steps: not while these are being taken.
            asyncio.get_running_loop().call_soon(self._listener.on_refused, task, sentence_of(error))
            return
        self._given[key] = msgspec.structs.replace(ready, folder=folder, is_handed_over=True)
        launcher.start([msgspec.structs.replace(start, folder=str(folder))])

    def _tell_stopped(self, key: AttemptKey, preparing: _Preparing) -> None:
        report: Report | None = None
        if preparing.why is Ended:
            report = Ended(
                key.index, key.attempt, Why.KILLED, KILLED_CODE, message="Killed before it started."
            )
        elif preparing.why is Recalled:
            report = Recalled([(key.index, key.attempt)])
        if report is not None:
            self._listener.on_reports(key.job_id, [report])

    def _remove(self, folder: Path) -> None:
        self._threads.later(partial(remove_quietly, self._folders, folder))


def remove_quietly(folders: TaskFolders, folder: Path) -> None:
    try:
        folders.remove(folder)
    except OSError as error:
        # The sweep at the agent's next start tries again.
        log.warning("work.not_removed", extra={"path": str(folder), "reason": str(error)})
