"""Makers of views: only what matters to a test is named."""

from __future__ import annotations

from typing import Any

from builders import job_id, node_id

from planetmesh.dashboard.snapshot import Link, LinkState, Snapshot
from planetmesh.model.job import JobState, TaskState
from planetmesh.model.node import NodeState, Sandbox
from planetmesh.wire.api import JobView, MeshStatus, NodeView, TaskCounts, TaskView

NOW = 1_700_000_000.0
AT = "2023-11-14T22:13:20Z"
"""The same moment."""
HOSTILE = "\x1b[31mred\x1b[0m [bold]x[/bold] \u202egnp.exe\u2066 \u200b\u0300\u0301\u0302\u0303 日本 \x07\r\n"


def counts(**some: int) -> TaskCounts:
    words = ("queued", "assigned", "running", "retrying", "completed", "failed", "cancelled")
    numbers = {word: some.get(word, 0) for word in words}
    return TaskCounts(total=sum(numbers.values()), **numbers)


def job_view(name: str = "a", status: JobState = JobState.RUNNING, **more: Any) -> JobView:
    usual: dict[str, Any] = {
        "id": job_id(name), "name": name, "type": "command", "status": status, "priority": 0,
        "submitter": "op", "created_at": AT, "started_at": AT, "completed_at": None,
        "tasks": counts(queued=1),
    }  # fmt: skip
    return JobView(**(usual | more))


def node_view(name: str = "desk", **more: Any) -> NodeView:
    usual: dict[str, Any] = {
        "id": node_id(name[:12]), "name": name, "state": NodeState.HEALTHY, "cpus": 4, "memory_bytes": 2**34,
        "gpus": (), "tags": ("linux",), "running": 1, "load": 0.5, "rtt_ms": 1.25, "reliability": 1.0,
        "last_heartbeat_at": AT, "draining": False, "sandbox": Sandbox("landlock", True), "version": "1",
        "offer_cpus": 4.0,
    }  # fmt: skip
    return NodeView(**(usual | more))


def task_view(index: int = 0, status: TaskState = TaskState.RUNNING, **more: Any) -> TaskView:
    usual: dict[str, Any] = {
        "id": f"a000000000/{index}", "job_id": job_id("a"), "index": index, "status": status, "node": "desk",
        "node_id": node_id("desk"), "attempts": 1, "exit_code": None, "started_at": AT, "finished_at": None,
        "last_error": None, "payload": None,
    }  # fmt: skip
    return TaskView(**(usual | more))


def status_view(**more: Any) -> MeshStatus:
    usual: dict[str, Any] = {
        "mesh": "home", "mesh_id": "0123456789abcdef", "coordinator": "c", "version": "1", "role": "operator",
        "node": "me", "nodes": {}, "jobs": {}, "fingerprint": "aaaa bbbb",
    }  # fmt: skip
    return MeshStatus(**(usual | more))


def snapshot(*things: JobView | NodeView, **more: Any) -> Snapshot:
    usual: dict[str, Any] = {
        "number": 1,
        "at": NOW,
        "link": Link(LinkState.LIVE),
        "status": status_view(),
        "nodes": tuple(thing for thing in things if isinstance(thing, NodeView)),
        "jobs": tuple(thing for thing in things if isinstance(thing, JobView)),
    }
    return Snapshot(**(usual | more))
