"""`AsyncMesh`: everything an operator may ask of a mesh, for programs with an event loop.

One method for each route of the API, with the API's own structs as arguments and answers::

    async with AsyncMesh() as mesh:
        handle = await mesh.submit(JobSpec(type="command", payload={"argv": ["true"]}))
        view = await handle.wait()

Calls that are safe to repeat go on through a coordinator's restart. Errors are those of `planetmesh.errors`.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast, overload
from urllib.parse import quote

import msgspec

from planetmesh.client.call_desk import CallDesk
from planetmesh.client.calling import Calls, options_of
from planetmesh.client.calls import PATIENCE_SECONDS, Caller, OnWait
from planetmesh.client.connect import Call, Finder, Link, load_identity
from planetmesh.client.handles import JobHandle
from planetmesh.client.mesh_files import MeshFiles, job_path
from planetmesh.client.remote_call import CallGroup, CallOptions, RemoteCall
from planetmesh.client.renewal import renew_if_due
from planetmesh.client.streams import follow, read_bytes, read_lines
from planetmesh.errors import BadInput, TooLarge
from planetmesh.model.job import JOB_ENDED, JobSpec, TaskState
from planetmesh.paths import Home, default_home
from planetmesh.settings import Settings
from planetmesh.wire.api import (
    AddedInputs,
    AddInputs,
    CancelJob,
    ChangeJob,
    ChangeNode,
    ChangeSettings,
    Explanation,
    FeedEvent,
    Form,
    JobPage,
    JobView,
    MeshStatus,
    NodeView,
    OpenPairing,
    OutputPiece,
    PairingWindow,
    Parse,
    RetriedJob,
    SettingView,
    SubmitJob,
    SubmittedJob,
    TaskCode,
    TaskPage,
    TaskResult,
    TaskShort,
    TaskView,
)
from planetmesh.wire.members import AuditView, PersonView

LONG_POLL_SECONDS = 25.0
"""One long poll: below what routers and proxies cut idle connections after."""
PAGE_TASKS = 1000
PAGE_JOBS = 200
NEWEST = "last"
"""Stands for this user's newest job wherever an id may stand."""

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=TaskCode | TaskShort)


class AsyncMesh(MeshFiles):
    """A mesh, seen with this user's operator or viewer identity. Use as an async context manager."""

    def __init__(
        self,
        home: Path | str | None = None,
        *,
        finder: Finder | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
        on_wait: OnWait | None = None,
    ) -> None:
        self._home = Home(Path(home)) if home is not None else Home(default_home())
        self._finder = finder
        self._patience_seconds = patience_seconds
        self._on_wait = on_wait
        self._caller: Caller | None = None
        self._renewal_checked = False
        self._desk: CallDesk | None = None

    async def __aenter__(self) -> Self:
        """Read the identity; the first call connects. Raises NotAllowed if there is none."""
        link = Link(load_identity(self._home), self._finder)
        self._caller = Caller(link, patience_seconds=self._patience_seconds, on_wait=self._on_wait)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Calls that have not ended are let go of."""
        if self._desk is not None:
            await self._desk.close()
            self._desk = None
        if self._caller is not None:
            await self._caller.link.close()
            self._caller = None

    # The mesh

    async def status(self) -> MeshStatus:
        """Which mesh this is, who we are in it, and how many nodes and jobs are in each state."""
        return await self._ask("GET", "/v1/status", MeshStatus)

    async def feed(self, after: int | None = None) -> AsyncGenerator[FeedEvent, None]:
        """What happens, numbered above `after` or from now on, without an end.

        Without `after` the first event is a `hello`: what happens from then on will be told.
        """
        async with aclosing(follow(self._open, Call("GET", "/v1/feed"), FeedEvent, after=after)) as events:
            async for event in events:
                yield event

    async def metrics(self) -> str:
        """The mesh in numbers, in Prometheus' text form."""
        return (await self._read("GET", "/metrics")).decode()

    async def audit(self, *, limit: int = 100, before: int | None = None) -> list[AuditView]:
        """Who did what, newest first: `limit` rows (1000 at most) with numbers below `before`."""
        query = {"limit": str(limit)} | ({} if before is None else {"before": str(before)})
        return await self._ask("GET", "/v1/audit", list[AuditView], query=query)

    async def people(self) -> list[PersonView]:
        """Operators and viewers."""
        return await self._ask("GET", "/v1/people", list[PersonView])

    async def revoke_member(self, member_id: str) -> None:
        """Refuse a person or node for good; its connections are cut."""
        await self._ask("DELETE", f"/v1/members/{quote(member_id, safe='')}", object, repeatable=False)

    async def settings(self) -> list[SettingView]:
        """Every setting as it is now."""
        return await self._ask("GET", "/v1/settings", list[SettingView])

    async def change_settings(self, changes: ChangeSettings) -> list[SettingView]:
        """Change settings by name, all of these or none; None resets one. Answers those that were named."""
        for name, value in changes.items():
            if isinstance(value, float) and not math.isfinite(value):
                # JSON would make it null, which means something else.
                raise BadInput(f"'{name}' must be a number.")
        return await self._ask("PATCH", "/v1/settings", list[SettingView], body=changes)

    # Jobs

    @overload
    def submit(
        self, work: JobSpec, /, *, wait_seconds: float = 0.0, key: str = ""
    ) -> Coroutine[Any, Any, JobHandle]: ...
    @overload
    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> RemoteCall[T]: ...
    def submit(self, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Hand in a job, or call a function with the arguments that follow.

        `await submit(spec)` gives a handle: the job is on the coordinator's disk then. `submit(function, 1)`
        gives a call at once; `await` that for its value.
        """
        if isinstance(work, JobSpec):
            return self._submit_job(work, *args, **kwargs)
        return self.using().submit(work, *args, **kwargs)

    async def _submit_job(self, spec: JobSpec, *, wait_seconds: float = 0.0, key: str = "") -> JobHandle:
        """With `wait_seconds` the answer comes when the job has ended, or after that time: one round trip
        for a short job, see `JobHandle.view`. A `key` that was used before finds that job.
        """
        body = SubmitJob(spec, key=key or secrets.token_hex(16))
        query = {"wait": f"{wait_seconds:g}"} if wait_seconds > 0 else {}
        answer = await self._ask(
            "POST", "/v1/jobs", SubmittedJob, query=query, body=body, wait_seconds=wait_seconds
        )
        return JobHandle(self, answer.job, answer.warnings)

    async def add_inputs(self, job: str, items: tuple[str, ...], first: int) -> None:
        """Further inputs for a job that lingers, behind the `first` that it has; on its disk then.

        Raises Conflict if it takes none any more.
        """
        body = AddInputs(items, first)
        await self._ask("POST", f"{job_path(job)}/inputs", AddedInputs, body=body)

    async def handle(self, job: str) -> JobHandle:
        """A handle on a job that was handed in before, by id, prefix or `last`."""
        return JobHandle(self, await self.job(job))

    async def job(self, job: str, *, wait_seconds: float = 0.0, whole: bool = False) -> JobView:
        """One job with its spec; with `wait_seconds` as soon as it has ended, or after that time.

        A spec with more than a thousand inputs comes only if the `whole` is asked for.
        """
        query = {"wait": f"{wait_seconds:g}"} if wait_seconds > 0 else {}
        query |= {"spec": "1"} if whole else {}
        return await self._ask("GET", job_path(job), JobView, query=query, wait_seconds=wait_seconds)

    async def jobs(self, *, limit: int = 50, mine: bool = False, live: bool | None = None) -> list[JobView]:
        """The newest `limit` jobs, newest first; with `live` only those that have not ended, or that have."""
        found: list[JobView] = []
        before: str | None = None
        while len(found) < limit:
            query = {"limit": str(min(PAGE_JOBS, limit - len(found)))}
            query |= {"before": before} if before else {}
            query |= {"submitter": "me"} if mine else {}
            query |= {} if live is None else {"live": "1" if live else "0"}
            page = await self._ask("GET", "/v1/jobs", JobPage, query=query)
            found += page.jobs
            before = page.next
            if before is None or not page.jobs:
                break
        return found

    async def wait(self, job: str) -> JobView:
        """The job once it has ended, however long that takes."""
        while True:
            view = await self.job(job, wait_seconds=LONG_POLL_SECONDS)
            if view.status in JOB_ENDED:
                return view
            job = view.id

    async def change_job(self, job: str, change: ChangeJob) -> JobView:
        """Pause, resume, or change what may be changed of a job that has not ended."""
        return await self._ask("PATCH", job_path(job), JobView, body=change)

    async def retry(self, job: str) -> RetriedJob:
        """Queue the job's failed tasks again, whether it has ended or not."""
        return await self._ask("POST", f"{job_path(job)}/retry", RetriedJob, repeatable=False)

    async def explain_job(self, job: str) -> Explanation:
        """Why the job is as it is."""
        return await self._ask("GET", f"{job_path(job)}/explain", Explanation)

    async def explain_task(self, job: str, index: int) -> Explanation:
        return await self._ask("GET", f"{job_path(job)}/tasks/{index}/explain", Explanation)

    async def explain_node(self, node: str) -> Explanation:
        """What the node does, and why not more."""
        return await self._ask("GET", f"{_node_path(node)}/explain", Explanation)

    async def cancel(self, job: str, reason: str = "") -> JobView:
        """Stop what runs and drop what waits. Raises Conflict if the job has ended already."""
        return await self._ask("POST", f"{job_path(job)}/cancel", JobView, body=CancelJob(reason))

    async def task(self, job: str, index: int) -> TaskView:
        return await self._ask("GET", f"{job_path(job)}/tasks/{index}", TaskView)

    async def tasks(
        self, job: str, *, start: int = 0, status: TaskState | None = None
    ) -> AsyncGenerator[TaskView, None]:
        """The job's tasks in the order of their index, read page by page."""
        following: int | None = start
        while following is not None:
            page = await self.task_page(job, start=following, limit=PAGE_TASKS, status=status)
            for task in page.tasks:
                yield task
            following = page.next

    async def task_page(
        self, job: str, *, start: int = 0, limit: int = PAGE_TASKS, status: TaskState | None = None
    ) -> TaskPage:
        """At most `limit` of the job's tasks from the index `start` on, and where the next page begins."""
        query = {"from": str(start), "limit": str(limit)} | ({"status": status.value} if status else {})
        return await self._ask("GET", f"{job_path(job)}/tasks", TaskPage, query=query)

    async def output(
        self,
        job: str,
        *,
        after: int = 0,
        index: int | None = None,
        stream: int | None = None,
        following: bool = False,
    ) -> AsyncGenerator[OutputPiece, None]:
        """Pieces of output in the order in which they arrived, numbered above `after`.

        `stream`: 1 stdout, 2 stderr, 3 values of calls (wire/calls.py); else what the tasks printed.
        `following` goes on until the job (or the task `index`) has ended and all of it was given.
        """
        query = {"index": str(index)} if index is not None else {}
        query |= {"stream": str(stream)} if stream is not None else {}
        query |= {"follow": "1"} if following else {}
        call = Call("GET", f"{job_path(job)}/output", query)
        async with aclosing(follow(self._open, call, OutputPiece, after=after)) as pieces:
            async for piece in pieces:
                yield piece

    async def logs(
        self, job: str, *, start: int = 0, most_bytes: int | None = None
    ) -> AsyncGenerator[OutputPiece, None]:
        """Each task's last attempt's output, in the order of their index, beginning with task `start`."""
        query = {"from": str(start)} | ({"limit_bytes": str(most_bytes)} if most_bytes else {})
        call = Call("GET", f"{job_path(job)}/logs", query)
        async with aclosing(read_lines(self._open, call, OutputPiece)) as pieces:
            async for piece in pieces:
                yield piece

    async def results(
        self, job: str, *, start: int = 0, status: TaskState | None = None, parse: Parse = Parse.TEXT
    ) -> AsyncGenerator[TaskResult, None]:
        """What came of each task that has ended so far, in the order of their index.

        `value` is what a COMPLETED task wrote to its standard output; with `Parse.JSON` that as JSON, if it
        is any.
        """
        query = {"parse": parse.value} if parse is not Parse.TEXT else {}
        async with aclosing(self._ended(job, Form.JSON, TaskResult, start, status, query)) as results:
            async for result in results:
                yield result

    async def codes(
        self, job: str, *, start: int = 0, status: TaskState | None = None
    ) -> AsyncGenerator[TaskCode, None]:
        """How each task ended that has ended so far, in the order of their index."""
        async with aclosing(self._ended(job, Form.CODES, TaskCode, start, status, {})) as codes:
            async for code in codes:
                yield code

    async def text(self, job: str, *, start: int = 0) -> AsyncGenerator[bytes, None]:
        """What the COMPLETED tasks wrote to their standard output, one behind the other, in pieces."""
        call = Call("GET", f"{job_path(job)}/results", {"form": Form.TEXT.value, "from": str(start)})
        async with aclosing(read_bytes(self._open, call)) as pieces:
            async for piece in pieces:
                yield piece

    async def short(self, job: str, *, start: int = 0) -> AsyncGenerator[TaskShort, None]:
        """COMPLETED tasks that wrote more to their standard output than the mesh keeps of one."""
        async with aclosing(self._ended(job, Form.SHORT, TaskShort, start, None, {})) as found:
            async for each in found:
                yield each

    async def _ended(
        self,
        job: str,
        form: Form,
        kind: type[C],
        start: int,
        status: TaskState | None,
        query: dict[str, str],
    ) -> AsyncGenerator[C, None]:
        query = (
            {"form": form.value, "from": str(start)} | ({"status": status.value} if status else {}) | query
        )
        call = Call("GET", f"{job_path(job)}/results", query)
        async with aclosing(read_lines(self._open, call, kind)) as lines:
            async for line in lines:
                yield line

    # Calls

    def using(self, **options: Any) -> Calls:
        """Functions to call with these options: `mesh.using(cpus=2, pickles=True).map(f, xs)`.

        See `planetmesh.client.remote_call.CallOptions`, and `cpus`, `memory`, `gpus`.
        """
        return Calls(self.call_desk, options_of(CallOptions(), options))

    def map(self, function: Callable[..., T], /, *iterables: Iterable[Any]) -> CallGroup[T]:
        """Call a function for each set of arguments; `await` the group for all values in order."""
        return self.using().map(function, *iterables)

    def starmap(self, function: Callable[..., T], arguments: Iterable[Iterable[Any]], /) -> CallGroup[T]:
        return self.using().starmap(function, arguments)

    async def gather(self, calls: Iterable[RemoteCall[T]]) -> list[T]:
        """The values of calls in their order; raises what the first failed one raised."""
        return await CallGroup(list(calls))

    async def as_completed(self, calls: Iterable[RemoteCall[T]]) -> AsyncGenerator[RemoteCall[T], None]:
        """The calls, each as soon as it has ended."""
        ended: asyncio.Queue[RemoteCall[T]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        waited = list(calls)
        for call in waited:
            call.add_done_callback(
                lambda done: loop.call_soon_threadsafe(ended.put_nowait, cast("RemoteCall[T]", done))
            )
        for _ in waited:
            yield await ended.get()

    def call_desk(self) -> CallDesk:
        """Who looks after this mesh's calls; made with the first one, in the mesh's own loop."""
        if self._desk is None:
            self._open  # noqa: B018  raises if the mesh is not open
            self._desk = CallDesk(self)
        return self._desk

    # Nodes

    async def nodes(self) -> list[NodeView]:
        return await self._ask("GET", "/v1/nodes", list[NodeView])

    async def node(self, node: str) -> NodeView:
        """One node by name, id or prefix."""
        return await self._ask("GET", _node_path(node), NodeView)

    async def change_node(self, node: str, change: ChangeNode) -> NodeView:
        """Rename, tag, drain or resume: only what `change` gives is changed."""
        return await self._ask("PATCH", _node_path(node), NodeView, body=change)

    async def revoke_node(self, node: str) -> NodeView:
        """Take its certificate away for good: its connection closes within a second."""
        return await self._ask("POST", f"{_node_path(node)}/revoke", NodeView)

    async def forget_node(self, node: str) -> None:
        """Strike it from the list. Raises Conflict unless it is revoked or OFFLINE."""
        await self._ask("DELETE", _node_path(node), object, repeatable=False)

    # Pairing

    async def open_pairing(self, role: str = "agent", ttl_seconds: float = 600.0) -> PairingWindow:
        """Open a window for one newcomer; the answer holds its code."""
        body = OpenPairing(role, ttl_seconds)
        return await self._ask("POST", "/v1/pair", PairingWindow, body=body, repeatable=False)

    async def pairings(self) -> list[PairingWindow]:
        """The open windows, without their codes."""
        return await self._ask("GET", "/v1/pair", list[PairingWindow])

    async def close_pairing(self, slot: str) -> None:
        await self._ask(
            "DELETE", f"/v1/pair/{quote(slot, safe='', errors='replace')}", object, repeatable=False
        )

    @property
    def _open(self) -> Caller:
        if self._caller is None:
            raise BadInput("This mesh is not open.", hint="Use it as `async with AsyncMesh() as mesh:`.")
        return self._caller

    async def _ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        query: dict[str, str] | None = None,
        body: msgspec.Struct | ChangeSettings | None = None,
        repeatable: bool = True,
        wait_seconds: float = 0.0,
    ) -> T:
        caller = await self._renewed()
        encoded = _encode(body) if body is not None else None
        call = Call(method, path, query or {}, encoded, repeatable, wait_seconds)
        return await caller.ask(call, kind)

    async def _read(self, method: str, path: str) -> bytes:
        """An answer that is no JSON."""
        return await (await self._renewed()).read(Call(method, path))

    async def _renewed(self) -> Caller:
        caller = self._open
        if not self._renewal_checked:
            self._renewal_checked = True
            await renew_if_due(caller)
        return caller


def _encode(body: msgspec.Struct | ChangeSettings) -> bytes:
    most = Settings().api_body_most_bytes
    try:
        encoded = msgspec.json.encode(body)
    except UnicodeEncodeError as error:
        raise BadInput("This holds text that is not valid Unicode.") from error
    if len(encoded) > most:
        raise TooLarge(
            f"This job is {len(encoded)} bytes long; {most} is the limit.",
            hint="Make several jobs of it, or count with a range.",
        )
    return encoded


def _node_path(node: str) -> str:
    if not node.strip():
        raise BadInput("The node's name is empty.", hint="`planetmesh nodes` lists them.")
    return f"/v1/nodes/{quote(node, safe='', errors='replace')}"
