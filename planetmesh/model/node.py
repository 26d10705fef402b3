"""Machines: what a node can do (info), what it does now (load), how it stands (record)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from planetmesh.model.ids import NodeId
from planetmesh.model.resources import Resources

Word = Annotated[str, Meta(max_length=255)]
Text = Annotated[str, Meta(max_length=4096)]
Amount = Annotated[int, Meta(ge=0, le=2**53)]
Words = Annotated[tuple[Word, ...], Meta(max_length=256)]
"""What a node says of itself is kept and shown to everybody, so it is bounded."""


class NodeState(StrEnum):
    """DESIGN §4: from the age of the node's last word."""

    HEALTHY = "HEALTHY"
    SUSPECT = "SUSPECT"
    OFFLINE = "OFFLINE"


class Gpu(msgspec.Struct, frozen=True):
    id: Word
    """As the vendor's library names it (a UUID for NVIDIA)."""
    name: Word
    memory_bytes: Amount


class Sandbox(msgspec.Struct, frozen=True):
    """The tier that the node's own probe reached, by doing."""

    tier: Word = "none"
    proven: bool = False
    """True if a probe task failed to read the state directory."""
    detail: Text = ""


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a node can do; sent with its hello."""

    hostname: Word
    os: Word
    arch: Word
    version: Word
    python: Word
    cpus: Amount
    memory_bytes: Amount
    gpus: Annotated[tuple[Gpu, ...], Meta(max_length=256)] = ()
    offer: Resources = Resources()
    """What tasks may use of it at the same time."""
    tags: Words = ()
    shares: Annotated[tuple[Text, ...], Meta(max_length=256)] = ()
    sandbox: Sandbox = Sandbox()
    job_types: Words = ()
    machine: Word = ""
    """Hash of the machine's own id: two machines with one identity are told apart by it."""
    refuses: Text = ""
    """Why this node takes no tasks at all (no proven sandbox on a coordinator's host), or nothing."""


class NodeLoad(msgspec.Struct, frozen=True):
    """What a node does now; sent with each heartbeat."""

    cpu: Annotated[float, Meta(ge=0.0, le=1e6)] = 0.0
    """Share of all cores in use, 0..1."""
    memory_free_bytes: Amount = 0
    disk_free_bytes: Amount = 0
    running: Amount = 0
    backlog: Amount = 0
    outbox_bytes: Amount = 0
    """Ends of tasks that the coordinator has not acknowledged."""
    cache_bytes: Amount = 0
    """Files of jobs that are kept for the next ones."""
    lag_seconds: Annotated[float, Meta(ge=0.0, le=1e6)] = 0.0
    """How late the agent's event loop came back to a timer since the last heartbeat, at most."""
    outbox_refused: Amount = 0
    """Messages about tasks that its agent had to set aside since it started."""
    log_file_bytes: Amount = 0
    """Its agent's log file and the older ones beside it."""
    log_rotations: Amount = 0
    log_lost: Amount = 0
    """Lines that the log file's disk did not take."""


class Confined(msgspec.Struct, frozen=True):
    """One kind of job that a node gets no more of, until a probe shows that it does it well again."""

    kind: str
    reason: str
    """What failed last."""
    cool_seconds: float
    """The cool-down before the next probe."""


class Learned(msgspec.Struct, frozen=True, array_like=True):
    """How long one input of a kind of job takes on a node."""

    kind: str
    seconds: float


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
    confined: tuple[Confined, ...] = ()
    """Kinds of job that it is in quarantine for."""

    @property
    def all_tags(self) -> frozenset[str]:
        return frozenset(self.tags) | frozenset(self.info.tags if self.info else ())
