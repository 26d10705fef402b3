"""What the screens show: one frozen picture of the mesh, and the board that it is taken from. Pure.

The board keeps the newest view of each job and node that the feed told, as it came; only when a picture is
taken are they read. So a thousand events about one job between two pictures cost one reading.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec

from planetmesh.dashboard.meter import Meter, Paces
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import JOB_ENDED
from planetmesh.wire.api import FeedEvent, JobView, MeshStatus, NodeView

JOBS_MOST = 1000
"""The newest ones; what goes on is kept before what has ended."""
LOADS_KEPT = 40


class LinkState(StrEnum):
    """How it stands with the coordinator."""

    CONNECTING = "connecting"
    LIVE = "live"
    AWAY = "away"
    REFUSED = "refused"


class Link(msgspec.Struct, frozen=True):
    """The way to the coordinator."""

    state: LinkState = LinkState.CONNECTING
    sentence: str = ""
    hint: str = ""
    again_at: float = 0.0
    """When it is tried again, by the clock of the wall."""
    was_live: bool = False


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The mesh at one moment. `number` grows with each."""

    number: int = 0
    at: float = 0.0
    """By this machine's clock, seconds since the epoch."""
    link: Link = Link()
    status: MeshStatus | None = None
    job_counts: dict[str, int] = {}
    """Of all jobs, also those that are not in `jobs`."""
    nodes: tuple[NodeView, ...] = ()
    """By name."""
    jobs: tuple[JobView, ...] = ()
    """Newest first."""
    paces: dict[JobId, float] = {}
    """Tasks a second."""
    done: tuple[float, ...] = ()
    """Tasks that completed in each second, the newest last."""
    failed: tuple[float, ...] = ()
    watched_seconds: int = 0
    """For so long it was looked at: before that nothing was counted."""
    loads: dict[NodeId, tuple[float, ...]] = {}
    stirred: dict[JobId, int] = {}
    """The last event about a job's tasks: who shows them reads them anew when this is another."""
    windows: int = 0
    """How often something was told of pairing windows."""

    @property
    def is_viewer(self) -> bool:
        return self.status is not None and self.status.role == "viewer"

    def job(self, job_id: str) -> JobView | None:
        return next((job for job in self.jobs if job.id == job_id), None)

    def node(self, node_id: str) -> NodeView | None:
        return next((node for node in self.nodes if node.id == node_id), None)

    @property
    def queued(self) -> int:
        """Tasks that wait for a machine."""
        return sum(job.tasks.queued + job.tasks.retrying for job in self.jobs if not is_over(job))

    @property
    def running(self) -> int:
        return sum(job.tasks.running for job in self.jobs if not is_over(job))


def is_over(job: JobView) -> bool:
    return job.status in JOB_ENDED


class Board:
    """What is known of the mesh now. Use from one thread."""

    def __init__(self) -> None:
        self.link = Link()
        self.is_stale = True
        """Something changed since the last picture."""
        self.needs_lists = False
        """Events were missed: read the lists again."""
        self.needs_status = False
        self._number = 0
        self._status: MeshStatus | None = None
        self._counts: dict[str, int] = {}
        self._jobs: dict[JobId, JobView] = {}
        self._nodes: dict[NodeId, NodeView] = {}
        self._told_jobs: dict[str, Any] = {}
        self._told_nodes: dict[str, Any] = {}
        self._meter = Meter()
        self._paces = Paces()
        self._loads: dict[NodeId, tuple[float, ...]] = {}
        self._stirred: dict[JobId, int] = {}
        self._windows = 0

    def note(self, event: FeedEvent) -> None:
        """Remember what an event told; reads nothing of it but its id."""
        self.is_stale = True
        data = event.data
        if event.kind == "job":
            self._told_jobs[data["id"]] = data
        elif event.kind == "node":
            self._told_nodes[data["id"]] = data
        elif event.kind == "node_removed":
            self._told_nodes[data["id"]] = None
        elif event.kind == "tasks":
            for job_id in {task["job_id"] for task in data}:
                self._stirred[job_id] = event.number
        elif event.kind == "pairing":
            self._windows += 1
        elif event.kind == "resync":
            self.needs_lists = True

    def read_lists(self, jobs: Iterable[JobView], nodes: Iterable[NodeView]) -> None:
        """The whole truth: what is not in it is gone."""
        self._told_jobs.clear()
        self._told_nodes.clear()
        gone = self._jobs.keys()
        self._jobs = {job.id: job for job in jobs}
        for job_id in gone - self._jobs.keys():
            self._paces.forget(job_id)
        self._nodes = {node.id: node for node in nodes}
        self._loads = {node_id: self._loads.get(node_id, ()) for node_id in self._nodes}
        self._stirred = dict.fromkeys(self._jobs, -self._number)
        self._windows += 1
        self.needs_lists = False
        self.is_stale = True

    def read_status(self, status: MeshStatus) -> None:
        self._status = status
        self._counts = dict(status.jobs)
        self.needs_status = False
        self.is_stale = True

    def set_link(self, link: Link) -> None:
        self.link = link
        self.is_stale = True

    def take(self, now: float, steady: float) -> Snapshot:
        """A picture. `now` is the wall's clock, `steady` one that never goes back."""
        self._read_told(steady)
        self._trim()
        self._number += 1
        self.is_stale = False
        done, failed = self._meter.series(steady)
        for job in self._jobs.values():
            if not is_over(job):
                self._paces.measure(steady, job)
        return Snapshot(
            number=self._number,
            at=now,
            link=self.link,
            status=self._status,
            job_counts=dict(self._counts),
            nodes=tuple(sorted(self._nodes.values(), key=lambda node: (node.name.casefold(), node.id))),
            jobs=tuple(sorted(self._jobs.values(), key=_newest_first, reverse=True)),
            paces=self._paces.per_second(),
            done=done,
            failed=failed,
            watched_seconds=self._meter.watched_seconds,
            loads=dict(self._loads),
            stirred=dict(self._stirred),
            windows=self._windows,
        )

    def _read_told(self, steady: float) -> None:
        jobs, self._told_jobs = self._told_jobs, {}
        nodes, self._told_nodes = self._told_nodes, {}
        for data in jobs.values():
            self._put_job(msgspec.convert(data, JobView), steady)
        for node_id, data in nodes.items():
            if data is None:
                self._nodes.pop(NodeId(node_id), None)
                self._loads.pop(NodeId(node_id), None)
            else:
                self._put_node(msgspec.convert(data, NodeView))
        self.needs_status |= bool(jobs)

    def _put_job(self, job: JobView, steady: float) -> None:
        before = self._jobs.get(job.id)
        had = before.tasks if before is not None else None
        completed = job.tasks.completed - (had.completed if had else 0)
        failed = job.tasks.failed - (had.failed if had else 0)
        self._meter.count(steady, completed, failed)
        if before is not None and before.status in self._counts:
            self._counts[before.status] = max(0, self._counts[before.status] - 1)
        self._counts[job.status] = self._counts.get(job.status, 0) + 1
        self._jobs[job.id] = job
        if is_over(job):
            self._paces.forget(job.id)

    def _put_node(self, node: NodeView) -> None:
        self._nodes[node.id] = node
        if node.load is not None:
            self._loads[node.id] = (*self._loads.get(node.id, ()), node.load)[-LOADS_KEPT:]

    def _trim(self) -> None:
        over = len(self._jobs) - JOBS_MOST
        if over > 0:
            oldest = sorted(self._jobs.values(), key=lambda job: (not is_over(job), _newest_first(job)))
            for job in oldest[:over]:
                del self._jobs[job.id]
                self._paces.forget(job.id)
        self._stirred = {each: number for each, number in self._stirred.items() if each in self._jobs}


def _newest_first(job: JobView) -> tuple[str, str]:
    return (job.created_at, job.id)
