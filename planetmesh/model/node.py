"""Machines: what a node can do (info), what it does now (load), how it stands (record)."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from planetmesh.model.ids import NodeId
from planetmesh.model.resources import Resources


class NodeState(StrEnum):
    """DESIGN §4: from the age of the node's last word."""

    HEALTHY = "HEALTHY"
    SUSPECT = "SUSPECT"
    OFFLINE = "OFFLINE"


class Gpu(msgspec.Struct, frozen=True):
    id: str
    """As the vendor's library names it (a UUID for NVIDIA)."""
    name: str
    memory_bytes: int


class Sandbox(msgspec.Struct, frozen=True):
    """The tier that the node's own probe reached, by doing."""

    tier: str = "none"
    proven: bool = False
    """True if a probe task failed to read the state directory."""
    detail: str = ""


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a node can do; sent with its hello."""

    hostname: str
    os: str
    arch: str
    version: str
    python: str
    cpus: int
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    offer: Resources = Resources()
    """What tasks may use of it at the same time."""
    tags: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()
    sandbox: Sandbox = Sandbox()
    job_types: tuple[str, ...] = ()
    machine: str = ""
    """Hash of the machine's own id: two machines with one identity are told apart by it."""
    refuses: str = ""
    """Why this node takes no tasks at all (no proven sandbox on a coordinator's host), or nothing."""


class NodeLoad(msgspec.Struct, frozen=True):
    """What a node does now; sent with each heartbeat."""

    cpu: float = 0.0
    """Share of all cores in use, 0..1."""
    memory_free_bytes: int = 0
    disk_free_bytes: int = 0
    running: int = 0
    backlog: int = 0


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node's record. Its tasks and its link are kept by `mesh/state.py`, not here."""

    id: NodeId
    name: str
    info: NodeInfo | None = None
    """None until its first hello."""
    state: NodeState = NodeState.OFFLINE
    draining: bool = False
    tags: tuple[str, ...] = ()
    """Given by an operator, besides those the node reports."""
    reliability: float = 1.0
    """Decayed success rate, 0..1."""
    created_at: float = 0.0
    last_heartbeat_at: float | None = None
    instance: str = ""
    """Of the agent process that said the last hello: tells a reconnect from a restart."""

    @property
    def all_tags(self) -> frozenset[str]:
        return frozenset(self.tags) | frozenset(self.info.tags if self.info else ())
