"""Which inputs of a job of calls have no result, one by one: of a task that failed the others may have."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

from planetmesh.model.job import TaskState
from planetmesh.wire.api import Encoding, TaskResult

if TYPE_CHECKING:
    from planetmesh.cli.output import Printer
    from planetmesh.client.async_client import AsyncMesh


FAULTS_SHOWN = 20
NOUNS = {"image_batch": "images", "embedding": "texts"}
"""Job types whose inputs are told of one by one → what those are."""


class Fate(NamedTuple):
    """What became of one input of a task that failed."""

    task: int
    """Its index."""
    number: int
    """Of the input in the task."""
    input: str
    error: str
    """Empty: it has a result."""
    is_whole: bool = False
    """It is the task that failed, and with it all its inputs."""

    @property
    def sentence(self) -> str:
        """The error, with the input that it is about."""
        return self.error if self.input in self.error else f"{self.input}: {self.error}"


async def fates(mesh: AsyncMesh, job_id: str) -> AsyncGenerator[Fate, None]:
    """Every input of every task that failed, in order."""
    async with aclosing(mesh.results(job_id, status=TaskState.FAILED)) as results:
        async for result in results:
            for fate in fates_in(result):
                yield fate


async def tell_faults(printer: Printer, mesh: AsyncMesh, job_id: str, noun: str, total: int) -> None:
    """One line for each of the first inputs without a result, with the reason."""
    found: list[Fate] = []
    count = 0
    async with aclosing(fates(mesh, job_id)) as inputs:
        async for fate in inputs:
            if fate.error:
                count += 1
                found += [fate] * (len(found) < FAULTS_SHOWN)
                printer.event({"kind": "fault", "input": fate.input, "error": fate.error})
    printer.warn(f"{count} of {total} {noun} {'has' if count == 1 else 'have'} no result:")
    for fate in found:
        printer.note(f"  {fate.sentence}")
    if count > len(found):
        printer.note(f"  … and {count - len(found)} more: planetmesh results {job_id} --failed --json")
    if any(fate.is_whole for fate in found):
        printer.note(
            f"hint: a task that failed as a whole took all its {noun} with it; --chunk 1 gives each its own."
        )


def fates_in(result: TaskResult) -> list[Fate]:
    """Of one task that failed."""
    inputs = result.inputs or (() if result.input is None else (result.input,))
    parts = result.value if result.encoding == Encoding.CALLS and isinstance(result.value, list) else []
    if result.encoding in {Encoding.JSON, Encoding.TYPED}:
        # The value of an only call, as itself.
        return [Fate(result.index, number, text, "") for number, text in enumerate(inputs)]
    whole = result.error or "The task failed."
    found: list[Fate] = []
    for number, text in enumerate(inputs):
        part = parts[number] if number < len(parts) else None
        error = _error_of(part)
        is_whole = error is None and len(inputs) > 1
        found.append(Fate(result.index, number, text, whole if error is None else error, is_whole))
    return found


def _error_of(part: Any) -> str | None:
    """Empty for a value; None where nothing is said of this input."""
    if not isinstance(part, dict):
        return None
    error = part.get("error")
    if error is None:
        return ""
    return str(error.get("message", "")) or None if isinstance(error, dict) else None
