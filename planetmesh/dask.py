"""A Dask cluster on the mesh: whoever outgrows independent tasks gets data frames, arrays and graphs.

from distributed import Client
from planetmesh.dask import MeshCluster

with MeshCluster(workers=3, cpus=1, memory="1 GiB") as cluster, Client(cluster) as client:
    print(client.submit(pow, 2, 10).result())

Scheduler and workers are tasks on the nodes, and gone when the cluster is closed or this process is gone.
Needs the extra `dask` here and, in the same version, on the nodes.
"""

from __future__ import annotations

import logging
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.calling import options_of
from planetmesh.client.cluster import Credential, Process, Processes, certify
from planetmesh.client.functions import PYTHON_TAG
from planetmesh.client.remote_call import CallOptions
from planetmesh.errors import BadInput, MeshError, Unreachable
from planetmesh.model.job import JobSpec, Limits
from planetmesh.model.resources import MILLIS, Resources
from planetmesh.wire.dask import DaskPayload, dask_tag

try:
    from distributed.core import Status
    from distributed.deploy.cluster import Cluster
    from distributed.deploy.spec import ProcessInterface, SpecCluster

    from planetmesh.child.dask_security import PinnedSecurity
except ImportError as error:
    raise ImportError("planetmesh.dask needs Dask: pip install 'planetmesh[dask]'") from error

log = logging.getLogger(__name__)

HOURS = 24.0
HOURS_MOST = 72.0
"""The cluster's certificate, and the owner's if it was renewed in time, live longer."""
SCHEDULER = Resources(MILLIS // 4, 0, 0)
"""It mostly waits; with a whole CPU of its own, small meshes would have none for workers."""
WORKER_ATTEMPTS = 6
"""Dask gives a call up that was with four workers when they died: the worker is to be there to hear of it."""


class MeshCluster(SpecCluster):
    """A cluster of `distributed`: `scale`, `adapt`, `wait_for_workers`, `get_logs`, `close`.

    `Client(cluster)` needs nothing else: the cluster has the credentials. With `asynchronous=True` it is for
    `async with`.
    """

    def __init__(  # noqa: PLR0913  one has a usual value after the other
        self,
        workers: int = 1,
        *,
        home: Path | str | None = None,
        hours: float = HOURS,
        patience_seconds: float = 60.0,
        start_seconds: float = 120.0,
        name: str = "dask",
        asynchronous: bool = False,
        loop: Any = None,
        **options: Any,
    ) -> None:
        """Options of each worker are those of `Mesh.using`: cpus, memory, gpus, tags, node, env, priority.

        After `hours` all of it ends, whatever it does. Without a sign of life from here for
        `patience_seconds` its processes end by themselves. Raises what `Mesh` raises, BadInput if no node has
        the same Dask, Unreachable with the reason if the scheduler does not run within `start_seconds`.
        """
        if not 0 < hours <= HOURS_MOST:
            raise BadInput(f"A cluster lives up to {HOURS_MOST:g} hours, not {hours:g}.")
        if workers < 0:
            raise BadInput(f"There cannot be {workers} workers.")
        asked = options_of(CallOptions(), options)
        self._owner = Owner(home, name, asked, hours * 3600, patience_seconds, start_seconds)
        spec = {"cls": Worker, "options": {"owner": self._owner, **self._owner.sizes}}
        try:
            super().__init__(
                workers={str(number): spec for number in range(workers)},
                scheduler={"cls": Scheduler, "options": {"owner": self._owner}},
                worker=spec,
                asynchronous=asynchronous,
                loop=loop,
                name=name,
            )
        except BaseException:
            self._loop_runner.stop()
            raise

    async def _start(self) -> None:
        try:
            await self._owner.open()
        except BaseException:
            self.status = Status.closed
            raise
        self.security = self._owner.security
        try:
            await super()._start()
        except RuntimeError as error:
            if isinstance(error.__cause__, MeshError):
                raise error.__cause__ from None
            raise

    async def _close(self) -> None:
        await super()._close()
        await self._owner.close()

    def _new_worker_name(self, worker_number: int) -> str:
        return str(worker_number)

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # SpecCluster gives a lost worker up after a while; here the mesh runs its task again on another node.
        Cluster._update_worker_status(self, op, msg)  # noqa: SLF001  the parent's parent

    async def forget_address(self, address: str) -> None:
        """A worker begins anew elsewhere: what it was before may still stand in its place."""
        comm: Any = self.scheduler_comm
        await comm.unregister(address=address, stimulus_id="planetmesh-worker-again", close=False)

    def lose_worker(self, name: str, why: str) -> None:
        """Its task has ended and the mesh does not try it again."""
        self.workers.pop(name, None)
        if self.worker_spec.pop(name, None) is not None:
            log.warning("Worker %s of the cluster has ended: %s", name, why)


class Owner:
    """This process towards the mesh: what all processes of one cluster have in common."""

    def __init__(
        self,
        home: Path | str | None,
        name: str,
        asked: CallOptions,
        life_seconds: float,
        patience_seconds: float,
        start_seconds: float,
    ) -> None:
        self.start_seconds = start_seconds
        self.asked = asked
        self._home = home
        self._name = name
        self._life_seconds = life_seconds
        self._patience_seconds = patience_seconds
        self._version = metadata.version("distributed")
        self._mesh: AsyncMesh | None = None
        self._credential: Credential | None = None
        self._processes: Processes | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """By the names that SpecCluster looks for."""
        memory = self.asked.requests.memory_bytes
        threads = max(1, self.asked.requests.cpu_millis // MILLIS)
        return {"nthreads": threads} | ({"memory_limit": memory} if memory else {})

    @property
    def security(self) -> PinnedSecurity:
        assert self._credential is not None
        return PinnedSecurity(*self._credential)

    async def open(self) -> None:
        """Raises BadInput if no node could ever run a process of the cluster."""
        if self._mesh is not None:
            return
        self._mesh = await AsyncMesh(self._home).__aenter__()
        try:
            await self._check_nodes(self._mesh)
            self._credential = await certify(self._mesh)
        except BaseException:
            await self.close()
            raise
        self._processes = Processes(self._mesh, self._credential)

    async def close(self) -> None:
        if self._processes is not None:
            await self._processes.close()
            self._processes = None
        if self._mesh is not None:
            await self._mesh.close()
            self._mesh = None

    async def start(self, part: str, requests: Resources, **more: Any) -> Process:
        """Hand in the job of a process."""
        if self._processes is None or self._credential is None:
            raise BadInput("This cluster is closed.", hint="Make another one.")
        is_worker = part == "worker"
        payload = msgspec.convert(
            {
                "part": part,
                "version": self._version,
                "certificate": self._credential.certificate,
                "patience_seconds": self._patience_seconds,
                **more,
            },
            DaskPayload,
        )
        return await self._processes.start(
            JobSpec(
                type="dask",
                payload=msgspec.to_builtins(payload),
                name=" ".join(filter(None, (self._name, part, payload.name))),
                requests=requests,
                tags=tuple(dict.fromkeys((PYTHON_TAG, *(self.asked.tags if is_worker else ())))),
                node=self.asked.node if is_worker else None,
                env=dict(self.asked.env),
                priority=self.asked.priority,
                limits=Limits(attempt_seconds=self._life_seconds),
                max_attempts=WORKER_ATTEMPTS if is_worker else 1,
                at_most_once=not is_worker,
                duplicates=False,
            )
        )

    async def why_not(self, process: Process) -> str:
        """Why it does not run, in words."""
        if process.failure:
            return process.failure
        if process.view is not None:
            return process.view.error or f"its job is {process.view.status}"
        assert self._mesh is not None
        view = await self._mesh.job(process.job)
        return view.waiting or f"its job {process.job} is {view.status}, and it cannot be reached from here"

    async def _check_nodes(self, mesh: AsyncMesh) -> None:
        wanted = {PYTHON_TAG, dask_tag(self._version)}
        nodes = await mesh.nodes()
        if any(wanted <= set(node.tags) for node in nodes):
            return
        have = {
            node.name: " ".join(tag for tag in node.tags if tag.startswith((dask_tag(""), "python3.")))
            for node in nodes
        }
        raise BadInput(
            f"No node has Dask {self._version} on {PYTHON_TAG}, as this program does"
            + (
                f"; they have: {'; '.join(f'{name}: {tags}' for name, tags in have.items())}."
                if have
                else "."
            ),
            hint=f"pip install 'planetmesh[dask]' distributed=={self._version} on the nodes; where it is "
            "installed, `planetmesh doctor` there says why it is not offered.",
        )


class _Part(ProcessInterface):
    """One process of the cluster, as SpecCluster wants it."""

    def __init__(self, owner: Owner) -> None:
        super().__init__()
        self._owner = owner
        self._process: Process | None = None

    async def close(self) -> None:
        if self._process is not None and self.status not in {Status.closed, Status.closing}:
            self.status = Status.closing
            await self._process.close()
        await super().close()


class Scheduler(_Part):
    """The one scheduler; when its node is lost, so is the cluster."""

    async def start(self) -> None:
        process = self._process = await self._owner.start("scheduler", SCHEDULER)
        if not await process.wait(self._owner.start_seconds) or not process.is_running:
            raise Unreachable(
                f"The cluster's scheduler does not run: {await self._owner.why_not(process)}",
                hint=f"planetmesh explain {process.job}",
            )
        self.address = process.address
        process.on_end = self._lose
        await super().start()

    def _lose(self) -> None:
        process = self._process
        why = process.view.error if process is not None and process.view is not None else ""
        log.warning(
            "The cluster has lost its scheduler and is of no use any more: %s", why or "it was closed"
        )


class Worker(_Part):
    """A worker; it comes when a node has room for it, and again when that node is lost."""

    def __init__(
        self, scheduler: str, *, owner: Owner, name: str, nthreads: int = 1, memory_limit: int = 0
    ) -> None:
        super().__init__(owner)
        self.name = name
        self._cluster: Any = lambda: None
        """SpecCluster puts a weak reference here."""
        self._more = {
            "scheduler": scheduler,
            "name": name,
            "threads": nthreads,
            "memory_bytes": memory_limit,
        }

    async def start(self) -> None:
        process = self._process = await self._owner.start("worker", self._owner.asked.requests, **self._more)
        process.on_again = self._begin_again
        process.on_end = self._lose
        await super().start()

    async def _begin_again(self, address: str) -> None:
        cluster = self._cluster()
        if cluster is not None:
            await cluster.forget_address(address)

    def _lose(self) -> None:
        cluster, process = self._cluster(), self._process
        if cluster is None or process is None or process.view is None:
            return
        self.status = Status.closed
        cluster.lose_worker(self.name, process.failure or process.view.error or f"{process.view.status}")
