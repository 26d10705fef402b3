"""What `AsyncMesh` does with files: sends those that a job takes along, brings those that its tasks made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from planetmesh.client.arrivals import Arrivals
from planetmesh.client.calls import Caller
from planetmesh.client.downloads import Downloader, Fetched, read_selection
from planetmesh.client.plan import Plan
from planetmesh.client.progress import OnProgress, Progress, telling
from planetmesh.client.staging import stage, stage_made
from planetmesh.client.uploads import Outgoing, Uploader
from planetmesh.client.wanted import Wanted
from planetmesh.errors import BadInput, MissingBlobs
from planetmesh.model.job import JobSpec

if TYPE_CHECKING:
    from planetmesh.client.handles import JobHandle


class MeshFiles:
    """A part of `AsyncMesh`."""

    async def stage(self, plan: Plan, spec: JobSpec, *, on_progress: OnProgress | None = None) -> JobSpec:
        """Send the planned files, as far as the coordinator lacks them; gives the spec with them, to submit.

        Safe to repeat: what has arrived is not sent again, and what was cut off goes on. What no job uses is
        removed after a day. Raises BadInput for a file that changes while it is read.
        """
        progress = Progress()
        with telling(progress, on_progress):
            return await stage(self._open, plan, spec, progress)

    async def send_blobs(self, blobs: Iterable[Outgoing]) -> None:
        """Send these as far as the coordinator lacks them: for a job that will name them."""
        await Uploader(self._open, Progress()).send(blobs)

    async def stage_made(self, job: str, spec: JobSpec) -> JobSpec:
        """Give the tasks of a job to come all that this one's have brought; nothing of it comes here."""
        job_path(job)
        return await stage_made(self._open, job, spec)

    async def submit_with(
        self,
        plan: Plan,
        spec: JobSpec,
        *,
        staged: JobSpec | None = None,
        on_progress: OnProgress | None = None,
    ) -> JobHandle:
        """Hand in a job with the planned files.

        `staged` is what `stage` gave, if they were sent before. What the coordinator has lost meanwhile (it
        removes what no job uses after a day) is sent once more.
        """
        try:
            return await self._submit_job(staged or await self.stage(plan, spec, on_progress=on_progress))
        except MissingBlobs:
            if not plan:
                raise
            return await self._submit_job(await self.stage(plan, spec, on_progress=on_progress))

    async def files(self, job: str, *, index: int | None = None, by_task: bool = False) -> tuple[Wanted, ...]:
        """The files that the job's tasks, or one of them, have brought so far, by task.

        Raises Conflict if two tasks made files of one name, unless each task's are to lie in a folder of its
        own, called by its index (`by_task`).
        """
        job_path(job)
        selection = await read_selection(self._open, job, index=index, by_task=by_task)
        return selection.files

    async def fetch(
        self,
        job: str,
        folder: Path | str,
        *,
        index: int | None = None,
        by_task: bool = False,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[Fetched]:
        """Bring these files into a folder, which is made if need be; safe to repeat, and goes on then.

        A file that lies there with the same content is left alone. Raises Conflict for one with other
        content, unless `overwrite`, and for what `files` does; then nothing was written.
        """
        job_path(job)
        selection = await read_selection(self._open, job, index=index, by_task=by_task)
        progress = Progress()
        with telling(progress, on_progress):
            return await Downloader(self._open, Path(folder), progress, overwrite=overwrite).fetch(selection)

    def arrivals(
        self,
        job: str,
        folder: Path | str,
        *,
        by_task: bool = False,
        overwrite: bool = False,
        on_file: Callable[[Fetched], None] | None = None,
    ) -> Arrivals:
        """The same for a job that goes on: its files come as its tasks complete, see `Arrivals`."""
        job_path(job)
        downloader = Downloader(self._open, Path(folder), Progress(), overwrite=overwrite)
        return Arrivals(self._open, job, downloader, by_task=by_task, on_file=on_file)

    # Of `AsyncMesh`

    @property
    def _open(self) -> Caller:
        raise NotImplementedError

    async def _submit_job(self, spec: JobSpec, *, wait_seconds: float = 0.0, key: str = "") -> JobHandle:
        raise NotImplementedError


def job_path(job: str) -> str:
    """Where the API has a job; raises BadInput for a name that cannot be one."""
    if not job.strip():
        raise BadInput("The job's id is empty.", hint="`planetmesh jobs` lists them.")
    return f"/v1/jobs/{quote(job, safe='', errors='replace')}"
