"""Follows the mesh in a thread of its own: lists first, then the numbered feed; pictures for the screens.

Nothing here touches a widget. However much is told, the screens look at `latest` when it suits them; so ten
thousand events a second cost them no more than one. A coordinator that goes away is tried again by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import aclosing
from typing import Any, TypeVar

import msgspec

from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.sync_client import LoopThread
from planetmesh.dashboard.snapshot import JOBS_MOST, Board, Link, LinkState, Snapshot
from planetmesh.errors import BadInput, MeshError, NotAllowed, PeerMisbehaved, Unreachable
from planetmesh.groups import TaskGroup
from planetmesh.wire.api import FeedEvent, JobView

PICTURE_SECONDS = 0.2
"""Between two pictures while something happens."""
IDLE_SECONDS = 1.0
"""The same while nothing does: charts move on."""
STATUS_SECONDS = 2.0
LISTS_SECONDS = 1.0
"""Least time between two readings, whatever the feed says."""
PAUSES_SECONDS = (1.0, 2.0, 3.0, 5.0)
"""Before each new try; the last one stays."""
REOPEN_SECONDS = 6 * 3600.0
"""The mesh is opened anew now and then: that renews the certificate of a dashboard that is left open."""
ENDED_AT_FIRST = 300

T = TypeVar("T")


class Watcher:
    """One mesh, watched from `start` to `stop`."""

    def __init__(self, open_mesh: Callable[[], AsyncMesh]) -> None:
        """`open_mesh` gives a new one each time, without patience of its own."""
        self._open_mesh = open_mesh
        self._thread: LoopThread | None = None
        self._future: Future[None] | None = None
        self._mesh: AsyncMesh | None = None
        self._board = Board()
        self._has_news: asyncio.Event
        self.latest = Snapshot()
        """The newest picture; read it from any thread."""
        self.crash: BaseException | None = None
        """A mistake of ours that ended the watch."""
        self.events = 0
        """Told so far."""

    def start(self) -> None:
        self._thread = LoopThread()
        self._future = self._thread.begin(self._watch())
        self._future.add_done_callback(self._note_end)

    def stop(self) -> None:
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

    async def ask(self, work: Callable[[AsyncMesh], Coroutine[Any, Any, T]]) -> T:
        """Do something with the mesh over there; for any loop. Raises MeshError."""
        return await asyncio.wrap_future(self.begin(work))

    def begin(self, work: Callable[[AsyncMesh], Coroutine[Any, Any, T]]) -> Future[T]:
        """The same without waiting; cancel the future to stop it."""
        mesh, thread = self._mesh, self._thread
        if mesh is None or thread is None:
            raise _away()
        return thread.begin(self._work_on(mesh, work))

    async def _work_on(self, mesh: AsyncMesh, work: Callable[[AsyncMesh], Coroutine[Any, Any, T]]) -> T:
        try:
            return await work(mesh)
        except BadInput as error:
            if self._mesh is None:  # it was closed in between, which is nobody's bad input
                raise _away() from error
            raise

    def _note_end(self, future: Future[None]) -> None:
        if not future.cancelled():
            self.crash = future.exception()

    # In the thread

    async def _watch(self) -> None:
        self._has_news = asyncio.Event()
        async with TaskGroup() as group:
            group.create_task(self._take_pictures())
            failures = 0
            while True:
                try:
                    async with asyncio.timeout(REOPEN_SECONDS), self._open_mesh() as mesh:
                        self._mesh = mesh
                        try:
                            await self._follow(mesh)
                        finally:
                            self._mesh = None
                except TimeoutError:
                    continue
                except (MeshError, BaseExceptionGroup) as error:
                    failures = 0 if self._board.link.state is LinkState.LIVE else failures + 1
                    pause = PAUSES_SECONDS[min(failures, len(PAUSES_SECONDS) - 1)]
                    self._say_away(_mesh_error(error), pause)
                    await asyncio.sleep(pause)

    def _say_away(self, error: MeshError, pause: float) -> None:
        state = LinkState.REFUSED if isinstance(error, NotAllowed) else LinkState.AWAY
        was_live = self._board.link.was_live
        self._board.set_link(Link(state, error.message, error.hint, time.time() + pause, was_live))
        self._has_news.set()

    async def _follow(self, mesh: AsyncMesh) -> None:
        """Until the connection ends."""
        after = await self._read_lists(mesh)
        self._board.set_link(Link(LinkState.LIVE, was_live=True))
        self._has_news.set()
        async with TaskGroup() as group:
            group.create_task(self._read_again(mesh))
            async with aclosing(_understood(mesh.feed(after))) as events:
                async for event in events:
                    self.events += 1
                    self._board.note(event)
                    self._has_news.set()
        raise Unreachable("The coordinator ended the feed.", hint="It is tried again by itself.")

    async def _read_lists(self, mesh: AsyncMesh) -> int:
        """Gives the number after which everything will be told."""
        status = await mesh.status()
        jobs: dict[str, JobView] = {}
        for live, most in ((True, JOBS_MOST), (False, ENDED_AT_FIRST)):
            jobs |= {job.id: job for job in await mesh.jobs(limit=most, live=live)}
        nodes = await mesh.nodes()
        self._board.read_status(status)
        self._board.read_lists(jobs.values(), nodes)
        return status.feed_number

    async def _read_again(self, mesh: AsyncMesh) -> None:
        """What the feed does not tell, or has left out; never oftener than the clock says."""
        while True:
            await asyncio.sleep(LISTS_SECONDS)
            if self._board.needs_lists:
                await self._read_lists(mesh)
            elif self._board.needs_status:
                self._board.read_status(await mesh.status())
                await asyncio.sleep(STATUS_SECONDS - LISTS_SECONDS)

    async def _take_pictures(self) -> None:
        while True:
            self._has_news.clear()
            try:
                self.latest = self._board.take(time.time(), time.monotonic())
            except msgspec.ValidationError:
                # The lists hold the same, and reading them says in words what is wrong.
                self._board.needs_lists = True
            await asyncio.sleep(PICTURE_SECONDS)
            try:
                async with asyncio.timeout(IDLE_SECONDS - PICTURE_SECONDS):
                    await self._has_news.wait()
            except TimeoutError:
                continue


def _away() -> Unreachable:
    return Unreachable(
        "The coordinator is away: nothing was done.", hint="It is tried again by itself; then repeat it."
    )


def _mesh_error(error: BaseException) -> MeshError:
    """Our own sentence in a group of errors; raises the error again if there is none."""
    found: BaseException | None = error
    if isinstance(error, BaseExceptionGroup):
        ours = error.subgroup(MeshError)
        found = ours
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
    if isinstance(found, MeshError):
        return found
    raise error


async def _understood(events: AsyncGenerator[FeedEvent, None]) -> AsyncGenerator[FeedEvent, None]:
    """Events whose data is what their kind says; raises PeerMisbehaved."""
    async with aclosing(events):
        async for event in events:
            kind = _DATA.get(event.kind)
            if kind is not None and not isinstance(event.data, kind):
                raise PeerMisbehaved(
                    "The coordinator tells what this version does not understand.",
                    hint="Compare `planetmesh --version` on both machines.",
                )
            yield event


_DATA: dict[str, type] = {"job": dict, "node": dict, "node_removed": dict, "tasks": list}
