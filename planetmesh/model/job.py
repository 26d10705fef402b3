"""Jobs and tasks: what was asked for (specs) and how it stands (records)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from planetmesh.model.blob import Made, StagedFile
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
    """The work folder, a script in it or an input could not be brought there."""
    OUTPUT = "output"
    """It ended well, but what it was to make is not there or cannot be taken."""
    INPUTS = "inputs"
    """Some of its inputs are no good, wherever it ran; what it made of the others is kept. Never retried."""
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


class Items(msgspec.Struct, frozen=True, tag="items", forbid_unknown_fields=True):
    """One task for each of the given texts (`:::` inputs, lines, JSON items as JSON text)."""

    items: tuple[str, ...]
    files: tuple[StagedFile | None, ...] = ()
    """The file that each item names, for the task of that item only; none at all if this is empty."""

    @property
    def count(self) -> int:
        return len(self.items)

    def text(self, number: int) -> str:
        return self.items[number]


class Range(msgspec.Struct, frozen=True, tag="range", forbid_unknown_fields=True):
    """One task for each number from `first` to `last`, both included."""

    first: int
    last: int
    step: int = 1

    @property
    def count(self) -> int:
        return max(0, (self.last - self.first) // self.step + 1) if self.step else 0

    def text(self, number: int) -> str:
        return str(self.first + number * self.step)


Inputs = One | Items | Range

AUTO_CHUNK = 0
"""As a spec's `chunk`: each task gets as many inputs as its node can do in a few seconds."""
AUTO_INPUTS_MOST = 1000
AUTO_BYTES_MOST = 64 * 1024
"""The largest such task: so many inputs, and so long together, since they are arguments of one command."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The four time limits, in seconds; None means no limit. The agent keeps the first two."""

    attempt_seconds: float | None = None
    """Of one attempt."""
    silence_seconds: float | None = None
    """Longest pause between two pieces of output."""
    queue_seconds: float | None = None
    """Until a task is given to a machine for the first time."""
    total_seconds: float | None = None
    """Of the whole task: from its first start to its end, with everything between."""


class Condition(StrEnum):
    """How another job must have ended before this one may run."""

    SUCCESS = "success"
    """COMPLETED, or PARTIALLY_COMPLETED where that is no failure."""
    FAILURE = "failure"
    END = "end"
    """In whichever way."""

    def is_met(self, state: JobState) -> bool:
        if self is Condition.SUCCESS:
            return state in {JobState.COMPLETED, JobState.PARTIALLY_COMPLETED}
        return self is Condition.END or state is JobState.FAILED


class After(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Run only once another job has ended, and so."""

    job: JobId
    on: Condition = Condition.SUCCESS


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the submitter asked for; never changed after the submit was acknowledged.

    But for `inputs` of a job that lingers: more may come behind them.
    """

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
    chunk: int = 1
    """How many inputs one task gets; `AUTO_CHUNK` lets the scheduler choose for each node."""
    after: tuple[After, ...] = ()
    max_failures: int | None = None
    """So many FAILED tasks end the job: what runs is stopped, what waits is dropped."""
    duplicates: bool = True
    """Its last stragglers may run a second time on idle machines; the first result counts."""
    files: tuple[StagedFile, ...] = ()
    """What lies in the folder of each of its tasks."""
    linger_seconds: float = 0.0
    """So long after its last task has ended it stays open for more inputs; 0: it ends with that task."""
    outputs: tuple[str, ...] = ()
    """Patterns, relative to a task's folder: the files that are taken from there when it has ended well."""

    @property
    def is_auto(self) -> bool:
        """Its tasks are cut when they are placed, so what is counted is inputs."""
        return self.chunk == AUTO_CHUNK

    @property
    def task_count(self) -> int:
        """How many tasks the job has. With automatic chunks each input counts as one."""
        return -(-self.inputs.count // max(1, self.chunk))

    def items_of(self, index: int, width: int = 1) -> tuple[str, ...]:
        """The inputs of a task; nothing for a job that has none."""
        if isinstance(self.inputs, One):
            return ()
        size = max(1, self.chunk)
        last = min((index + width) * size, self.inputs.count)
        return tuple(self.inputs.text(number) for number in range(index * size, last))

    def files_of(self, index: int, width: int = 1) -> tuple[StagedFile, ...]:
        """The files that the inputs of a task name, each once."""
        if not isinstance(self.inputs, Items) or not self.inputs.files:
            return ()
        size = max(1, self.chunk)
        own = self.inputs.files[index * size : (index + width) * size]
        return tuple(dict.fromkeys(file for file in own if file is not None))

    def chunk_at(self, index: int, most: int) -> tuple[str, ...]:
        """The inputs of an automatic chunk from `index` on: `most`, or what is allowed; one at least."""
        items = self.items_of(index, min(most, AUTO_INPUTS_MOST))
        size = 0
        for number, text in enumerate(items):
            size += len(text.encode()) + 1
            if size > AUTO_BYTES_MOST:
                return items[: max(1, number)]
        return items


class Terms(msgspec.Struct, frozen=True, array_like=True):
    """What the winning node cost when a task was placed, 0..1 each; stored so that people can see why."""

    rtt: float
    load: float
    queue: float
    unreliability: float
    cost: float
    """The weighted sum."""
    missing_input: float = 0.0


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
    width: int = 1
    """How many indexes it stands for, from `index` on: more than one only with automatic chunks."""
    twin_node: NodeId | None = None
    """Where a second attempt of it runs at the same time, because the first takes long."""
    twin_attempt: int = 0
    """Number of that attempt, or of the last such one: numbers are never used twice."""
    terms: Terms | None = None
    """Why it was placed where its current or last attempt ran."""
    made: Made | None = None
    """The files that its accepted end brought."""
    begun_at: float | None = None
    """Steady time at which it was first given to a node; only where the whole task has a time limit."""
    stdout_bytes: int = 0
    """What its last attempt that ended wrote to its standard output, also what was dropped of that."""

    @property
    def key(self) -> TaskKey:
        return (self.job_id, self.index)

    @property
    def attempts(self) -> int:
        """How many attempts there were so far."""
        return max(self.attempt, self.twin_attempt)

    def attempt_on(self, node_id: NodeId) -> int:
        """The number of the attempt that this node has in hand."""
        return self.twin_attempt if node_id == self.twin_node else self.attempt

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
    terms: Terms | None = None


class Counts(msgspec.Struct):
    """How many tasks of a job are in each state. Mutable: one per live job, owned by `mesh/`."""

    queued: int = 0
    assigned: int = 0
    running: int = 0
    retrying: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    def move(self, old: TaskState, new: TaskState, count: int = 1) -> None:
        setattr(self, _FIELD[old], getattr(self, _FIELD[old]) - count)
        setattr(self, _FIELD[new], getattr(self, _FIELD[new]) + count)

    @property
    def total(self) -> int:
        return self.live + self.completed + self.failed + self.cancelled

    @property
    def live(self) -> int:
        return self.queued + self.assigned + self.running + self.retrying


_FIELD = {state: state.value.lower() for state in TaskState}


class JobRule(NamedTuple):
    """A job is in this state if it holds, and no rule before it does."""

    state: JobState
    when: str
    """The same for people; docs/states.md has it."""
    holds: Callable[[Counts, bool, bool], bool]
    """Of its counters, whether it was handed in with `--partial`, and whether somebody cancelled it."""


JOB_RULES = (
    JobRule(JobState.QUEUED, "All its tasks are QUEUED.", lambda n, _p, _c: 0 < n.queued == n.total),
    JobRule(JobState.RUNNING, "Not all have ended.", lambda n, _p, _c: n.live > 0),
    JobRule(
        JobState.CANCELLED,
        "The job was cancelled, and at least one task ended by that.",
        lambda n, _partial, cancelled: cancelled and n.cancelled > 0,
    ),
    JobRule(JobState.COMPLETED, "All are COMPLETED.", lambda n, _p, _c: n.completed == n.total),
    JobRule(
        JobState.PARTIALLY_COMPLETED,
        "Some are COMPLETED, and the job was handed in with `--partial`.",
        lambda n, partial, _cancelled: partial and n.completed > 0,
    ),
    JobRule(JobState.FAILED, "Otherwise.", lambda _n, _p, _c: True),
)


def job_state(counts: Counts, *, partial: bool, cancelled: bool) -> JobState:
    """The job's status: the first rule that holds."""
    return next(rule.state for rule in JOB_RULES if rule.holds(counts, partial, cancelled))


def staged_files(spec: JobSpec) -> Iterator[StagedFile]:
    """All files that the job names, those of single inputs too."""
    yield from spec.files
    if isinstance(spec.inputs, Items):
        yield from (file for file in spec.inputs.files if file is not None)


class Edits(msgspec.Struct, frozen=True):
    """What was changed after the submit; None: as in the spec."""

    priority: int | None = None
    max_running: int | None = None
    """0: no limit any more."""


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
    kind: str = ""
    """`command ffmpeg`: how long such tasks take, and which machines are bad at them, is learned by it."""
    waits: tuple[After, ...] = ()
    """Of the spec's `after`, what has not come yet."""
    dropped_for: JobId | None = None
    """It was cancelled only because that job ended otherwise than `waits` says; nobody asked for it."""
    paused_at: float | None = None
    edits: Edits = Edits()
    rest: TaskState | None = None
    """How the tasks ended that never had a record (CANCELLED or FAILED); None while they are QUEUED."""
    rest_error: str = ""
    waiting_since: float | None = None
    """Steady time since which its fresh tasks could have been placed; only where that has a time limit."""

    @property
    def priority(self) -> int:
        return self.spec.priority if self.edits.priority is None else self.edits.priority

    @property
    def max_running(self) -> int | None:
        """How many of its tasks may be in machines' hands at a time."""
        changed = self.edits.max_running
        return self.spec.max_running if changed is None else changed or None
