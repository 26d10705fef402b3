"""Makers of nodes, jobs, tasks and messages for pure tests: only what matters to a test is named.

Ids are made from short names (`"a"` → job `a000000000`), so a transcript can show the name again.
"""

from __future__ import annotations

from typing import Any

from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Inputs, Items, Job, JobSpec, One, Outcome, Range
from planetmesh.model.node import Node, NodeInfo
from planetmesh.model.resources import MILLIS, Resources
from planetmesh.wire.agent import Held, RegisterNode, TaskResult, TaskReturned, TaskStarted
from planetmesh.wire.codec import PROTOCOL

GIB = 1024**3


def job_id(name: str) -> JobId:
    return JobId(name.ljust(10, "0"))


def node_id(name: str) -> NodeId:
    """Hex of the name, filled up: sorts like the name and is a lawful id."""
    return NodeId(name.encode().hex().ljust(32, "0"))


def resources(cpus: float = 1, memory: int = 0, gpus: int = 0) -> Resources:
    return Resources(round(cpus * MILLIS), memory, gpus)


def info(cpus: float = 1, *, machine: str = "", **changes: Any) -> NodeInfo:
    fields: dict[str, Any] = {
        "hostname": "host",
        "os": "linux",
        "arch": "x86_64",
        "version": "1",
        "python": "3.11",
        "cpus": max(1, round(cpus)),
        "memory_bytes": GIB,
        "offer": resources(cpus, GIB),
        "job_types": ("command", "script"),
        "machine": machine,
    }
    return NodeInfo(**(fields | changes))


def node(name: str, **changes: Any) -> Node:
    return Node(**({"id": node_id(name), "name": name} | changes))


def spec(count: int | Inputs = 1, **changes: Any) -> JobSpec:
    if isinstance(count, int):
        inputs: Inputs = One() if count == 1 else Range(0, count - 1)
    else:
        inputs = count
    fields: dict[str, Any] = {"type": "command", "payload": {"argv": ["true"]}, "inputs": inputs}
    return JobSpec(**(fields | changes))


def job(
    name: str = "a", count: int | Inputs = 1, *, submitter: str = "op", kind: str = "", **changes: Any
) -> Job:
    return Job(id=job_id(name), spec=spec(count, **changes), submitter=submitter, kind=kind, created_at=1.0)


def items(*texts: str) -> Items:
    return Items(texts)


def hello(
    instance: str = "i1", held: tuple[Held, ...] = (), *, cpus: float = 1, machine: str = "", **changes: Any
) -> RegisterNode:
    return RegisterNode(PROTOCOL, info(cpus, machine=machine, **changes), instance, held)


def held(name: str, index: int = 0, attempt: int = 1, *, running: bool = True) -> Held:
    return Held(job_id(name), index, attempt, running)


def started(name: str, index: int = 0, attempt: int = 1) -> TaskStarted:
    return TaskStarted(job_id(name), index, attempt)


def ended(
    name: str, index: int = 0, attempt: int = 1, outcome: Outcome = Outcome.OK, **changes: Any
) -> TaskResult:
    code = {Outcome.OK: 0, Outcome.EXIT_CODE: 1}.get(outcome)
    return TaskResult(**({"job_id": job_id(name), "index": index, "attempt": attempt, "outcome": outcome,
                          "exit_code": code, "wall_seconds": 0.01} | changes))  # fmt: skip


def returned(name: str, index: int = 0, attempt: int = 1, reason: str = "recalled") -> TaskReturned:
    return TaskReturned(job_id(name), index, attempt, reason)
