"""Which inputs of a job of calls have no result, one by one: of a task that failed the others may have."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

from planetmesh.model.job import TaskState
from planetmesh.wire.api import Encoding, TaskResult

if TYPE_CHECKING:
    from planetmesh.client.async_client import AsyncMesh


class Fate(NamedTuple):
    """What became of one input of a task that failed."""

    task: int
    """Its index."""
    number: int
    """Of the input in the task."""
    input: str
    error: str
    """Empty: it has a result."""

    @property
    def sentence(self) -> str:
        """The error, with the input that it is about."""
        return self.error if self.input in self.error else f"{self.input}: {self.error}"


async def fates(mesh: AsyncMesh, job_id: str) -> AsyncGenerator[Fate, None]:
    """Every input of every task that failed, in order."""
    async with aclosing(mesh.results(job_id, status=TaskState.FAILED)) as results:
        async for result in results:
            for number, (text, error) in enumerate(_inputs(result)):
                yield Fate(result.index, number, text, error)


def _inputs(result: TaskResult) -> list[tuple[str, str]]:
    inputs = result.inputs or (() if result.input is None else (result.input,))
    parts = result.value if result.encoding == Encoding.CALLS and isinstance(result.value, list) else []
    if result.encoding == Encoding.JSON:
        # The value of an only call, as itself.
        return [(text, "") for text in inputs]
    whole = result.error or "The task failed."
    return [
        (text, _error_of(parts[number] if number < len(parts) else None, whole))
        for number, text in enumerate(inputs)
    ]


def _error_of(part: Any, whole: str) -> str:
    if not isinstance(part, dict):
        return whole
    error = part.get("error")
    if error is None:
        return ""
    return str(error.get("message", whole)) if isinstance(error, dict) else whole
