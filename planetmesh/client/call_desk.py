"""Takes calls, hands them in as jobs, and gives each its value as it comes.

Calls of one function that come together go as one job: one that comes alone flies at once, those of a
burst wait for its end, since each job costs its nodes a worker. One stream has the values of all of them
(`GET /v1/values`).
"""

from __future__ import annotations

import asyncio
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from planetmesh.client.call_job import CallJob
from planetmesh.client.connect import Call
from planetmesh.client.functions import (
    PYTHON_TAG,
    Arguments,
    PackedFunction,
    pack_arguments,
    pack_function,
)
from planetmesh.client.input_line import InputLine
from planetmesh.client.parcels import Parcel, lost
from planetmesh.client.remote_call import CallOptions, CallsWait, RemoteCall
from planetmesh.client.streams import read_lines
from planetmesh.errors import BadInput, Conflict, MeshError, MissingBlobs, NotFound, Unreachable
from planetmesh.groups import TaskGroup
from planetmesh.logs import clean
from planetmesh.model.blob import Digest
from planetmesh.model.ids import JobId
from planetmesh.model.job import Items, JobSpec, Limits, TaskState
from planetmesh.wire.api import ValueKind, ValueLine
from planetmesh.wire.calls import VALUES
from planetmesh.wire.python import PythonPayload

if TYPE_CHECKING:
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.client.handles import JobHandle

T = TypeVar("T")
Item = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A function and what to call it with."""

CALLS_MOST = 20_000
"""In one job; more become several jobs."""
JOINED_MOST = 2000
"""A job that has so many is followed by another: each keeps what its calls gave."""
LINGER_SECONDS = 2.0
"""A job waits so long for more calls: whoever makes one after the other pays for one job."""
BATCH_MOST_BYTES = 4 * 1024 * 1024
"""Of their arguments together, without files."""
LARGE_BATCH_BYTES = 256 * 1024 * 1024
"""Of their files: the first calls need not wait until those of all are sent."""
SENDERS = 2
"""Jobs that are handed in at a time: what comes meanwhile waits, and goes together."""
LULL_SECONDS = 0.001
"""A burst is over when nothing came for so long."""
BURST_SECONDS = 0.1
"""Of a burst that does not end, what has come by then is handed in."""
LARGE_LULL_SECONDS = 0.05
LARGE_BURST_SECONDS = 0.5
"""The same for calls with files: to copy an array of some ten megabytes takes as long."""
EARLY_MOST = 10_000
"""Lines kept for jobs whose id has not come back yet."""
WARNING_MOST_LETTERS = 1000
PARTING_SECONDS = 2.0
"""For what is being handed in or cancelled when the mesh is closed."""


class CallDesk:
    """One per mesh, made with its first call. Its calls may come from any thread."""

    def __init__(self, mesh: AsyncMesh) -> None:
        self._mesh = mesh
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[RemoteCall[Any]] = deque()
        """Other threads put calls in, only the loop takes them out. Never iterated: that would raise then."""
        self._news = asyncio.Event()
        self._listening = asyncio.Event()
        self._gaps = 0
        """How often ends of jobs may have been told to nobody."""
        self._sending = 0
        self._early: list[ValueLine] = []
        self._jobs: dict[JobId, CallJob] = {}
        self._open: dict[tuple[PythonPayload, CallOptions], CallJob] = {}
        """The newest job of each function with these options: it may take more calls."""
        self._line = InputLine(mesh._open.link)  # noqa: SLF001  two parts of one thing
        self._lost: BaseException | None = None
        self._some_cancelled = False
        self._cancelling = 0
        self._is_closing = False
        self._is_quiet = asyncio.Event()
        self._is_told = False
        """The loop will look at what waits: to say so again for each call would cost more than the call."""
        # Lives as long as the mesh is open: `close` waits for it.
        self._work = self._loop.create_task(self._run())

    def submit(
        self, function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> RemoteCall[T]:
        """Take a call; from any thread. Raises BadInput if it cannot be sent."""
        return self.submit_together([(function, args, kwargs)], options)[0]

    def submit_together(self, items: Iterable[Item], options: CallOptions) -> list[RemoteCall[Any]]:
        """Take calls that go as one job where their function is the same; all of them or none."""
        calls = [_call_of(item, options) for item in items]
        if self._work.done():
            raise BadInput("This mesh is closed.", hint="Open another one: Mesh().")
        for call in calls:
            call.add_done_callback(self._on_done)
        self._waiting.extend(calls)
        self._tell()
        return calls

    async def close(self) -> None:
        """Let go of all calls. Those that were handed in go on; nobody hears of their values.

        Jobs of calls that were cancelled before are cancelled first.
        """
        self._is_closing = True
        if self._is_busy and not self._work.done():
            self._news.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(PARTING_SECONDS):
                    await self._is_quiet.wait()
        self._work.cancel()
        await asyncio.wait([self._work])
        await self._line.close()
        self._drop(self._lost or CancelledError())

    @property
    def _is_busy(self) -> bool:
        return bool(self._sending or self._cancelling or self._some_cancelled)

    def _on_done(self, call: Future[Any]) -> None:
        """Called in whatever thread ended it. A job that nobody waits for any more need not go on."""
        if call.cancelled() and not self._loop.is_closed():
            self._some_cancelled = True
            self._tell()

    def _tell(self) -> None:
        """From any thread: what is to be seen was put there before."""
        if not self._is_told:
            self._is_told = True
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        self._is_told = False
        self._news.set()

    async def _run(self) -> None:
        try:
            async with TaskGroup() as group:
                group.create_task(self._listen())
                await self._listening.wait()
                for _ in range(SENDERS):
                    group.create_task(self._send_all())
        except BaseExceptionGroup as errors:
            # Waiting is over: each call tells its own caller why.
            self._lost = errors.exceptions[0]
            self._drop(self._lost)

    def _drop(self, error: BaseException) -> None:
        left = [call for job in self._jobs.values() for call in job.calls]
        while self._waiting:
            left.append(self._waiting.popleft())
        self._jobs.clear()
        for call in left:
            if isinstance(error, CancelledError):
                call.cancel()
            else:
                call.fail(error)

    # Out

    async def _send_all(self) -> None:
        while True:
            await self._news.wait()
            await self._cancel_unwanted()
            await self._gather()
            batch = self._next_batch()
            if not batch:
                self._news.clear()
                if self._is_closing and not self._is_busy:
                    self._is_quiet.set()
                continue
            self._sending += 1
            try:
                await self._send(batch)
            except MeshError as error:
                for call in batch:
                    call.fail(error)
            finally:
                self._sending -= 1
                if not self._sending:
                    self._early.clear()
                if self._is_closing:
                    self._news.set()  # the other sender may have looked while this was under way

    async def _gather(self) -> None:
        """If many come at once, wait for the rest of them, but not for long."""
        is_large = bool(self._waiting) and self._waiting[0].arguments.parcel is not None
        lull, burst = (LARGE_LULL_SECONDS, LARGE_BURST_SECONDS) if is_large else (LULL_SECONDS, BURST_SECONDS)
        until = self._loop.time() + burst
        before, count = 0 if is_large else 1, len(self._waiting)
        while before < count < CALLS_MOST and self._loop.time() < until:
            await asyncio.sleep(lull)
            before, count = count, len(self._waiting)

    def _next_batch(self) -> list[RemoteCall[Any]]:
        """The longest waiting call and those behind it that may go with it."""
        batch: list[RemoteCall[Any]] = []
        seen: set[Digest] = set()
        size = large = 0
        while self._waiting and not self._is_closing and len(batch) < CALLS_MOST and size < BATCH_MOST_BYTES:
            call = self._waiting[0]
            if call.cancelled():
                self._waiting.popleft()
                continue
            if batch and not _may_go_with(call, batch[0]):
                break
            if batch and large and call.arguments.parcel is not None and large > LARGE_BATCH_BYTES:
                break
            batch.append(self._waiting.popleft())
            size += len(call.arguments.text)
            parcel = call.arguments.parcel
            if parcel is not None:
                large += sum(len(blob.content) for blob in parcel.blobs if blob.digest not in seen)
                seen.update(blob.digest for blob in parcel.blobs)
        return batch

    async def _send(self, batch: list[RemoteCall[Any]]) -> None:
        function, options = batch[0].function, batch[0].options
        packed = batch[0].packed
        if packed is None:
            assert function is not None
            packed = pack_function(function)
        payload, parcels = packed.payload, [call.arguments.parcel for call in batch]
        job = self._open.get((payload, options))
        if job is not None and not any(parcels) and await self._join(job, batch):
            return
        spec = _spec(packed, options, [call.arguments for call in batch])
        gaps = self._gaps
        handle = await self._submit(spec, [each for each in (packed.parcel, *parcels) if each is not None])
        if not await self._warn(handle, spec.name, batch):
            return
        job = CallJob(handle.id, batch, options, _sent(packed))
        for call in batch:
            call.function, call.arguments = None, _sent(call.arguments)
        self._jobs[job.id] = job
        if spec.linger_seconds:
            self._open[payload, options] = job
        early, self._early = self._early, []
        for line in early:
            await self._take(line)
        if handle.view.completed_at is not None or gaps != self._gaps:
            # Its answer came late: what was told meanwhile was told to nobody.
            await self._look_at(job.id)
        if job.is_unwanted:
            # Cancelled on its way.
            self._some_cancelled = True
            self._news.set()

    async def _warn(self, handle: JobHandle, name: str, batch: list[RemoteCall[Any]]) -> bool:
        """Say why the calls will wait; False if this program takes its warnings for errors."""
        try:
            for sentence in handle.warnings:
                warnings.warn(f"{name}: {clean(sentence, WARNING_MOST_LETTERS)}", CallsWait, stacklevel=1)
        except CallsWait as error:
            for call in batch:
                call.fail(error)
            await self._mesh.cancel(handle.id, "its caller wants no job that has to wait")
            return False
        return True

    async def _submit(self, spec: JobSpec, parcels: list[Parcel]) -> JobHandle:
        """Hand it in, its files first; what the coordinator has removed meanwhile is sent once more."""
        if not parcels:
            return await self._mesh.submit(spec)
        blobs = {blob.digest: blob for parcel in parcels for blob in parcel.outgoing()}
        for is_last in (False, True):
            await self._mesh.send_blobs(blobs.values())
            try:
                return await self._mesh.submit(spec)
            except MissingBlobs as error:
                if is_last:
                    raise lost(error) from error
        raise AssertionError("the second try returns or raises")

    async def _join(self, job: CallJob, batch: list[RemoteCall[Any]]) -> bool:
        """Let the calls follow those of a job that lingers; False if it takes no more."""
        async with job.adding:
            if job.id not in self._jobs or job.is_over or len(job.calls) >= JOINED_MOST:
                return False
            first = job.add(batch)
            try:
                texts = tuple(call.arguments.text for call in batch)
                if not await self._line.add(job.id, texts, first):
                    await self._mesh.add_inputs(job.id, texts, first)
                is_taken = True
            except (Conflict, NotFound):
                job.take_back(len(batch))
                is_taken = False
            except BaseException:
                job.take_back(len(batch))
                raise
        if job.is_over:
            await self._finish(job.id)
        elif is_taken and any(call.cancelled() for call in batch):
            self._some_cancelled = True
            self._news.set()
        if is_taken:
            for call in batch:
                call.function = None
        return is_taken

    async def _cancel_unwanted(self) -> None:
        if not self._some_cancelled:
            return
        self._some_cancelled = False
        self._cancelling += 1
        try:
            await self._cancel_jobs()
        finally:
            self._cancelling -= 1

    async def _cancel_jobs(self) -> None:
        for job_id, job in list(self._jobs.items()):
            if job.is_unwanted:
                del self._jobs[job_id]
                try:
                    await self._mesh.cancel(job_id, "nobody waits for its values any more")
                except MeshError:
                    # It has ended, or the coordinator is away: its values are not missed.
                    continue

    def _send_again(self, job: CallJob) -> None:
        """Calls that were never begun because one before them ended the process of their task.

        The second time each gets a task of its own: then it can only end itself.
        """
        orphans, job.orphans = job.orphans, []
        for call in orphans:
            call.packed = job.packed
            if call.was_orphaned:
                call.options = msgspec.structs.replace(call.options, chunk=1)
            call.was_orphaned, call.job = True, None
        self._waiting.extend(orphans)
        self._news.set()

    # Back

    async def _listen(self) -> None:
        """Read the values, across restarts of the coordinator, until cancelled."""
        caller = self._mesh._open  # noqa: SLF001  two parts of one thing
        patience, after = caller.patience(), None
        while True:
            call = Call("GET", "/v1/values", {} if after is None else {"after": str(after)})
            try:
                async with aclosing(read_lines(caller, call, ValueLine)) as lines:
                    async for line in lines:
                        patience = caller.patience()
                        after = line.number if after is None else max(after, line.number)
                        await self._take(line)
            except Unreachable as error:
                await patience.wait(error)

    async def _take(self, line: ValueLine) -> None:
        if line.kind in {ValueKind.HELLO, ValueKind.RESYNC}:
            self._listening.set()
            self._gaps += 1
            await self._look_again()
            return
        job = self._jobs.get(line.job)
        if job is None:
            if self._sending and len(self._early) < EARLY_MOST:
                self._early.append(line)
        elif line.kind is ValueKind.ENDED:
            await self._finish(line.job)
        else:
            job.take(line)

    async def _look_again(self) -> None:
        """Ends are told once: those that came while nobody listened are asked for.

        What such a job's calls gave may be on its way still, or never be told: it is read from its output.
        """
        for job_id in list(self._jobs):
            await self._look_at(job_id)

    async def _look_at(self, job_id: JobId) -> None:
        try:
            view = await self._mesh.job(job_id)
            if view.completed_at is None:
                return
            await self._read_again(job_id)
        except NotFound:
            pass  # forgotten already; the calls say so
        await self._finish(job_id)

    async def _read_again(self, job_id: JobId) -> None:
        """All values of a job that has ended, from the first on; those that are known are passed over."""
        job = self._jobs.get(job_id)
        if job is None or not job.left:
            return
        job.begin_again()
        async with aclosing(self._mesh.output(job_id, stream=VALUES)) as pieces:
            async for piece in pieces:
                job.take(piece)

    async def _finish(self, job_id: JobId) -> None:
        """The job is over: what has no value by now has a reason."""
        job = self._jobs.get(job_id)
        if job is None:
            return
        job.is_over = True  # it takes no more: what came now would be closed below, unasked
        if job.adding.locked():
            return  # whoever holds it goes on here
        if job.left:
            try:
                for status in (TaskState.FAILED, TaskState.CANCELLED):
                    async with aclosing(self._mesh.tasks(job_id, status=status)) as tasks:
                        async for task in tasks:
                            job.take_end(task)
                await self._read_again(job_id)  # nothing is left as a rule
            except NotFound:
                pass  # forgotten already; the calls say so below
            job.close()
        self._jobs.pop(job_id, None)
        self._open = {key: each for key, each in self._open.items() if each is not job}
        self._send_again(job)


def _may_go_with(call: RemoteCall[Any], other: RemoteCall[Any]) -> bool:
    """In one job: the same object as function, and the same options."""
    is_same = call.function is other.function and call.packed is other.packed
    return is_same and call.options == other.options


def _call_of(item: Item, options: CallOptions) -> RemoteCall[Any]:
    function, args, kwargs = item
    if not callable(function):
        raise BadInput(f"A {type(function).__name__} cannot be called.", hint="Give a function first.")
    return RemoteCall(function, pack_arguments(args, kwargs), options)


Sent = TypeVar("Sent", PackedFunction, Arguments)


def _sent(packed: Sent) -> Sent:
    """Without what the coordinator has now."""
    if packed.parcel is None:
        return packed
    return msgspec.structs.replace(packed, parcel=packed.parcel.without_content())


def _spec(packed: PackedFunction, options: CallOptions, arguments: Sequence[Arguments]) -> JobSpec:
    payload = packed.payload
    own = tuple(each.parcel.staged if each.parcel is not None else None for each in arguments)
    may_linger = options.chunk <= 1 and not any(own)
    return JobSpec(
        type="python",
        payload=msgspec.to_builtins(payload),
        inputs=Items(tuple(each.text for each in arguments), own if any(own) else ()),
        files=() if packed.parcel is None else (packed.parcel.staged,),
        name=options.name or payload.name.replace("<", "").replace(">", ""),
        requests=options.requests,
        tags=tuple(dict.fromkeys((PYTHON_TAG, *options.tags))),
        node=options.node,
        env=dict(options.env),
        priority=options.priority,
        max_running=options.max_running,
        max_attempts=options.retries + 1,
        limits=Limits(attempt_seconds=options.timeout_seconds),
        at_most_once=options.at_most_once,
        chunk=options.chunk,
        linger_seconds=LINGER_SECONDS if may_linger else 0.0,
    )
