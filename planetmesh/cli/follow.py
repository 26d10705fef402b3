"""Watching a job of one task: its output as it comes, why it waits, what is tried again.

`run` of a single task and `logs -f` of one task come here. What is printed is the task's own output, byte
for byte; what we have to say goes to stderr.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from planetmesh.cli.bytes_out import Outputs
from planetmesh.cli.output import Printer
from planetmesh.cli.shapes import reason_of
from planetmesh.client.async_client import LONG_POLL_SECONDS, AsyncMesh
from planetmesh.client.handles import JobHandle
from planetmesh.groups import TaskGroup
from planetmesh.model.job import JOB_ENDED, TaskState
from planetmesh.wire.api import JobView, TaskView

PATIENT_SECONDS = 2.0
"""Nothing runs for so long: say why."""
T = TypeVar("T")


async def follow_single(mesh: AsyncMesh, handle: JobHandle, outputs: Outputs, printer: Printer) -> TaskView:
    """Print the task's output until it has ended; gives its end."""
    await saying_why_it_waits(mesh, handle, printer, _print_output(mesh, handle, outputs))
    handle.view = await mesh.wait(handle.id)
    return await mesh.task(handle.id, 0)


async def saying_why_it_waits(
    mesh: AsyncMesh, handle: JobHandle, printer: Printer, work: Coroutine[Any, Any, T]
) -> T:
    """Do `work`, which lasts as long as the job; meanwhile say why nothing of it runs."""
    async with TaskGroup() as group:
        watching = group.create_task(watch_waiting(mesh, handle, printer))
        done = await work
        watching.cancel()
    return done


async def _print_output(mesh: AsyncMesh, handle: JobHandle, outputs: Outputs) -> None:
    async for piece in mesh.output(handle.id, following=True):
        outputs.write(piece)
    outputs.finish()


async def watch_waiting(mesh: AsyncMesh, handle: JobHandle, printer: Printer) -> None:
    """Say why nothing runs, and what is tried again, until cancelled or the job has ended."""
    said: set[str] = set()
    # What it waits for at first was a warning of its submit already.
    is_told = bool(handle.warnings)
    while True:
        view = await mesh.job(handle.id, wait_seconds=PATIENT_SECONDS)
        if view.status in JOB_ENDED:
            return
        for sentence in [*_why_waiting(view), *await _what_retries(mesh, view)]:
            if sentence not in said:
                said.add(sentence)
                if not is_told:
                    printer.note(sentence)
        is_told = False
        if view.tasks.running:
            # Nothing to say for long: ask rarely, the coordinator answers at once when the job has ended.
            await mesh.job(handle.id, wait_seconds=LONG_POLL_SECONDS / 5)


def _why_waiting(view: JobView) -> list[str]:
    idle = not (view.tasks.running or view.tasks.assigned)
    return [f"Waiting: {view.waiting}"] if idle and view.waiting else []


async def _what_retries(mesh: AsyncMesh, view: JobView) -> list[str]:
    if not view.tasks.retrying or view.tasks.total > 1:
        return []
    task = await mesh.task(view.id, 0)
    return [retry_sentence(task)] if task.status == TaskState.RETRYING else []


def retry_sentence(task: TaskView) -> str:
    """`Attempt 1 did not succeed on desk: exit code 3; it will run again.`"""
    return f"Attempt {task.attempts} did not succeed {reason_of(task).rstrip('.')}; it will run again."


def exit_status(task: TaskView) -> int:
    """The command's own status where there is one; 1 for a task that never got so far."""
    if task.status == TaskState.COMPLETED:
        return 0
    code = task.exit_code
    return code if code is not None and 0 < code < 256 else 1


def failure_sentence(task: TaskView) -> str:
    """What the user must be told beyond the exit status; a command's own failure speaks for itself."""
    if task.status == TaskState.COMPLETED:
        return ""
    if task.status == TaskState.CANCELLED:
        return "The job was cancelled."
    if task.outcome in {"exit_code", "signal"}:
        return ""
    return f"The task failed{' ' if task.node else ': '}{reason_of(task)}"
