"""What `/metrics` shows: the engine's own numbers and the mesh as it is, in Prometheus' form.

Everything is read when somebody asks. Labels are states, outcomes and nodes, and no more than `NODES_MOST`
of those, so that the number of series is bounded whatever runs. Names and units follow Prometheus' rules:
seconds, bytes, ratios from 0 to 1, `_total` for what only grows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import TypeVar

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from planetmesh import __version__
from planetmesh.coordinator.meters import Meters, Samples
from planetmesh.log_file import LogCounts
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState
from planetmesh.model.ids import NodeId
from planetmesh.model.job import JOB_ENDED, Counts, JobState, Outcome, TaskState
from planetmesh.model.node import NodeState
from planetmesh.store.database import Sizes

Label = TypeVar("Label", bound=StrEnum)
NODES_MOST = 500
"""Nodes with series of their own, by name; those beyond are only counted."""


class Storage(msgspec.Struct, frozen=True):
    """How much lies on the coordinator's disk."""

    databases: Mapping[str, Sizes]
    blobs: int
    blob_bytes: int
    works: bool
    """The last write went well."""


class Traffic(msgspec.Struct, frozen=True):
    blob_bytes_in: int
    blob_bytes_out: int
    feed_number: int
    feed_bytes: int
    feed_subscribers: int
    connections: int


class _Node(msgspec.Struct, frozen=True):
    name: str
    state: NodeState
    reliability_ratio: float
    tasks: int
    rtt_seconds: float | None
    load_ratio: float
    memory_free_bytes: int
    disk_free_bytes: int
    outbox_bytes: int
    outbox_refused: int
    cache_bytes: int
    event_loop_lag_seconds: float
    log_file_bytes: int
    log_rotations: int
    log_lost: int
    placements: int


class Picture(msgspec.Struct, frozen=True):
    """The mesh at one moment: taken on the event loop, put into words in a thread."""

    mesh: str
    mesh_id: str
    nodes: Mapping[NodeState, int]
    jobs: Mapping[JobState, int]
    tasks: Mapping[TaskState, int]
    shown: tuple[_Node, ...]
    meters: Meters
    storage: Storage
    traffic: Traffic
    log: LogCounts


def take_picture(
    state: MeshState,
    meters: Meters,
    mesh: str,
    mesh_id: str,
    storage: Storage,
    traffic: Traffic,
    log: LogCounts,
) -> Picture:
    """Costs what is live: jobs that have not ended, and nodes."""
    jobs = dict.fromkeys((each for each in JobState if each not in JOB_ENDED), 0)
    tasks = Counts()
    for live in state.jobs.values():
        jobs[live.state] = jobs.get(live.state, 0) + 1
        for name in ("queued", "assigned", "running", "retrying"):
            setattr(tasks, name, getattr(tasks, name) + getattr(live.counts, name))
    nodes = dict.fromkeys(NodeState, 0)
    for node in state.nodes.values():
        nodes[node.node.state] += 1
    chosen = sorted(state.nodes.values(), key=lambda each: each.node.name)[:NODES_MOST]
    return Picture(
        mesh=mesh,
        mesh_id=mesh_id,
        nodes=nodes,
        jobs=jobs,
        tasks={
            TaskState.QUEUED: tasks.queued,
            TaskState.ASSIGNED: tasks.assigned,
            TaskState.RUNNING: tasks.running,
            TaskState.RETRYING: tasks.retrying,
        },
        shown=tuple(_node(each, meters.placements) for each in chosen),
        meters=meters,
        storage=storage,
        traffic=traffic,
        log=log,
    )


def _node(live: LiveNode, placements: Mapping[NodeId, int]) -> _Node:
    load = live.load
    return _Node(
        name=live.node.name,
        state=live.node.state,
        reliability_ratio=live.node.reliability,
        tasks=len(live.held),
        rtt_seconds=live.rtt_seconds,
        load_ratio=load.cpu,
        memory_free_bytes=load.memory_free_bytes,
        disk_free_bytes=load.disk_free_bytes,
        outbox_bytes=load.outbox_bytes,
        outbox_refused=load.outbox_refused,
        cache_bytes=load.cache_bytes,
        event_loop_lag_seconds=load.lag_seconds,
        log_file_bytes=load.log_file_bytes,
        log_rotations=load.log_rotations,
        log_lost=load.log_lost,
        placements=placements.get(live.node.id, 0),
    )


def render(picture: Picture, accept: str) -> tuple[bytes, str]:
    """The body and its content type, in the form that the asker prefers."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Pictured(picture))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Pictured(Collector):
    def __init__(self, picture: Picture) -> None:
        self._picture = picture

    def collect(self) -> Iterator[Metric]:
        picture = self._picture
        yield InfoMetricFamily(
            "planetmesh_mesh",
            "The mesh that this coordinator holds together.",
            value={"mesh": picture.mesh, "mesh_id": picture.mesh_id, "version": __version__},
        )
        yield from _work(picture)
        yield from _ended(picture.meters)
        yield from _engine(picture.meters)
        yield from _storage(picture.storage, picture.traffic)
        yield from _log(picture.log)
        yield from _nodes(picture.shown)


def _work(picture: Picture) -> Iterator[Metric]:
    yield _gauges("nodes", "Nodes by state.", "state", {s.value: n for s, n in picture.nodes.items()})
    yield _gauges("jobs", "Jobs that have not ended, by status.", "status", _words(picture.jobs))
    yield _gauges("tasks", "Tasks of jobs that have not ended, by status.", "status", _words(picture.tasks))


def _ended(meters: Meters) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "planetmesh_jobs_submitted", "Jobs taken in since the start.", meters.jobs_submitted
    )
    ends = {state: meters.jobs_ended[state] for state in JobState if state in JOB_ENDED}
    yield _counters("jobs_ended", "Jobs that ended since the start.", "status", _words(ends))
    over = {state: meters.tasks_ended[state] for state in _TASK_ENDS}
    yield _counters("tasks_ended", "Tasks that ended since the start.", "status", _words(over))
    failed = {outcome: meters.attempts_failed[outcome] for outcome in Outcome}
    yield _counters(
        "attempts_failed", "Attempts that did not become their task's end.", "outcome", _words(failed)
    )
    yield CounterMetricFamily(
        "planetmesh_task_retries", "Times that a task was put back to be tried again.", meters.retries
    )
    yield _histogram("job_seconds", "From a job's submit to its end.", meters.job_seconds)
    yield _histogram("task_wait_seconds", "From a job's submit to a task's start.", meters.task_waits)
    yield _histogram("task_seconds", "How long accepted attempts took.", meters.task_seconds)


def _engine(meters: Meters) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "planetmesh_engine_happenings", "What the engine took in since the start.", meters.happenings
    )
    yield _histogram("scheduler_pass_seconds", "Passes of the scheduler.", meters.passes)
    yield _histogram("engine_turn_seconds", "Turns of the engine, with the disk.", meters.turns)
    yield _histogram("engine_wait_seconds", "How long what came in waited for its turn.", meters.waits)
    yield _histogram("store_commit_seconds", "Transactions.", meters.commits)
    yield _histogram("event_loop_lag_seconds", "How late the event loop came back to a timer.", meters.lags)


def _storage(storage: Storage, traffic: Traffic) -> Iterator[Metric]:
    sizes = {name: size.database_bytes for name, size in storage.databases.items()}
    yield _gauges("database_bytes", "Of each database.", "database", sizes)
    logs = {name: size.log_bytes for name, size in storage.databases.items()}
    yield _gauges("database_log_bytes", "Of each write-ahead log.", "database", logs)
    yield _gauge("storage_up", "Whether the coordinator can write to its disk.", int(storage.works))
    yield _gauge("blobs", "Files kept for jobs.", storage.blobs)
    yield _gauge("blob_bytes", "Of all files kept for jobs.", storage.blob_bytes)
    moved = {"in": traffic.blob_bytes_in, "out": traffic.blob_bytes_out}
    yield _counters("blob_moved_bytes", "Files' bytes that passed since the start.", "direction", moved)
    yield _gauge("feed_events", "Number of the last event of the feed.", traffic.feed_number)
    yield _gauge("feed_bytes", "Events kept in memory for listeners.", traffic.feed_bytes)
    yield _gauge("feed_subscribers", "Who follows the feed now.", traffic.feed_subscribers)
    yield _gauge("connections", "Open connections of members.", traffic.connections)


def _log(log: LogCounts) -> Iterator[Metric]:
    for name, about, value in (
        ("log_lines", "Lines of the coordinator's log since the start.", log.lines),
        ("log_left_out", "Lines of events that came too often, since the start.", log.left_out),
        ("log_lost", "Lines that the log file's disk did not take, since the start.", log.lost),
        ("log_rotations", "Times that the log file was moved aside since the start.", log.rotations),
        ("log_file_written_bytes", "Written to the log file since the start.", log.file_written_bytes),
    ):
        yield CounterMetricFamily(f"planetmesh_{name}", about, value)
    yield _gauge("log_file_bytes", "The log file and the older ones beside it.", log.file_bytes)


def _nodes(shown: tuple[_Node, ...]) -> Iterator[Metric]:
    up = {node.name: int(node.state is NodeState.HEALTHY) for node in shown}
    yield _gauges("node_up", "1 for a node that is HEALTHY.", "node", up)
    for name, about in _OF_NODES.items():
        values = {node.name: getattr(node, name) for node in shown}
        yield _gauges(f"node_{name}", about, "node", values)
    trips = {node.name: node.rtt_seconds for node in shown if node.rtt_seconds is not None}
    yield _gauges("node_rtt_seconds", "Round trip on its link.", "node", trips)
    chosen = {node.name: node.placements for node in shown}
    yield _counters("placements", "Decisions of the scheduler for a node.", "node", chosen)


_OF_NODES = {
    "tasks": "Tasks in its hands.",
    "reliability_ratio": "Decayed share of good ends.",
    "load_ratio": "Share of its cores in use.",
    "memory_free_bytes": "Memory that is free there.",
    "disk_free_bytes": "Disk that is free for its work.",
    "outbox_bytes": "Ends of tasks that it keeps until we have them.",
    "outbox_refused": "Ends and output of tasks that its agent had to set aside since it started.",
    "cache_bytes": "Files in its cache.",
    "event_loop_lag_seconds": "How late its event loop was since the last heartbeat, at most.",
    "log_file_bytes": "Its agent's log file and the older ones beside it.",
    "log_rotations": "Times that this file was moved aside since the agent started.",
    "log_lost": "Lines that this file's disk did not take since the agent started.",
}
_TASK_ENDS = (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


def _words(numbers: Mapping[Label, int]) -> dict[str, int]:
    return {key.value: number for key, number in numbers.items()}


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"planetmesh_{name}", about, value)


def _gauges(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"planetmesh_{name}", about, labels=[label])
    _fill(family, values.items())
    return family


def _counters(name: str, about: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"planetmesh_{name}", about, labels=[label])
    _fill(family, values.items())
    return family


def _fill(family: GaugeMetricFamily | CounterMetricFamily, values: Iterable[tuple[str, float]]) -> None:
    for label, value in values:
        family.add_metric([label], value)


def _histogram(name: str, about: str, samples: Samples) -> Metric:
    buckets, below = [], 0
    for bound, count in zip((*map(str, samples.bounds), "+Inf"), samples.below, strict=True):
        below += count
        buckets.append((bound, float(below)))
    return HistogramMetricFamily(f"planetmesh_{name}", about, buckets=buckets, sum_value=samples.total)
