"""A coordinator's API over real TLS whose tasks do what a test says, for faults on demand.

It speaks `wire.api` through real sockets and real certificates; nothing of the client or the command line is
replaced. `plan` says what a task does, `breaks` what happens to the next requests.
"""

from __future__ import annotations

import asyncio
import atexit
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec
from aiohttp import web
from blob_double import Blobs

from planetmesh.client.sync_client import LoopThread
from planetmesh.errors import Conflict, MeshError, NotFound
from planetmesh.model.identity import Role
from planetmesh.model.ids import JobId, NodeId, new_job_id
from planetmesh.model.job import ENDED, Counts, JobSpec, TaskState, job_state
from planetmesh.model.node import Sandbox
from planetmesh.paths import Home
from planetmesh.trust import tls
from planetmesh.trust.authority import Authority
from planetmesh.trust.identity import Identity, Membership
from planetmesh.wire.api import (
    ApiError,
    ChangeNode,
    ErrorAnswer,
    FeedEvent,
    JobPage,
    JobView,
    MeshStatus,
    NodeView,
    OutputPiece,
    PairingWindow,
    RenewCertificate,
    RenewedCertificate,
    SubmitJob,
    SubmittedJob,
    TaskCounts,
    TaskPage,
    TaskView,
)

AT = "2026-01-31T12:00:00.000Z"
LATER = "2026-01-31T12:00:05.000Z"


@dataclass
class Does:
    """What one task does."""

    exit_code: int | None = 0
    pieces: tuple[tuple[int, bytes], ...] = ()
    seconds: float = 0.0
    error: str | None = None
    outcome: str = "ok"
    node: str = "desk"
    first_fails: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    """What it brings."""
    until: Callable[[], bool] | None = None
    """It ends no sooner than this is so."""


@dataclass
class FakeJob:
    id: JobId
    spec: JobSpec
    counts: Counts
    tasks: dict[int, TaskView] = field(default_factory=dict)
    pieces: list[OutputPiece] = field(default_factory=list)
    waiting: str = ""
    cancelled: str | None = None
    order: list[int] | None = None

    def view(self, *, with_spec: bool = False) -> JobView:
        status = job_state(self.counts, partial=self.spec.partial, cancelled=self.cancelled is not None)
        return JobView(
            id=self.id, name=self.spec.name, type=self.spec.type, status=status, priority=self.spec.priority,
            submitter="me", created_at=AT, started_at=AT, completed_at=None if self.counts.live else LATER,
            tasks=TaskCounts.of(self.counts), cancel_reason=self.cancelled or "", waiting=self.waiting,
            spec=self.spec if with_spec else None,
        )  # fmt: skip


def make_keys(folder: Path) -> Path:
    """An authority, its coordinator and an operator, in a new folder."""
    folder.mkdir(exist_ok=True)
    authority = Authority.create(folder / "authority", secrets.token_hex(16))
    coordinator_id = secrets.token_hex(16)
    for role, member_id in ((Role.COORDINATOR, coordinator_id), (Role.OPERATOR, secrets.token_hex(16))):
        membership = Membership(authority.mesh_id, "home", role, member_id, "me", coordinator_id)
        authority.issue_local(folder / role.value, membership)
    return folder


@cache
def shared_keys() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="planetmesh-test-keys-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_keys(folder)


class Double(Blobs):
    """Start it, point a home at it, use the client."""

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        """All doubles are of one mesh, whose keys are made once; a `fresh` one is of a mesh of its own."""
        super().__init__()
        self.folder = folder
        if fresh:
            make_keys(folder)
        else:
            shutil.copytree(shared_keys(), folder)
        self.port = 0
        self.authority = Authority.open(folder / "authority")
        self.server = Identity.load(folder / "coordinator")
        self.mesh_id = self.authority.mesh_id
        self.coordinator_id = self.server.membership.id
        self.plan: Callable[[JobSpec, int], Does] = lambda _spec, _index: Does()
        self.order: list[int] | None = None
        self.hold = False
        """Tasks do not start (nothing can run them)."""
        self.waiting = ""
        self.breaks: list[str] = []
        self.jobs: dict[str, FakeJob] = {}
        self.by_key: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        self.connections: set[int] = set()
        self.events: list[FeedEvent] = []
        self.node = NodeView(
            id=NodeId("ab" * 16), name="desk", state="HEALTHY", cpus=4, memory_bytes=2**33, gpus=(),
            tags=("fast",), running=0, load=0.25, rtt_ms=0.4, reliability=1.0, last_heartbeat_at=AT,
            draining=False, sandbox=Sandbox("landlock", proven=True), version="0.1",
        )  # fmt: skip
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._work: set[asyncio.Task] = set()

    # Life

    async def start(self) -> None:
        app = web.Application(middlewares=[self._door], client_max_size=2**27)
        app.router.add_route("*", "/v1/{rest:.*}", self._route)
        app.router.add_get("/metrics", self._get_metrics)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner,
            "127.0.0.1",
            self.port,
            ssl_context=tls.serve_context(self.server),
            reuse_address=True,
        )
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def close(self) -> None:
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self.stop()

    def operator(self, home: Home) -> None:
        """Put the mesh's operator into a home."""
        shutil.copytree(self.folder / "operator", home.operator)
        place = home.operator / "mesh.json"
        membership = msgspec.json.decode(place.read_bytes(), type=Membership)
        place.write_bytes(
            msgspec.json.encode(msgspec.structs.replace(membership, endpoints=(f"127.0.0.1:{self.port}",)))
        )

    def member(self, folder: Path, role: Role) -> Identity:
        """Issue another identity of this mesh."""
        membership = Membership(
            self.mesh_id,
            "home",
            role,
            secrets.token_hex(16),
            "me",
            self.coordinator_id,
            (f"127.0.0.1:{self.port}",),
        )
        return self.authority.issue_local(folder, membership)[0]

    # Requests

    @web.middleware
    async def _door(self, request: web.Request, handler) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        self.connections.add(request.transport.get_extra_info("peername")[1])
        fate = self.breaks.pop(0) if self.breaks else ""
        if fate == "before":
            request.transport.abort()
            return web.Response()
        try:
            response = await handler(request)
        except MeshError as error:
            body = msgspec.json.encode(ErrorAnswer(ApiError(error.code, error.message, error.hint)))
            response = web.Response(body=body, status=error.http_status)
        if fate == "after":
            request.transport.abort()
        return response

    async def _route(self, request: web.Request) -> web.StreamResponse:
        parts = request.match_info["rest"].split("/")
        name = f"_{request.method.lower()}_{parts[0]}" + (f"_{parts[2]}" if len(parts) > 2 else "")
        found = getattr(self, name, None)
        if found is None:
            raise NotFound("There is no such address in this interface.")
        return await found(request, *parts[1:2], *parts[3:])

    async def _get_status(self, _request: web.Request) -> web.Response:
        return _json(
            MeshStatus(
                mesh="home", mesh_id=self.mesh_id, coordinator=self.coordinator_id, version="0.1",
                role="operator", node="me", nodes={"HEALTHY": 1}, jobs={"RUNNING": len(self.jobs)},
                feed_number=len(self.events),
            )
        )  # fmt: skip

    async def _get_metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text="planetmesh_jobs_submitted_total 1.0\n")

    async def _post_jobs(self, request: web.Request, job_id: str = "") -> web.Response:
        asked = msgspec.json.decode(await request.read(), type=SubmitJob)
        if asked.key not in self.by_key:
            job = FakeJob(
                new_job_id(), asked.spec, Counts(queued=asked.spec.inputs.count), waiting=self.waiting
            )
            self.jobs[job.id] = job
            self.by_key[asked.key] = job.id
            if not self.hold:
                task = asyncio.get_running_loop().create_task(self._run_job(job))
                self._work.add(task)
        job = self.jobs[self.by_key[asked.key]]
        await self._until_ended(job, request)
        return _json(SubmittedJob(job.view()), 201)

    async def _get_jobs(self, request: web.Request, job_id: str = "") -> web.Response:
        if not job_id:
            limit = int(request.query.get("limit", "50"))
            views = [job.view() for job in reversed(self.jobs.values())]
            before = request.query.get("before")
            start = [view.id for view in views].index(before) + 1 if before else 0
            page = views[start : start + limit]
            return _json(JobPage(tuple(page), page[-1].id if start + limit < len(views) else None))
        job = self._find(job_id)
        await self._until_ended(job, request)
        return _json(job.view(with_spec=True))

    async def _get_jobs_tasks(self, request: web.Request, job_id: str, index: str = "") -> web.Response:
        job = self._find(job_id)
        if index:
            return _json(self._task(job, int(index)))
        start, limit = int(request.query["from"]), int(request.query["limit"])
        tasks = [self._task(job, number) for number in range(start, min(start + limit, job.counts.total))]
        status = request.query.get("status")
        shown = tuple(task for task in tasks if status is None or task.status == status)
        return _json(TaskPage(shown, start + limit if start + limit < job.counts.total else None))

    async def _post_jobs_cancel(self, request: web.Request, job_id: str) -> web.Response:
        job = self._find(job_id)
        if not job.counts.live:
            raise Conflict(f"Job {job.id} has ended.")
        job.cancelled = msgspec.json.decode(await request.read())["reason"]
        for state in (TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING, TaskState.RETRYING):
            count = getattr(job.counts, state.lower())
            for _ in range(count):
                job.counts.move(state, TaskState.CANCELLED)
        self._tell(job)
        return _json(job.view())

    async def _get_jobs_output(self, request: web.Request, job_id: str) -> web.StreamResponse:
        job = self._find(job_id)
        after, index = int(request.query.get("after", "0")), request.query.get("index")
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            changed = self._changed
            ended = not job.counts.live
            for piece in [each for each in job.pieces if each.number > after]:
                after = piece.number
                if index is None or piece.index == int(index):
                    await response.write(msgspec.json.encode(piece) + b"\n")
            if ended or "follow" not in request.query:
                return response
            await response.write(b"\n")
            await changed.wait()

    async def _get_jobs_logs(self, request: web.Request, job_id: str) -> web.StreamResponse:
        job = self._find(job_id)
        response = web.StreamResponse()
        await response.prepare(request)
        last = {piece.index: piece.attempt for piece in job.pieces}
        for piece in sorted(job.pieces, key=lambda each: (each.index, each.number)):
            if piece.index >= int(request.query["from"]) and piece.attempt == last[piece.index]:
                await response.write(msgspec.json.encode(piece) + b"\n")
        return response

    async def _get_feed(self, request: web.Request) -> web.StreamResponse:
        after = int(request.query.get("after", len(self.events)))
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(msgspec.json.encode(FeedEvent(after, "hello", AT)) + b"\n")
        while True:
            changed = self._changed
            for event in self.events[after:]:
                after = event.number
                await response.write(msgspec.json.encode(event) + b"\n")
            await changed.wait()

    async def _get_nodes(self, _request: web.Request, name: str = "") -> web.Response:
        if not name:
            return _json([self.node])
        if not self.node.name.startswith(name):
            raise NotFound(f"There is no node {name}.", hint="`planetmesh nodes` lists them.")
        return _json(self.node)

    async def _patch_nodes(self, request: web.Request, name: str) -> web.Response:
        await self._get_nodes(request, name)
        change = msgspec.json.decode(await request.read(), type=ChangeNode)
        given = {key: value for key, value in msgspec.structs.asdict(change).items() if value is not None}
        given.pop("now")
        self.node = msgspec.structs.replace(self.node, **given)
        return _json(self.node)

    async def _post_nodes_revoke(self, request: web.Request, name: str) -> web.Response:
        return await self._get_nodes(request, name)

    async def _delete_nodes(self, request: web.Request, name: str) -> web.Response:
        raise Conflict(f"{name} is HEALTHY.", hint=f"First: planetmesh node revoke {name}")

    async def _post_pair(self, _request: web.Request) -> web.Response:
        return _json(PairingWindow("7", "agent", LATER, "127.0.0.1:1", code="7-ABCD-EFGH-1"))

    async def _post_certs(self, request: web.Request, _renew: str) -> web.Response:
        asked = msgspec.json.decode(await request.read(), type=RenewCertificate)
        found = tls.principal_of(request.transport.get_extra_info("ssl_object"))
        leaf = self.authority.issue_from_csr(found.role, found.id, asked.csr_pem.encode())
        return _json(RenewedCertificate(leaf.cert_pem.decode(), self.authority.ca_pem.decode()))

    # Jobs

    async def _run_job(self, job: FakeJob) -> None:
        for index in self.order or range(job.spec.inputs.count):
            if job.cancelled is not None:
                return
            does = self.plan(job.spec, index)
            if does.first_fails:
                self._move(job, index, TaskState.QUEUED, TaskState.RETRYING, does, attempt=1)
                self._piece(job, index, 1, 1, b"first try\n")
                await asyncio.sleep(does.seconds)
                self._move(job, index, TaskState.RETRYING, TaskState.RUNNING, does, attempt=2)
            else:
                self._move(job, index, TaskState.QUEUED, TaskState.RUNNING, does)
            for stream, data in does.pieces:
                self._piece(job, index, 2 if does.first_fails else 1, stream, data)
            await asyncio.sleep(does.seconds)
            while does.until and not does.until() and job.cancelled is None:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            if job.cancelled is not None:
                return
            end = TaskState.COMPLETED if does.exit_code == 0 else TaskState.FAILED
            if does.files:
                self.bring(job.id, index, does.files)
            self._move(job, index, TaskState.RUNNING, end, does, attempt=2 if does.first_fails else 1)
        self._tell(job)

    def _piece(self, job: FakeJob, index: int, attempt: int, stream: int, data: bytes) -> None:
        offset = sum(
            len(each.data)
            for each in job.pieces
            if (each.index, each.attempt, each.stream) == (index, attempt, stream)
        )
        job.pieces.append(OutputPiece(len(job.pieces) + 1, index, attempt, stream, offset, data))
        self._wake()

    def _move(
        self, job: FakeJob, index: int, old: TaskState, new: TaskState, does: Does, attempt: int = 1
    ) -> None:
        job.counts.move(old, new)
        ended = new in ENDED
        brought = next((each for each in self.brought.get(job.id, ()) if each.index == index and ended), None)
        failed = new in {TaskState.FAILED, TaskState.RETRYING}
        job.tasks[index] = TaskView(
            id=f"{job.id}/{index}", job_id=job.id, index=index, status=new, node=does.node,
            node_id=self.node.id, attempts=attempt, exit_code=does.exit_code if ended else None,
            started_at=AT, finished_at=LATER if ended else None,
            last_error=(does.error or f"exit code {does.exit_code}") if failed else None,
            payload=" ".join(job.spec.items_of(index)) or None, outcome=does.outcome if ended else None,
            files=brought.count if brought else 0, files_bytes=brought.bytes if brought else 0,
            manifest=brought.manifest if brought else None,
        )  # fmt: skip
        self._event("tasks", [job.tasks[index]])
        self._tell(job)

    def _task(self, job: FakeJob, index: int) -> TaskView:
        if index in job.tasks:
            return job.tasks[index]
        return TaskView(
            id=f"{job.id}/{index}", job_id=job.id, index=index,
            status=TaskState.CANCELLED if job.cancelled is not None else TaskState.QUEUED, node=None,
            node_id=None, attempts=0, exit_code=None, started_at=None, finished_at=None, last_error=None,
            payload=" ".join(job.spec.items_of(index)) or None,
        )  # fmt: skip

    def _find(self, name: str) -> FakeJob:
        if name == "last" and self.jobs:
            return list(self.jobs.values())[-1]
        found = [job for job_id, job in self.jobs.items() if job_id.startswith(name)]
        if not found:
            raise NotFound(f"There is no job {name}.", hint="`planetmesh jobs` lists them.")
        return found[0]

    def _tell(self, job: FakeJob) -> None:
        self._event("job", job.view())

    def _event(self, kind: str, data: object) -> None:
        self.events.append(FeedEvent(len(self.events) + 1, kind, AT, msgspec.to_builtins(data)))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until_ended(self, job: FakeJob, request: web.Request) -> None:
        try:
            async with asyncio.timeout(float(request.query.get("wait", "0"))):
                while job.counts.live:
                    await self._changed.wait()
        except TimeoutError:
            pass


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


@contextmanager
def running_double(folder: Path, home: Home) -> Iterator[Double]:
    """The double on a thread of its own, with an operator of it in `home`: for callers without a loop."""
    thread = LoopThread()

    async def start() -> Double:
        double = Double(folder)
        await double.start()
        double.operator(home)
        return double

    double = thread.call(start())
    yield double
    thread.call(double.close())
    thread.stop()
