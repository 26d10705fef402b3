"""What the engine hands over to be written: all the changes of one turn, one transaction.

Plain values; `store.Store.commit` writes them.
"""

from __future__ import annotations

import msgspec

from planetmesh.model.identity import CertificateRecord
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Attempt, Counts, Job, Task
from planetmesh.model.node import Learned, Node


class FeedRow(msgspec.Struct, frozen=True):
    """One event of the numbered feed; `data` is its JSON."""

    number: int
    kind: str
    at: float
    data: bytes


class MoreInputs(msgspec.Struct, frozen=True):
    """Inputs that a job got after its submit, from its input number `first` on."""

    job_id: JobId
    first: int
    items: tuple[str, ...]


class AuditRow(msgspec.Struct, frozen=True):
    """Who did what to what. `number` is drawn when it is written."""

    at: float
    actor: str
    action: str
    object: str
    detail: str = ""
    number: int = 0
    address: str = ""
    """Where whoever did it called from."""


class Changes(msgspec.Struct):
    """All of it is kept or nothing of it. A record that comes twice: the later one stays.

    `counts` are the counters of each job touched in this turn, so that a restart and the list of jobs
    never count tasks. The rows are made before `commit` first waits: later moves do not reach the disk.
    """

    jobs: list[Job] = []
    inputs: list[MoreInputs] = []
    tasks: list[Task] = []
    attempts: list[Attempt] = []
    counts: dict[JobId, Counts] = {}
    nodes: list[Node] = []
    learned: dict[NodeId, tuple[Learned, ...]] = {}
    """Replaces what was known of these nodes."""
    removed_nodes: list[NodeId] = []
    certificates: list[CertificateRecord] = []
    feed: list[FeedRow] = []
    audit: list[AuditRow] = []
    meta: dict[str, str] = {}

    @property
    def is_empty(self) -> bool:
        return not any(getattr(self, field) for field in self.__struct_fields__)

    def __bool__(self) -> bool:
        return not self.is_empty
