"""One job on one launcher: taken for it, told what to do, given back or lost.

Belongs to the runner. Commands given before the launcher stands wait for it in their order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from planetmesh.agent.sandbox.messages import Limits, Start
from planetmesh.agent.warm import LauncherLike, OnLost, OnReports, WarmLaunchers
from planetmesh.agent.workdir import safe_path, write_shared
from planetmesh.jobtypes.contract import JobFile, LaunchFile
from planetmesh.jobtypes.registry import job_type
from planetmesh.model.ids import JobId
from planetmesh.wire.agent import AssignTask, OpenJob
from planetmesh.wire.worker import CallBlob

HIDE_GPUS = {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
"""For tasks that asked for none, on a node that has some."""


class JobRun:
    """Made for a job's first start; not reused once it has ended."""

    def __init__(self, opened: OpenJob, warm: WarmLaunchers, slots: int, *, has_gpus: bool) -> None:
        self.opened = opened
        self.slots = slots
        self.tell_when_closed = False
        self.done = asyncio.Event()
        """The launcher has left and its traces are gone."""
        self._warm = warm
        self._has_gpus = has_gpus
        self._berth = warm.take(opened.submitter)
        self.folder = self._berth.folder
        self._launcher: LauncherLike | None = None
        self._waiting: list[Callable[[LauncherLike], None]] = []
        self._files: dict[str, LaunchFile] = {}
        self._end = asyncio.Event()
        self._is_lost = False
        self._is_given_back = False

    @property
    def job_id(self) -> JobId:
        return self.opened.job_id

    @property
    def is_ending(self) -> bool:
        return self._end.is_set()

    def tell(self, command: Callable[[LauncherLike], None]) -> None:
        """Now if the launcher stands, else as soon as it does; never once it may serve another job."""
        if self._end.is_set():
            return
        if self._launcher is None:
            self._waiting.append(command)
        else:
            command(self._launcher)

    def end(self) -> None:
        self._end.set()

    def lose(self) -> None:
        """The launcher has gone by itself."""
        self._is_lost = True
        self._end.set()

    def prepare(self, task: AssignTask, gpus: tuple[str, ...]) -> Start:
        """What the launcher is to start; raises BadInput or OSError."""
        launch = job_type(self.opened.job_type).launch(self.opened.payload, task.items, task.index)
        for file in launch.files:
            if file.name not in self._files:
                self._files[file.name] = file
                if self._launcher is not None:
                    self._write(file)
        if launch.call:
            blob = CallBlob(launch.call, self.opened.payload, task.items, task.index)
            env = {**launch.env, **self._gpu_env(gpus)}
            return Start(task.index, task.attempt, [], env, call=msgspec.msgpack.encode(blob))
        argv = [self._path_of(part) if isinstance(part, JobFile) else part for part in launch.argv]
        return Start(task.index, task.attempt, argv, {**launch.env, **self._gpu_env(gpus)})

    async def serve(self, on_reports: OnReports, on_lost: OnLost, output_most_bytes: int) -> None:
        """Stand, pass on what was told, stay until the end. Raises MeshError or OSError if none stands."""
        launcher = await self._warm.stand(self._berth)
        for file in self._files.values():
            self._write(file)
        launcher.listen(on_reports, on_lost)
        limits = self._limits(output_most_bytes)
        launcher.adopt(self.job_id, self.opened.env, limits, self.slots)
        self._launcher = launcher
        for command in self._waiting:
            command(launcher)
        self._waiting.clear()
        await self._end.wait()
        if not self._is_lost:
            await self._warm.give_back(self._berth)
            self._is_given_back = True

    async def clear_up(self) -> None:
        """Remove what a launcher that never stood, or was lost, has left."""
        if not self._is_given_back:
            await self._warm.clear(self._berth)

    def _limits(self, output_most_bytes: int) -> Limits:
        limits = self.opened.limits
        return Limits(
            timeout_seconds=limits.attempt_seconds or 0.0,
            silence_seconds=limits.silence_seconds or 0.0,
            memory_bytes=self.opened.requests.memory_bytes,
            output_most_bytes=output_most_bytes,
        )

    def _write(self, file: LaunchFile) -> None:
        write_shared(self.folder, file.name, file.content, executable=file.executable)

    def _path_of(self, file: JobFile) -> str:
        return str(safe_path(self.folder, file.name))

    def _gpu_env(self, gpus: tuple[str, ...]) -> dict[str, str]:
        if gpus:
            names = ",".join(gpus)
            return {"CUDA_VISIBLE_DEVICES": names, "NVIDIA_VISIBLE_DEVICES": names}
        return HIDE_GPUS if self._has_gpus else {}
