"""The files that `run` brings home: each task's as it completes, while others still run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from planetmesh.cli.fetch import counted, fetch_line, place, summary
from planetmesh.cli.transfer_line import TransferLine
from planetmesh.client.progress import Progress, telling
from planetmesh.errors import MeshError

if TYPE_CHECKING:
    from planetmesh.cli.output import Printer
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.client.downloads import Fetched
    from planetmesh.wire.api import TaskView


class Bringing:
    """Beside a watched job: `run` it in a task of its own, `note` each end, and `finish` with the job."""

    def __init__(
        self, printer: Printer, mesh: AsyncMesh, job_id: str, folder: str, *, overwrite: bool
    ) -> None:
        self._printer = printer
        self._job_id = job_id
        self._folder = folder
        self._arrivals = mesh.arrivals(job_id, folder, overwrite=overwrite, on_file=self._on_file)
        self._fetched: list[Fetched] = []
        self._error: MeshError | None = None
        self._is_last = False
        self._over = asyncio.Event()
        self._here: set[str] = set()
        """Files that are whole in the folder; several tasks may have made the same one."""

    @property
    def progress(self) -> Progress:
        return self._arrivals.progress

    def note(self, task: TaskView) -> None:
        """A task has ended."""
        self._arrivals.add(task)

    async def run(self) -> None:
        """Until `finish` was called and nothing is left to bring; a failure is told now, and raised there."""
        try:
            self._fetched = await self._arrivals.run()
        except MeshError as error:
            self._error = error
            if not self._is_last:
                self._printer.warn(f"{error.message} The job goes on, and its files stay on the mesh.")
        finally:
            self._over.set()

    async def finish(self) -> None:
        """The job has ended: bring what is left, with a line on the terminal that tells how far it is.

        Nothing of `run` is needed when this returns.
        """
        self._is_last = True
        if self._error is None:
            with TransferLine(self._printer) as line, telling(self.progress, line.update):
                try:
                    await self._arrivals.finish()
                except MeshError as error:
                    self._error = error
                else:
                    await self._over.wait()

    def report(self, *, is_any: bool) -> None:
        """Say where they are, or raise what kept them back. `is_any`: whether a task completed at all."""
        if self._error is not None:
            again = f"The files stay on the mesh: planetmesh fetch {self._job_id} -o DIR"
            self._error.hint = f"{self._error.hint} {again}".strip()
            raise self._error
        if is_any:
            self._printer.note(summary(self._fetched, self._folder))

    def interrupted(self) -> str:
        """What is here, and how to get the rest, once the job was stopped."""
        count = len(self._here)
        here = f"{counted(count)} {'is' if count == 1 else 'are'} in {place(self._folder)}. "
        rest = f"To fetch all that its tasks have made: {fetch_line(self._job_id, self._folder)}"
        return here * bool(count) + rest

    def _on_file(self, file: Fetched) -> None:
        self._here.add(file.path)
        self._printer.event({"kind": "file", "file": file})
