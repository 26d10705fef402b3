"""One launcher's life: opened for a job, told what to do, closed or lost.

Belongs to the runner. Commands given before the launcher stands wait for it in their order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from planetmesh.agent.sandbox.folders import make_job_folder, remove_folder
from planetmesh.agent.sandbox.messages import LauncherSpec, Limits, Report, Share, Start
from planetmesh.agent.workdir import safe_path, write_shared
from planetmesh.jobtypes.contract import JobFile, LaunchFile
from planetmesh.jobtypes.registry import job_type
from planetmesh.model.ids import JobId
from planetmesh.wire.agent import AssignTask, OpenJob

HIDE_GPUS = {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
"""For tasks that asked for none, on a node that has some."""


class LauncherLike(Protocol):
    """What a launcher's handle offers; see `sandbox.handle`."""

    def start(self, batch: Sequence[Start]) -> None: ...

    def kill(self, index: int, attempt: int, grace_seconds: float = ...) -> None: ...

    def set_slots(self, count: int) -> None: ...

    def recall(self, count: int) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    async def close(self) -> None: ...


class LauncherSource(Protocol):
    """What the zygote offers."""

    async def open(
        self, spec: LauncherSpec, on_reports: Callable[[list[Report]], None], on_lost: Callable[[str], None]
    ) -> LauncherLike: ...


class Surroundings(msgspec.Struct, frozen=True):
    """What all jobs on this node have in common."""

    work_root: Path
    hidden: tuple[str, ...]
    shares: tuple[Share, ...] = ()
    has_gpus: bool = False


class JobRun:
    """Made for a job's first start; not reused once it has ended."""

    def __init__(self, opened: OpenJob, around: Surroundings, slots: int, output_most_bytes: int) -> None:
        self.opened = opened
        self.slots = slots
        self.tell_when_closed = False
        self.done = asyncio.Event()
        """The launcher has left and its traces are gone."""
        self._around = around
        self._output_most_bytes = output_most_bytes
        self._folder = around.work_root / opened.job_id
        self._launcher: LauncherLike | None = None
        self._waiting: list[Callable[[LauncherLike], None]] = []
        self._files: dict[str, LaunchFile] = {}
        self._end = asyncio.Event()
        self._is_lost = False

    @property
    def job_id(self) -> JobId:
        return self.opened.job_id

    @property
    def is_ending(self) -> bool:
        return self._end.is_set()

    def tell(self, command: Callable[[LauncherLike], None]) -> None:
        """Now if the launcher stands, else as soon as it does."""
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
        launch = job_type(self.opened.job_type).launch(self.opened.payload, task.item, task.index)
        for file in launch.files:
            if file.name not in self._files:
                self._files[file.name] = file
                if self._launcher is not None:
                    self._write(file)
        argv = [self._path_of(part) if isinstance(part, JobFile) else part for part in launch.argv]
        return Start(task.index, task.attempt, argv, {**launch.env, **self._gpu_env(gpus)})

    async def serve(
        self,
        source: LauncherSource,
        on_reports: Callable[[list[Report]], None],
        on_lost: Callable[[str], None],
    ) -> None:
        """Open, pass on what was told, stay until the end. Raises MeshError or OSError if it cannot open."""
        make_job_folder(self._around.work_root, self.job_id)
        for file in self._files.values():
            self._write(file)
        launcher = await source.open(self._spec(), on_reports, on_lost)
        self._launcher = launcher
        for command in self._waiting:
            command(launcher)
        self._waiting.clear()
        await self._end.wait()
        if not self._is_lost:
            await launcher.close()

    async def clear_up(self) -> None:
        await asyncio.to_thread(remove_folder, self._folder)

    def _spec(self) -> LauncherSpec:
        limits = self.opened.limits
        return LauncherSpec(
            job_id=self.job_id,
            folder=str(self._folder),
            hidden=self._around.hidden,
            shares=self._around.shares,
            env=self.opened.env,
            limits=Limits(
                timeout_seconds=limits.attempt_seconds or 0.0,
                silence_seconds=limits.silence_seconds or 0.0,
                memory_bytes=self.opened.requests.memory_bytes,
                output_most_bytes=self._output_most_bytes,
            ),
            slots=self.slots,
        )

    def _write(self, file: LaunchFile) -> None:
        write_shared(self._folder, file.name, file.content, executable=file.executable)

    def _path_of(self, file: JobFile) -> str:
        return str(safe_path(self._folder, file.name))

    def _gpu_env(self, gpus: tuple[str, ...]) -> dict[str, str]:
        if gpus:
            names = ",".join(gpus)
            return {"CUDA_VISIBLE_DEVICES": names, "NVIDIA_VISIBLE_DEVICES": names}
        return HIDE_GPUS if self._around.has_gpus else {}
