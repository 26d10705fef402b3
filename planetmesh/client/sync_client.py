"""`Mesh`: what `AsyncMesh` offers, for programs without an event loop.

One loop in one thread for each `Mesh`; every method hands its call over and waits for the answer::

    with Mesh() as mesh:
        job = mesh.submit(JobSpec(type="command", payload={"argv": ["true"]}), wait_seconds=60)
        print(job.view.status)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, as_completed
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast, overload

from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.call_desk import CallDesk
from planetmesh.client.calling import Calls, options_of
from planetmesh.client.calls import PATIENCE_SECONDS, OnWait
from planetmesh.client.connect import Finder
from planetmesh.client.downloads import Fetched
from planetmesh.client.handles import JobHandle
from planetmesh.client.plan import Plan
from planetmesh.client.progress import OnProgress
from planetmesh.client.remote_call import CallGroup, CallOptions, RemoteCall
from planetmesh.client.wanted import Wanted
from planetmesh.errors import BadInput
from planetmesh.model.ids import JobId
from planetmesh.model.job import JobSpec, TaskState
from planetmesh.wire.api import (
    ChangeJob,
    ChangeNode,
    ChangeSettings,
    Explanation,
    JobView,
    MeshStatus,
    NodeView,
    OutputPiece,
    PairingWindow,
    Parse,
    RetriedJob,
    SettingView,
    TaskCode,
    TaskResult,
    TaskShort,
    TaskView,
)
from planetmesh.wire.members import AuditView

STOP_SECONDS = 5.0
"""Closing one idle connection takes milliseconds; longer means it hangs, and the thread is a daemon."""

P = ParamSpec("P")
T = TypeVar("T")


class Mesh:
    """A mesh, seen with this user's identity. Use as a context manager, or call `close`."""

    def __init__(
        self,
        home: Path | str | None = None,
        *,
        finder: Finder | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        on_wait: OnWait | None = None,
    ) -> None:
        """Raises NotAllowed if this user has no identity in `home`."""
        self._mesh = AsyncMesh(home, finder=finder, patience_seconds=patience_seconds, on_wait=on_wait)
        self._thread = LoopThread()
        self._desk: CallDesk | None = None
        try:
            self._call(self._mesh.__aenter__())
        except BaseException:
            self._thread.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._thread.is_running:
            self._call(self._mesh.close())
            self._thread.stop()

    def status(self) -> MeshStatus:
        return self._call(self._mesh.status())

    def metrics(self) -> str:
        """See `AsyncMesh.metrics`."""
        return self._call(self._mesh.metrics())

    def audit(self, *, limit: int = 100, before: int | None = None) -> list[AuditView]:
        """See `AsyncMesh.audit`."""
        return self._call(self._mesh.audit(limit=limit, before=before))

    def settings(self) -> list[SettingView]:
        return self._call(self._mesh.settings())

    def change_settings(self, changes: ChangeSettings) -> list[SettingView]:
        return self._call(self._mesh.change_settings(changes))

    @overload
    def submit(self, work: JobSpec, /, *, wait_seconds: float = 0.0) -> Job: ...
    @overload
    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> RemoteCall[T]: ...
    def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Hand in a job, or call a function with the arguments that follow; see `AsyncMesh.submit`.

        A call is a `concurrent.futures.Future`: `result()` waits for its value.
        """
        if isinstance(work, JobSpec):
            return Job(self, self._call(self._mesh.submit(work, *args, **kwargs)))
        return self.using().submit(work, *args, **kwargs)

    def using(self, **options: Any) -> Calls:
        """Functions to call with these options; see `AsyncMesh.using`."""
        return Calls(self._open_desk, options_of(CallOptions(), options))

    def map(self, function: Callable[..., T], /, *iterables: Iterable[Any]) -> CallGroup[T]:
        """Call a function for each set of arguments; `results()` of the group waits for all values."""
        return self.using().map(function, *iterables)

    def starmap(self, function: Callable[..., T], arguments: Iterable[Iterable[Any]], /) -> CallGroup[T]:
        return self.using().starmap(function, arguments)

    def gather(self, calls: Iterable[RemoteCall[T]]) -> list[T]:
        """The values of calls in their order; raises what the first failed one raised."""
        return CallGroup(list(calls)).results()

    def as_completed(
        self, calls: Iterable[RemoteCall[T]], timeout: float | None = None
    ) -> Iterator[RemoteCall[T]]:
        """The calls, each as soon as it has ended; raises TimeoutError after so many seconds."""
        for call in as_completed(list(calls), timeout):
            yield cast("RemoteCall[T]", call)

    def _open_desk(self) -> CallDesk:
        """From any thread: the desk lives in the mesh's own loop."""
        if self._desk is None or not self._thread.is_running:
            self._desk = self._call(self._make_desk())
        return self._desk

    async def _make_desk(self) -> CallDesk:
        return self._mesh.call_desk()

    def handle(self, job: str) -> Job:
        """A handle on a job that was handed in before, by id, prefix or `last`."""
        return Job(self, self._call(self._mesh.handle(job)))

    def job(self, job: str) -> JobView:
        return self._call(self._mesh.job(job))

    def jobs(self, *, limit: int = 50, mine: bool = False) -> list[JobView]:
        return self._call(self._mesh.jobs(limit=limit, mine=mine))

    def wait(self, job: str) -> JobView:
        return self._call(self._mesh.wait(job))

    def change_job(self, job: str, change: ChangeJob) -> JobView:
        """See `AsyncMesh.change_job`."""
        return self._call(self._mesh.change_job(job, change))

    def retry(self, job: str) -> RetriedJob:
        """See `AsyncMesh.retry`."""
        return self._call(self._mesh.retry(job))

    def explain_job(self, job: str) -> Explanation:
        return self._call(self._mesh.explain_job(job))

    def explain_task(self, job: str, index: int) -> Explanation:
        return self._call(self._mesh.explain_task(job, index))

    def explain_node(self, node: str) -> Explanation:
        return self._call(self._mesh.explain_node(node))

    def cancel(self, job: str, reason: str = "") -> JobView:
        return self._call(self._mesh.cancel(job, reason))

    def task(self, job: str, index: int) -> TaskView:
        return self._call(self._mesh.task(job, index))

    def tasks(self, job: str, *, start: int = 0, status: TaskState | None = None) -> Iterator[TaskView]:
        return self._iterate(lambda: self._mesh.tasks(job, start=start, status=status))

    def output(
        self, job: str, *, after: int = 0, index: int | None = None, following: bool = False
    ) -> Iterator[OutputPiece]:
        """Pieces of output as they arrived; see `AsyncMesh.output`."""
        return self._iterate(lambda: self._mesh.output(job, after=after, index=index, following=following))

    def logs(self, job: str, *, start: int = 0) -> Iterator[OutputPiece]:
        """The last attempts' output, task by task."""
        return self._iterate(lambda: self._mesh.logs(job, start=start))

    def results(
        self, job: str, *, start: int = 0, status: TaskState | None = None, parse: Parse = Parse.TEXT
    ) -> Iterator[TaskResult]:
        """What came of each task that has ended so far; see `AsyncMesh.results`."""
        return self._iterate(lambda: self._mesh.results(job, start=start, status=status, parse=parse))

    def codes(self, job: str, *, start: int = 0, status: TaskState | None = None) -> Iterator[TaskCode]:
        """How each task ended that has ended so far."""
        return self._iterate(lambda: self._mesh.codes(job, start=start, status=status))

    def text(self, job: str, *, start: int = 0) -> Iterator[bytes]:
        """What the COMPLETED tasks wrote to their standard output, one behind the other, in pieces."""
        return self._iterate(lambda: self._mesh.text(job, start=start))

    def short(self, job: str, *, start: int = 0) -> Iterator[TaskShort]:
        """COMPLETED tasks that wrote more to their standard output than the mesh keeps of one."""
        return self._iterate(lambda: self._mesh.short(job, start=start))

    def stage(self, plan: Plan, spec: JobSpec, *, on_progress: OnProgress | None = None) -> JobSpec:
        """See `AsyncMesh.stage`. `on_progress` is called in the mesh's own thread."""
        return self._call(self._mesh.stage(plan, spec, on_progress=on_progress))

    def files(self, job: str, *, index: int | None = None, by_task: bool = False) -> tuple[Wanted, ...]:
        """The files that the job's tasks have brought so far; see `AsyncMesh.files`."""
        return self._call(self._mesh.files(job, index=index, by_task=by_task))

    def fetch(
        self,
        job: str,
        folder: Path | str,
        *,
        index: int | None = None,
        by_task: bool = False,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[Fetched]:
        """Bring them into a folder; see `AsyncMesh.fetch`."""
        return self._call(
            self._mesh.fetch(
                job, folder, index=index, by_task=by_task, overwrite=overwrite, on_progress=on_progress
            )
        )

    def nodes(self) -> list[NodeView]:
        return self._call(self._mesh.nodes())

    def node(self, node: str) -> NodeView:
        return self._call(self._mesh.node(node))

    def change_node(self, node: str, change: ChangeNode) -> NodeView:
        return self._call(self._mesh.change_node(node, change))

    def revoke_node(self, node: str) -> NodeView:
        return self._call(self._mesh.revoke_node(node))

    def forget_node(self, node: str) -> None:
        self._call(self._mesh.forget_node(node))

    def open_pairing(self, role: str = "agent", ttl_seconds: float = 600.0) -> PairingWindow:
        return self._call(self._mesh.open_pairing(role, ttl_seconds))

    def pairings(self) -> list[PairingWindow]:
        return self._call(self._mesh.pairings())

    def close_pairing(self, slot: str) -> None:
        self._call(self._mesh.close_pairing(slot))

    def _call(self, work: Coroutine[None, None, T]) -> T:
        return self._thread.call(work)

    def _iterate(self, make: Callable[[], AsyncIterator[T]]) -> Iterator[T]:
        source = make()
        try:
            while True:
                try:
                    yield self._call(_next(source))
                except StopAsyncIteration:
                    return
        finally:
            close = getattr(source, "aclose", None)
            if close is not None and self._thread.is_running:
                self._call(close())


class Job:
    """A job that was handed in; the counterpart of `JobHandle`."""

    def __init__(self, mesh: Mesh, handle: JobHandle) -> None:
        self._mesh = mesh
        self._handle = handle

    def __repr__(self) -> str:
        return f"Job({self.id}, {self.view.status})"

    @property
    def id(self) -> JobId:
        return self._handle.id

    @property
    def view(self) -> JobView:
        """How it stood when last asked."""
        return self._handle.view

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._handle.warnings

    def status(self) -> JobView:
        return self._mesh._call(self._handle.status())  # noqa: SLF001  two faces of one thing

    def wait(self) -> JobView:
        return self._mesh._call(self._handle.wait())  # noqa: SLF001

    def cancel(self, reason: str = "") -> JobView:
        return self._mesh._call(self._handle.cancel(reason))  # noqa: SLF001

    def tasks(self, *, status: TaskState | None = None) -> Iterator[TaskView]:
        return self._mesh.tasks(self.id, status=status)

    def output(self, *, following: bool = True) -> Iterator[OutputPiece]:
        return self._mesh.output(self.id, following=following)

    def logs(self, *, start: int = 0) -> Iterator[OutputPiece]:
        return self._mesh.logs(self.id, start=start)

    def results(self, *, status: TaskState | None = None, parse: Parse = Parse.TEXT) -> Iterator[TaskResult]:
        return self._mesh.results(self.id, status=status, parse=parse)

    def codes(self, *, status: TaskState | None = None) -> Iterator[TaskCode]:
        return self._mesh.codes(self.id, status=status)

    def text(self) -> Iterator[bytes]:
        return self._mesh.text(self.id)


class LoopThread:
    """An event loop in a thread of its own, until `stop`."""

    def __init__(self) -> None:
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="planetmesh-client", daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def is_running(self) -> bool:
        return self._loop is not None and self._thread.is_alive()

    def call(self, work: Coroutine[None, None, T]) -> T:
        """Run it over there and give what it gives. An interrupt here cancels it there."""
        future = self.begin(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def begin(self, work: Coroutine[None, None, T]) -> Future[T]:
        """Let it run over there; what it gives comes in the future, and cancelling that cancels it."""
        if self._loop is None or not self.is_running:
            work.close()
            raise BadInput("This mesh is closed.", hint="Open another one: Mesh().")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_SECONDS)
        self._loop = None

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=fastest_loop()) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._started.set()
        await self._stopping.wait()


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it exists: it halves the time of a small call over TLS."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)
