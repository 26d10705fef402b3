"""Watching a job of many tasks: each task's output together, in the order of finish or of index.

The feed says which tasks have ended. An agent's output is stored before its task's end is told, so whatever
is asked for after an end was heard holds all of that task's output; one question serves all ends of a tenth
of a second. Only unfinished tasks' outputs are held here, large ones on disk.
"""

from __future__ import annotations

import asyncio
import struct
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import IO

import msgspec

from planetmesh.cli.bringing import Bringing
from planetmesh.cli.bytes_out import Outputs
from planetmesh.cli.follow import watch_waiting
from planetmesh.cli.output import Printer
from planetmesh.cli.progress import ProgressLine
from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.handles import JobHandle
from planetmesh.groups import TaskGroup
from planetmesh.model.job import ENDED
from planetmesh.wire.api import FeedEvent, JobView, OutputPiece, TaskView

FLUSH_SECONDS = 0.1
REDRAW_SECONDS = 1.0
"""Of the line that tells how far it is, while nothing is heard."""
HELD_IN_MEMORY_BYTES = 1024 * 1024
"""Of one unfinished task's output; the rest of it lies in a temporary file."""
_HEAD = struct.Struct("<BI")


class Held:
    """One unfinished task's output, of its newest attempt."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=HELD_IN_MEMORY_BYTES)  # noqa: SIM115

    def add(self, piece: OutputPiece) -> None:
        self._file.write(_HEAD.pack(piece.stream & 0xFF, len(piece.data)))
        self._file.write(piece.data)

    def print_to(self, outputs: Outputs, index: int) -> None:
        """Write it out in its order, and let go of it."""
        self._file.seek(0)
        while head := self._file.read(_HEAD.size):
            stream, size = _HEAD.unpack(head)
            outputs.write(OutputPiece(0, index, self.attempt, stream, 0, self._file.read(size)))
        outputs.finish()
        self._file.close()

    def drop(self) -> None:
        self._file.close()


class Gatherer:
    """Follows one job to its end."""

    def __init__(
        self,
        mesh: AsyncMesh,
        handle: JobHandle,
        outputs: Outputs,
        printer: Printer,
        bringing: Bringing | None = None,
    ) -> None:
        """`bringing` hears of each task that ends."""
        self._mesh = mesh
        self._bringing = bringing
        self._handle = handle
        self._outputs = outputs
        self._printer = printer
        self._line = ProgressLine(printer, inputs=handle.view.counts_inputs)
        printer.make_room = self._line.wipe
        self._news = asyncio.Event()
        self._ended: dict[int, TaskView] = {}
        """Ended and not yet printed."""
        self._nodes: set[str] = set()
        self._counts = handle.view.tasks
        self._held: dict[int, Held] = {}
        self._seen_number = 0
        self._following_index = 0
        self._printed = bytearray(handle.view.tasks.total)
        """1 for each task that is done with: late pieces of a lost attempt mean nothing."""
        self._over = False

    async def run(self, events: AsyncGenerator[FeedEvent, None], *, keep_order: bool) -> JobView:
        """Print until the job has ended; gives how it ended. The events began before the submit."""
        flush = self._flush_in_order if keep_order else self._flush_finished
        try:
            async with TaskGroup() as group:
                listening = group.create_task(self._listen(events))
                waiting = group.create_task(self._wait_for_end())
                explaining = group.create_task(watch_waiting(self._mesh, self._handle, self._printer))
                while not self._over:
                    await self._pause()
                    await flush()
                listening.cancel()
                explaining.cancel()
                view = await waiting
            await self._flush_rest(keep_order=keep_order)
        finally:
            self._line.wipe()
            for held in self._held.values():
                held.drop()
        return view

    async def _wait_for_end(self) -> JobView:
        view = await self._mesh.wait(self._handle.id)
        self._over = True
        self._news.set()
        return view

    async def _pause(self) -> None:
        """Until there is news, but never more often than every FLUSH_SECONDS."""
        self._draw()
        while not self._news.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(REDRAW_SECONDS):
                    await self._news.wait()
            self._draw()
        if not self._over:
            await asyncio.sleep(FLUSH_SECONDS)
        self._news.clear()
        self._draw()

    def _draw(self) -> None:
        fetching = self._bringing.progress if self._bringing is not None else None
        self._line.update(self._counts, len(self._nodes), fetching)

    async def _listen(self, events: AsyncGenerator[FeedEvent, None]) -> None:
        async for event in events:
            await self._take(event)

    async def _take(self, event: FeedEvent) -> None:
        if event.kind == "job" and event.data.get("id") == self._handle.id:
            self._counts = msgspec.convert(event.data, JobView).tasks
            self._news.set()
        elif event.kind == "tasks":
            for data in event.data:
                if data.get("job_id") == self._handle.id:
                    self._take_task(msgspec.convert(data, TaskView))
        elif event.kind == "resync":
            async for task in self._mesh.tasks(self._handle.id):
                self._take_task(task)

    def _take_task(self, task: TaskView) -> None:
        if task.node:
            self._nodes.add(task.node)
        if task.status in ENDED:
            self._ended[task.index] = task
            self._news.set()
            if self._bringing is not None:
                self._bringing.note(task)

    async def _flush_finished(self) -> None:
        if not self._ended:
            return
        # What has ended by now is complete in the answer; what ends meanwhile waits for the next one.
        complete = list(self._ended)
        await self._collect()
        for index in complete:
            self._print_end(index, self._held.pop(index, None))

    async def _flush_in_order(self) -> None:
        """Print the next tasks whose turn has come, straight from the mesh."""
        until = self._following_index
        while until in self._ended:
            until += self._ended[until].width
        if until == self._following_index:
            return
        await self._print_logs(self._following_index, until)
        for index in range(self._following_index, until):
            self._print_end(index, None)
        self._following_index = until

    async def _flush_rest(self, *, keep_order: bool) -> None:
        if keep_order:
            await self._print_logs(self._following_index, self._counts.total)
            return
        await self._collect()
        for index in list(self._held):
            self._print_end(index, self._held.pop(index))

    async def _collect(self) -> None:
        async for piece in self._mesh.output(self._handle.id, after=self._seen_number):
            self._seen_number = piece.number
            if piece.data and not self._printed[piece.index]:
                self._hold(piece)

    def _hold(self, piece: OutputPiece) -> None:
        held = self._held.get(piece.index)
        if held is not None and held.attempt < piece.attempt:
            held.drop()
            held = None
        if held is None:
            held = self._held[piece.index] = Held(piece.attempt)
        if held.attempt == piece.attempt:
            held.add(piece)

    def _print_end(self, index: int, held: Held | None) -> None:
        task = self._ended.pop(index, None)
        self._printed[index] = 1
        if held is not None:
            self._line.wipe()
            held.print_to(self._outputs, index)
        if task is not None:
            self._printer.event({"kind": "task", "task": task})

    async def _print_logs(self, start: int, until: int) -> None:
        self._line.wipe()
        current = start
        async with aclosing(self._mesh.logs(self._handle.id, start=start)) as pieces:
            async for piece in pieces:
                if piece.index >= until:
                    break
                if piece.index != current:
                    self._outputs.finish()
                    current = piece.index
                self._outputs.write(piece)
        self._outputs.finish()
