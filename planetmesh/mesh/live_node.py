"""A node, its link, what it has in hand and what was learned about it."""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from planetmesh.mesh.lifecycle import NodeCause, Phase, PhaseCause, phase_after
from planetmesh.model.blob import Digest
from planetmesh.model.ids import JobId, TaskKey
from planetmesh.model.node import Learned, Node, NodeLoad
from planetmesh.model.resources import NOTHING, Resources

KINDS_MOST = 256
"""Kinds of job that are remembered of one node; the one not seen for longest goes first."""


class Record(msgspec.Struct):
    """What was learned of one kind of job on one node."""

    mean_seconds: float | None = None
    """Decayed mean of how long one input took; None until one ended well."""
    streak: int = 0
    """Quick failures in a row."""
    failed_jobs: set[JobId] = set()
    """Jobs that those were of, the newest few."""
    shown_elsewhere: bool = False
    """Tasks of those jobs ended well on another node since."""
    phase: Phase = Phase.GOOD
    cool_until: float = 0.0
    """Steady time."""
    cool_seconds: float = 0.0
    """How long the present cool-down takes; it doubles each time."""
    probe: TaskKey | None = None
    reason: str = ""
    """The last failure's sentence, for people."""

    def move(self, cause: PhaseCause, probe: TaskKey | None = None) -> None:
        """Into the next phase; raises IllegalMove. `probe` is the task that it got to try."""
        self.phase, self.probe = phase_after(self.phase, cause), probe


class LiveNode:
    """A node, its link and what it has in hand."""

    __slots__ = (
        "blobs",
        "carried",
        "held",
        "held_by_job",
        "is_member",
        "last_heard",
        "load",
        "node",
        "offline_by",
        "opened",
        "prefill_after",
        "recalled",
        "records",
        "resting_until",
        "rtt_seconds",
        "session",
        "used",
    )

    def __init__(self, node: Node, last_heard: float) -> None:
        self.node = node
        self.session: int | None = None
        """Number of the present link; None while there is none."""
        self.last_heard = last_heard
        """Steady time of its last word."""
        self.is_member = True
        """It has a certificate that counts; without one it cannot come back."""
        self.offline_by: NodeCause | None = None
        """What made it OFFLINE the last time."""
        self.load = NodeLoad()
        self.rtt_seconds: float | None = None
        self.held: dict[TaskKey, tuple[Resources, float]] = {}
        """Tasks ASSIGNED to it or RUNNING on it: what each asked for and since when (steady)."""
        self.held_by_job: dict[JobId, int] = {}
        self.used = NOTHING
        self.prefill_after = 0.0
        """Steady time until which it gets no backlog, since some was just pulled back."""
        self.opened: set[JobId] = set()
        """Jobs whose details this link was given."""
        self.carried: set[JobId] = set()
        """Jobs that the agent still had when it said hello: it must be told of their end too."""
        self.recalled: set[TaskKey] = set()
        """Tasks in hand that it was asked to give back."""
        self.resting_until = 0.0
        """Steady time until which it gets nothing, since it gave work back without being asked."""
        self.blobs: set[Digest] = set()
        """Large ones that it says it has."""
        self.records: OrderedDict[str, Record] = OrderedDict()
        """By kind of job, the one seen last at the end."""

    @property
    def offer(self) -> Resources:
        return self.node.info.offer if self.node.info else NOTHING

    @property
    def connected(self) -> bool:
        return self.session is not None

    def record(self, kind: str) -> Record:
        """What is known of a kind of job here, made if there is nothing yet."""
        found = self.records.setdefault(kind, Record())
        self.records.move_to_end(kind)
        while len(self.records) > KINDS_MOST:
            self.records.popitem(last=False)
        return found

    def learned(self) -> tuple[Learned, ...]:
        """The times to write down, the kind seen last at the end."""
        return tuple(
            Learned(kind, record.mean_seconds)
            for kind, record in self.records.items()
            if record.mean_seconds is not None
        )

    def restore_learned(self, times: tuple[Learned, ...]) -> None:
        for each in times:
            self.record(each.kind).mean_seconds = each.seconds

    def hold(self, key: TaskKey, kind: str, requests: Resources, now_steady: float) -> bool:
        """Called by `MeshState.hold`. The first task of a kind that is to be tried again is the probe.

        True if its standing changed by that.
        """
        record = self.records.get(kind)
        is_probe = record is not None and record.phase is Phase.PROBE
        if record is not None and is_probe:
            record.move(PhaseCause.GOT_ONE, probe=key)
        self.held[key] = (requests, now_steady)
        self.held_by_job[key[0]] = self.held_by_job.get(key[0], 0) + 1
        self.used = self.used + requests
        return is_probe

    def touch(self, key: TaskKey, now_steady: float) -> None:
        """Called by `MeshState.touch`. The task runs since now."""
        self.held[key] = (self.held[key][0], now_steady)

    def release(self, key: TaskKey, kind: str) -> bool:
        """Called by `MeshState.release`. A probe that told nothing is followed by another.

        True if its standing changed by that.
        """
        record = self.records.get(kind)
        was_probe = record is not None and record.phase is Phase.PROBING and record.probe == key
        if record is not None and was_probe:
            record.move(PhaseCause.TOLD_NOTHING)
        held = self.held.pop(key)
        self.recalled.discard(key)
        self.used = self.used - held[0]
        left = self.held_by_job[key[0]] - 1
        if left:
            self.held_by_job[key[0]] = left
        else:
            del self.held_by_job[key[0]]
        return was_probe
