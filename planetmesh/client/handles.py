"""A job that was handed in, as a thing to wait for.

Knows nothing of the wire: it asks the `AsyncMesh` that it came from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from planetmesh.model.ids import JobId
from planetmesh.model.job import JOB_ENDED, TaskState
from planetmesh.wire.api import JobView, OutputPiece, Parse, TaskCode, TaskResult, TaskView

if TYPE_CHECKING:
    from planetmesh.client.async_client import AsyncMesh


class JobHandle:
    """One job. `view` is how it stood when last asked."""

    def __init__(self, mesh: AsyncMesh, view: JobView, warnings: tuple[str, ...] = ()) -> None:
        self._mesh = mesh
        self.view = view
        self.warnings = warnings
        """What the coordinator had to say about the submit: never an error, worth reading."""

    def __repr__(self) -> str:
        return f"JobHandle({self.id}, {self.view.status})"

    @property
    def id(self) -> JobId:
        return self.view.id

    @property
    def ended(self) -> bool:
        return self.view.status in JOB_ENDED

    async def status(self) -> JobView:
        """How it stands now."""
        self.view = await self._mesh.job(self.id)
        return self.view

    async def wait(self) -> JobView:
        """How it ended; at once if `view` is its end already. Bound it with `asyncio.timeout` if need be."""
        if not self.ended:
            self.view = await self._mesh.wait(self.id)
        return self.view

    async def cancel(self, reason: str = "") -> JobView:
        self.view = await self._mesh.cancel(self.id, reason)
        return self.view

    def tasks(self, *, status: TaskState | None = None) -> AsyncIterator[TaskView]:
        return self._mesh.tasks(self.id, status=status)

    def output(self, *, after: int = 0, following: bool = True) -> AsyncIterator[OutputPiece]:
        """Pieces as they arrive, until the job has ended."""
        return self._mesh.output(self.id, after=after, following=following)

    def logs(self, *, start: int = 0) -> AsyncIterator[OutputPiece]:
        """The last attempts' output so far, task by task."""
        return self._mesh.logs(self.id, start=start)

    def results(
        self, *, status: TaskState | None = None, parse: Parse = Parse.TEXT
    ) -> AsyncIterator[TaskResult]:
        """What came of each task that has ended so far."""
        return self._mesh.results(self.id, status=status, parse=parse)

    def codes(self, *, status: TaskState | None = None) -> AsyncIterator[TaskCode]:
        """How each task ended that has ended so far."""
        return self._mesh.codes(self.id, status=status)

    def text(self) -> AsyncIterator[bytes]:
        """What the COMPLETED tasks wrote to their standard output, one behind the other."""
        return self._mesh.text(self.id)
