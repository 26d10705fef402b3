"""Jobs and tasks: what was asked for (specs) and how it stands (records)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from planetmesh.model.ids import JobId, NodeId, TaskKey
from planetmesh.model.resources import Resources


class TaskState(StrEnum):
    """DESIGN §4. RETRYING waits out a back-off before it is QUEUED again."""

    QUEUED = "QUEUED"
    ASSIGNED = "ASSIGNED"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ENDED = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED})
ON_NODE = frozenset({TaskState.ASSIGNED, TaskState.RUNNING})


class JobState(StrEnum):
    """Computed from the tasks' counters, never stored apart from them."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    PARTIALLY_COMPLETED = "PARTIALLY_COMPLETED"
    CANCELLED = "CANCELLED"


JOB_ENDED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.PARTIALLY_COMPLETED, JobState.CANCELLED})


class Outcome(StrEnum):
    """How one attempt ended, as the agent (or the loss of it) tells."""

    OK = "ok"
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    TIMED_OUT = "timed_out"
    SILENT = "silent"
    """No output for longer than the job allows."""
    NOT_FOUND = "not_found"
    """The program does not exist on the node or cannot be executed."""
    MEMORY = "memory"
    STAGING = "staging"
    """The work folder or a script in it could not be made."""
    CANCELLED = "cancelled"
    LOST = "lost"
    """The node, its agent or its launcher went away."""
    RETURNED = "returned"
    """Given back before it was started; costs nothing."""


class One(msgspec.Struct, frozen=True, tag="one", forbid_unknown_fields=True):
    """A job of a single task without an input."""

    @property
    def count(self) -> int:
        return 1

    def item(self, _index: int) -> str | None:
        return None


class Items(msgspec.Struct, frozen=True, tag="items", forbid_unknown_fields=True):
    """One task for each of the given texts (`:::` inputs, lines, JSON items as JSON text)."""

    items: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.items)

    def item(self, index: int) -> str | None:
        return self.items[index]


class Range(msgspec.Struct, frozen=True, tag="range", forbid_unknown_fields=True):
    """One task for each number from `first` to `last`, both included."""

    first: int
    last: int
    step: int = 1

    @property
    def count(self) -> int:
        return max(0, (self.last - self.first) // self.step + 1) if self.step else 0

    def item(self, index: int) -> str | None:
        return str(self.first + index * self.step)


Inputs = One | Items | Range


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Time limits of one attempt, in seconds; None means no limit."""

    attempt_seconds: float | None = None
    silence_seconds: float | None = None
    """Longest pause between two pieces of output."""


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the submitter asked for; never changed after the submit was acknowledged."""

    type: str
    payload: dict[str, Any]
    """Read by the job type only (`jobtypes/`)."""
    inputs: Inputs = One()
    name: str = ""
    requests: Resources = Resources()
    tags: tuple[str, ...] = ()
    node: NodeId | None = None
    env: dict[str, str] = {}
    priority: int = 0
    max_running: int | None = None
    max_attempts: int = 3
    limits: Limits = Limits()
    at_most_once: bool = False
    partial: bool = False
    """A failed task does not fail the job: it ends as PARTIALLY_COMPLETED."""


class Task(msgspec.Struct, frozen=True):
    """How one task stands. A frozen value: a change is a new value in the table.

    A task that was never placed has no record at all; it is QUEUED by definition, so that a range
    of a million tasks costs one row until it runs.
    """

    job_id: JobId
    index: int
    state: TaskState = TaskState.QUEUED
    attempt: int = 0
    """Number of the current or last run; 0 before the first. An answer with another number is stale."""
    node_id: NodeId | None = None
    """Where the current or last attempt runs or ran."""
    failures: int = 0
    losses: int = 0
    """Attempts that ended because the node went away; counted apart from failures."""
    excluded: tuple[NodeId, ...] = ()
    """Nodes that already failed it; tried again only when no other node can run it."""
    retry_at: float = 0.0
    """Steady time at which RETRYING ends."""
    started_at: float | None = None
    finished_at: float | None = None
    exit_code: int | None = None
    outcome: Outcome | None = None
    error: str = ""

    @property
    def key(self) -> TaskKey:
        return (self.job_id, self.index)

    @property
    def ended(self) -> bool:
        return self.state in ENDED


class Attempt(msgspec.Struct, frozen=True):
    """A run that did not become the task's accepted end; kept for the task's story."""

    job_id: JobId
    index: int
    attempt: int
    node_id: NodeId | None
    outcome: Outcome
    exit_code: int | None
    error: str
    started_at: float | None
    finished_at: float


class Counts(msgspec.Struct):
    """How many tasks of a job are in each state. Mutable: one per live job, owned by `mesh/`."""

    queued: int = 0
    assigned: int = 0
    running: int = 0
    retrying: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    def move(self, old: TaskState, new: TaskState) -> None:
        setattr(self, _FIELD[old], getattr(self, _FIELD[old]) - 1)
        setattr(self, _FIELD[new], getattr(self, _FIELD[new]) + 1)

    @property
    def total(self) -> int:
        return self.live + self.completed + self.failed + self.cancelled

    @property
    def live(self) -> int:
        return self.queued + self.assigned + self.running + self.retrying


_FIELD = {state: state.value.lower() for state in TaskState}


def job_state(counts: Counts, *, partial: bool, cancelled: bool) -> JobState:
    """The job's status from its counters and two facts of the job."""
    if counts.live:
        started = counts.total - counts.queued
        return JobState.RUNNING if started else JobState.QUEUED
    if cancelled and counts.cancelled:
        return JobState.CANCELLED
    if not counts.failed and not counts.cancelled:
        return JobState.COMPLETED
    return JobState.PARTIALLY_COMPLETED if partial and counts.completed else JobState.FAILED


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job's own row: everything about it that its tasks do not say."""

    id: JobId
    spec: JobSpec
    submitter: str
    """The operator's id, from its certificate."""
    key: str = ""
    """Drawn by the client: a submit that is repeated after a lost answer finds the first one by it."""
    created_at: float
    started_at: float | None = None
    completed_at: float | None = None
    cancelled_at: float | None = None
    cancel_reason: str = ""
