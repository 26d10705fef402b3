"""A job from submit to report: what `run` does after everything was checked.

One task is followed byte by byte (`follow`), many are gathered (`gather`). Ctrl-C cancels the job.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import Any

import msgspec

from planetmesh.cli.bringing import Bringing
from planetmesh.cli.bytes_out import Outputs
from planetmesh.cli.face import Face
from planetmesh.cli.faults import tell_faults
from planetmesh.cli.fetch import say_interrupted
from planetmesh.cli.follow import exit_status, failure_sentence, follow_single
from planetmesh.cli.gather import Gatherer
from planetmesh.cli.interrupt import INTERRUPTED, Interruption
from planetmesh.cli.output import cell
from planetmesh.cli.shapes import noun_of, reason_of
from planetmesh.cli.spec import JobOptions
from planetmesh.cli.staging import Order, say_notes, send_files, submit_with
from planetmesh.cli.whole import Place, is_one_file, make_whole, whole_of
from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.handles import JobHandle
from planetmesh.errors import Conflict, MeshError
from planetmesh.groups import TaskGroup
from planetmesh.model.ids import JobId
from planetmesh.model.job import After, Inputs, JobSpec, One, TaskState
from planetmesh.wire.api import FeedEvent, TaskView

FAILURES_SHOWN = 10
PAYLOAD_MOST_LETTERS = 60
"""Of a task's input in a sentence."""
CANCEL_SECONDS = 10.0
"""To tell the coordinator of a Ctrl-C; a second one leaves at once."""


class How(msgspec.Struct, frozen=True):
    """How the job is watched."""

    keep_order: bool = False
    raw: bool = False
    detach: bool = False
    folder: str = "."
    """Where files that tasks made are laid."""
    overwrite: bool = False
    whole_folder: str = "."
    """Where the one file of the whole job is laid, if there is one."""
    noun: str = ""
    """`images`: what the job's inputs are, which are told of one by one then."""


async def submit_and_watch(face: Face, order: Order, how: How) -> int:
    """Hand the job in and stay with it to its end."""
    say_notes(face, order)
    async with face.mesh() as mesh:
        spec = await _look_up(mesh, order.spec, order.options)
        with Interruption() as interruption:
            watching = Watching(face, mesh, how)
            try:
                status = await interruption.interruptible(watching.run(order, spec))
            except BaseExceptionGroup as group:
                await watching.part(group)
                raise
            if status is not None:
                return status
            await watching.cancel_after_interrupt()
    return INTERRUPTED


async def _look_up(mesh: AsyncMesh, spec: JobSpec, options: JobOptions) -> JobSpec:
    """Put in the ids of the node and of the jobs to wait for, which people call by other names."""
    if options.node:
        spec = msgspec.structs.replace(spec, node=(await mesh.node(options.node)).id)
    ids = {name: JobId((await mesh.job(name)).id) for name in dict(options.conditions)}
    after = dict.fromkeys(After(ids[name], on) for name, on in options.conditions)
    return msgspec.structs.replace(spec, after=tuple(after))


def show_submitted(face: Face, handle: JobHandle) -> None:
    """The job's id alone, or the job with `--json`."""
    for warning in handle.warnings:
        face.printer.warn(warning)
    face.printer.done(handle.id, handle.view, word=handle.id)


class Watching:
    """One job from submit to report."""

    def __init__(self, face: Face, mesh: AsyncMesh, how: How) -> None:
        self._face = face
        self._printer = face.printer
        self._mesh = mesh
        self._is_sending = False
        self._how = how
        self._handle: JobHandle | None = None
        self._bringing: Bringing | None = None
        self._inputs: Inputs = One()

    async def run(self, order: Order, spec: JobSpec) -> int:
        """Send its files, submit, watch, report; gives the exit status."""
        staged = spec
        if order.plan:
            self._is_sending = True
            staged = await send_files(self._face, self._mesh, order, spec)
            self._is_sending = False

        async def hand_in() -> JobHandle:
            return await submit_with(self._face, self._mesh, order, spec, staged)

        if self._how.detach:
            show_submitted(self._face, await hand_in())
            return 0
        if isinstance(spec.inputs, One):
            handle = self._take(await hand_in())
            return await self._bringing_files(spec, handle, self._watch_single(handle))
        async with aclosing(self._mesh.feed()) as events:
            # Its first event says that the coordinator tells us things from now on; then nothing is missed.
            await anext(events)
            handle = self._take(await hand_in())
            return await self._bringing_files(spec, handle, self._watch_many(handle, events))

    def _take(self, handle: JobHandle) -> JobHandle:
        self._handle = handle
        for warning in handle.warnings:
            self._printer.warn(warning)
        self._printer.event({"kind": "job", "job": handle.view})
        return handle

    async def _bringing_files(
        self, spec: JobSpec, handle: JobHandle, watching: Coroutine[Any, Any, int]
    ) -> int:
        """Watch; meanwhile bring what the completed tasks made, whatever becomes of the others."""
        self._inputs = spec.inputs
        if not spec.outputs:
            return await watching
        how = self._how
        if is_one_file(spec):
            status = await watching
            await self._bring_whole(handle, spec)
            return status
        self._bringing = Bringing(self._printer, self._mesh, handle.id, how.folder, overwrite=how.overwrite)
        async with TaskGroup() as group:
            work = group.create_task(self._bringing.run())
            status = await watching
            await self._bringing.finish()
            work.cancel()
        self._bringing.report(is_any=bool(handle.view.tasks.completed or how.noun))
        if whole_of(spec) is not None:
            await self._bring_whole(handle, spec)
        return status

    async def _bring_whole(self, handle: JobHandle, spec: JobSpec) -> None:
        """What is made of the results of all tasks; those that lie here themselves have come before."""
        view = msgspec.structs.replace(handle.view, spec=spec)
        place = Place(self._how.folder, self._how.whole_folder, self._how.overwrite)
        try:
            files = await make_whole(self._face, self._mesh, view, place)
        except MeshError as error:
            again = f"Its results stay on the mesh: planetmesh fetch {handle.id} -o DIR"
            error.hint = f"{error.hint} {again}".strip()
            raise
        for file in files:
            self._printer.event({"kind": "file", "file": file})

    async def _watch_single(self, handle: JobHandle) -> int:
        task = await follow_single(
            self._mesh, handle, Outputs(self._printer, raw=self._how.raw), self._printer
        )
        self._printer.event({"kind": "task", "task": task})
        self._printer.event({"kind": "job", "job": handle.view})
        sentence = failure_sentence(task)
        if sentence:
            self._printer.warn(sentence)
        return exit_status(task)

    async def _watch_many(self, handle: JobHandle, events: AsyncGenerator[FeedEvent, None]) -> int:
        outputs = Outputs(self._printer, raw=self._how.raw)
        gatherer = Gatherer(self._mesh, handle, outputs, self._printer, self._bringing)
        handle.view = await gatherer.run(events, keep_order=self._how.keep_order)
        self._printer.event({"kind": "job", "job": handle.view})
        await self._list_failures(handle)
        counts = handle.view.tasks
        return 0 if counts.completed == counts.total else 1

    async def _list_failures(self, handle: JobHandle) -> None:
        counts = handle.view.tasks
        if counts.failed and self._how.noun:
            await tell_faults(self._printer, self._mesh, handle.id, self._how.noun, self._inputs.count)
        elif counts.failed:
            self._printer.warn(f"{counts.failed} of {counts.total} {noun_of(handle.view)} failed.")
            await self._name_failures(handle)
        if counts.cancelled:
            noun = noun_of(handle.view)
            reason = f": {handle.view.cancel_reason}" if handle.view.cancel_reason else ""
            self._printer.warn(f"{counts.cancelled} of {counts.total} {noun} were cancelled{reason}")

    async def _name_failures(self, handle: JobHandle) -> None:
        shown = 0
        async with aclosing(self._mesh.tasks(handle.id, status=TaskState.FAILED)) as tasks:
            async for task in tasks:
                if shown >= FAILURES_SHOWN:
                    more = handle.view.tasks.failed - shown
                    named = f"{more:,}".replace(",", "\N{NO-BREAK SPACE}")
                    self._printer.note(f"  … and {named} more: `planetmesh job {handle.id} --tasks --failed`")
                    break
                self._printer.note("  " + task_line(task))
                shown += task.width
        self._printer.note(f"hint: `planetmesh logs {handle.id}/INDEX` shows what one of them wrote.")

    async def part(self, group: BaseExceptionGroup) -> None:
        """Watching broke off: stop a job whose reader went away (`| head`), leave any other to itself."""
        handle = self._handle
        if handle is None or handle.ended:
            return
        if group.subgroup(BrokenPipeError) is None:
            self._printer.note(f"Job {handle.id} goes on; later: planetmesh logs {handle.id} -f")
            return
        with suppress(MeshError, TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await handle.cancel("its output was no longer read")

    async def cancel_after_interrupt(self) -> None:
        """Cancel on the mesh and say so; whatever goes wrong is said too."""
        handle = self._handle
        if handle is None:
            kept = " What was sent is kept for a day: the same command goes on there." * self._is_sending
            self._printer.warn(f"Interrupted before the job was accepted.{kept}")
            return
        if handle.ended:
            say_interrupted(self._face, handle.id, self._how.folder)
            return
        self._printer.warn(
            f"Interrupted: cancelling job {handle.id} on the mesh (Ctrl-C again leaves at once)."
        )
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await handle.cancel("interrupted by its user")
        except Conflict:
            self._printer.note(f"Job {handle.id} had ended already.")
        except (MeshError, TimeoutError):
            self._printer.warn(
                f"The coordinator could not be told; to stop the job later: planetmesh cancel {handle.id}"
            )
        else:
            self._printer.note(f"Job {handle.id} is cancelled.")
        if self._bringing is not None:
            self._printer.note(self._bringing.interrupted())


def task_line(task: TaskView) -> str:
    """`k3…/17  photo.png  on desk: exit code 3`"""
    payload = f"  {cell(task.payload, PAYLOAD_MOST_LETTERS)}" if task.payload is not None else ""
    return f"{task.id}{payload}  {cell(reason_of(task))}"
