"""What a task writes, as it writes it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import aclosing, suppress
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.widget import Widget
from textual.widgets import Input

from planetmesh.client.async_client import AsyncMesh
from planetmesh.dashboard import sheets
from planetmesh.dashboard.log_lines import LogLines
from planetmesh.dashboard.plain import DIM, WARN, Cell, plain
from planetmesh.dashboard.rows import job_name
from planetmesh.dashboard.screens.mesh_screen import Explaining, MeshScreen
from planetmesh.dashboard.snapshot import Snapshot
from planetmesh.dashboard.widgets.lines_view import LinesView
from planetmesh.dashboard.widgets.search_line import SearchLine
from planetmesh.dashboard.widgets.sheet import Sheet
from planetmesh.dashboard.working import begin
from planetmesh.errors import MeshError, Unreachable
from planetmesh.wire.api import JobView, OutputPiece, TaskView

LOOK_SECONDS = 0.2
WAITING_MOST = 200
"""Pieces that wait for the screen; the coordinator is read no further meanwhile."""
TAKEN_MOST = 100
"""Pieces a look."""
AGAIN_SECONDS = 2.0
UNFINISHED_MOST = 2
"""One line of each stream."""


class Stream:
    """Pieces of one task's output, brought by the watcher's thread, taken by the screen's."""

    def __init__(self, job_id: str, index: int) -> None:
        self._job_id = job_id
        self._index = index
        self._number = 0
        self.waiting: deque[OutputPiece] = deque()

    async def follow(self, mesh: AsyncMesh) -> None:
        """Until the task has ended; may be called again, and goes on where it was."""
        pieces = mesh.output(self._job_id, after=self._number, index=self._index, following=True)
        async with aclosing(pieces):
            async for piece in pieces:
                self._number = piece.number
                self.waiting.append(piece)
                while len(self.waiting) > WAITING_MOST:  # noqa: ASYNC110  another thread takes them
                    await asyncio.sleep(LOOK_SECONDS)


class LogScreen(MeshScreen):
    """See the module."""

    MODE = "jobs"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", key_display="/"),
        Binding("n", "look(1)", "Next"),
        Binding("N", "look(-1)", "Previous", key_display="N"),
        Binding("f", "follow", "Follow"),
        Binding("escape", "back", "Back"),
    ]
    DEFAULT_CSS = """
    LogScreen {
        & #task { height: auto; max-height: 5; padding: 0 1; border-bottom: solid $foreground 30%; }
    }
    """

    def __init__(self, job: JobView, task: TaskView) -> None:
        super().__init__()
        self._job = job
        self._shown = task
        self._gathered = LogLines()
        self._stream = Stream(job.id, task.index)
        self._future: Future[None] | None = None
        self._drawn = 0
        self._said: Cell = ()

    def body(self) -> Iterable[Widget]:
        yield Sheet(id="task")
        yield LinesView(id="lines")
        yield SearchLine("words to look for; Enter finds them, then n and N")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(LinesView).focus()
        self._begin()
        self.set_interval(LOOK_SECONDS, self._look)

    def on_unmount(self) -> None:
        if self._future is not None:
            self._future.cancel()

    def explained(self) -> Explaining | None:
        index = self._shown.index
        return (index, lambda mesh: mesh.explain_task(self._job.id, index))

    def show(self, snapshot: Snapshot) -> None:
        view = self.query_one(LinesView)
        dropped = f"  {self._gathered.dropped} earlier lines are left out" if self._gathered.dropped else ""
        follows = "following the end" if view.follows else "f follows the end"
        head = sheets.task_lines(self._shown, snapshot)
        name = job_name(self._job, 40)
        head[0] = ((f"{name} ", DIM), *head[0])
        head.append(((follows + dropped, DIM), *self._said))
        self.query_one("#task", Sheet).show(head)

    def _begin(self) -> None:
        try:
            self._future = self.dashboard.watcher.begin(self._stream.follow)
        except MeshError:
            self._future = None

    def _look(self) -> None:
        """Show what has come; begin again if the coordinator went away."""
        taken = 0
        while self._stream.waiting and taken < TAKEN_MOST:
            self._gathered.take(self._stream.waiting.popleft())
            taken += 1
        if self._future is not None and self._future.done() and not self._stream.waiting:
            self._end(self._future)
        if taken:
            self._refresh_lines()

    def _end(self, future: Future[None]) -> None:
        self._future = None
        error = None if future.cancelled() else future.exception()
        if error is None and not future.cancelled():
            self._gathered.finish()
            self._refresh_lines()
            self._said = (("  ended", DIM),) if self._gathered.lines() else (("  it wrote nothing", DIM),)
            begin(self, self._read_task, "task")
        elif isinstance(error, Unreachable) or future.cancelled():
            self._said = (("  the coordinator is away", WARN),)
            self.set_timer(AGAIN_SECONDS, self._begin)
        elif error is not None:
            self._said = ((f"  {plain(str(error))}", WARN),)
        self.paint(self.dashboard.snapshot)

    def _refresh_lines(self) -> None:
        lines = self._gathered.lines()
        # Those that had not ended when they were shown may have grown.
        fresh = self._gathered.added - self._drawn + UNFINISHED_MOST
        self._drawn = self._gathered.added
        with suppress(NoMatches):  # the screen is being taken down
            self.query_one(LinesView).show(lines, new=fresh)

    async def _read_task(self) -> None:
        try:
            self._shown = await self.dashboard.watcher.ask(
                lambda mesh: mesh.task(self._job.id, self._shown.index)
            )
        except MeshError:
            return
        self.paint(self.dashboard.snapshot)

    @on(Input.Submitted, "#search")
    def _searched(self) -> None:
        self.query_one(LinesView).focus()
        self.action_look(1)

    def action_search(self) -> None:
        self.query_one(SearchLine).open()

    def action_look(self, step: int) -> None:
        words = self.query_one(SearchLine).words
        if words and self.query_one(LinesView).look_for(words, step) is None:
            self.dashboard.say(f"No line has '{plain(words, 60)}'.")

    def action_follow(self) -> None:
        view = self.query_one(LinesView)
        view.follows = True
        view.scroll_end(animate=False, force=True)
        self.show(self.dashboard.snapshot)

    def action_back(self) -> None:
        self.dismiss()
