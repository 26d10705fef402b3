"""Client↔coordinator: the JSON of `/v1`. Keys and state words are CLI.md's contract.

Times are RFC 3339 UTC texts. The OpenAPI document is made from these structs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from planetmesh.model.blob import Digest
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import After, Counts, JobSpec, JobState, TaskState
from planetmesh.model.node import Gpu, NodeState, Sandbox


def rfc3339(at: float | None) -> str | None:
    """`2026-01-31T12:00:00.123Z`, or nothing for nothing."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TaskCounts(msgspec.Struct, frozen=True):
    """Of a job with automatic chunks these are inputs (`JobView.counts_inputs`), else tasks."""

    total: int
    queued: int
    assigned: int
    running: int
    retrying: int
    completed: int
    failed: int
    cancelled: int

    @classmethod
    def of(cls, counts: Counts) -> TaskCounts:
        return cls(
            counts.total,
            counts.queued,
            counts.assigned,
            counts.running,
            counts.retrying,
            counts.completed,
            counts.failed,
            counts.cancelled,
        )


class JobView(msgspec.Struct, frozen=True, kw_only=True):
    id: JobId
    name: str
    type: str
    status: JobState
    priority: int
    submitter: str
    created_at: str
    started_at: str | None
    completed_at: str | None
    tasks: TaskCounts
    counts_inputs: bool = False
    """`tasks` counts inputs: with automatic chunks a task is cut when it is placed, so nobody knows before
    how many there will be. A task's `width` says how many inputs it stands for."""
    cancel_reason: str = ""
    error: str = ""
    """The first failed task's sentence, if any."""
    waiting: str = ""
    """Why nothing of it runs, with the next command, if that is so."""
    paused: bool = False
    after: tuple[JobId, ...] = ()
    """Jobs that must end before this one runs."""
    spec: JobSpec | None = None
    """Only for one job asked for by id; values of `env` are masked for viewers."""
    submitter_name: str = ""
    """What the submitter was called when he came; only for one job asked for by id."""


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    job_id: JobId
    index: int
    status: TaskState
    node: str | None
    node_id: NodeId | None
    attempts: int
    exit_code: int | None
    started_at: str | None
    finished_at: str | None
    last_error: str | None
    payload: str | None
    """The task's own input; several with blanks between."""
    outcome: str | None = None
    width: int = 1
    """How many indexes it stands for, from its own on: more than one only with automatic chunks."""
    files: int = 0
    """How many files it brought back."""
    files_bytes: int = 0
    manifest: str | None = None
    """The digest of the blob that lists them."""


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    id: NodeId
    name: str
    state: NodeState
    cpus: int
    memory_bytes: int
    gpus: tuple[Gpu, ...]
    tags: tuple[str, ...]
    running: int
    load: float | None
    rtt_ms: float | None
    reliability: float
    last_heartbeat_at: str | None
    draining: bool
    sandbox: Sandbox
    version: str
    backlog: int = 0
    hostname: str = ""
    os: str = ""
    arch: str = ""
    offer_cpus: float = 0.0
    offer_memory_bytes: int = 0
    memory_free_bytes: int | None = None
    """As its last heartbeat said; None while it is OFFLINE."""
    given_tags: tuple[str, ...] = ()
    """Of `tags` those that an operator gave it; the others it reports itself."""
    note: str = ""
    """Why the node gets no work, with the next command, if that is so."""


class SubmitJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/jobs. `key` makes a repeated submit (after a lost answer) find the first one."""

    spec: JobSpec
    key: str = ""


class SubmittedJob(msgspec.Struct, frozen=True):
    job: JobView
    warnings: tuple[str, ...] = ()


class AddInputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/jobs/{id}/inputs, for a job that lingers: `items` follow the `first` inputs that it has."""

    items: tuple[str, ...]
    first: int


class AddedInputs(msgspec.Struct, frozen=True):
    """They are on disk."""

    job: JobId
    count: int
    """How many inputs the job has now, at least."""


class MoreInputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message on the WebSocket at /v1/inputs: AddInputs for this job."""

    job: JobId
    items: tuple[str, ...]
    first: int


class InputsTaken(msgspec.Struct, frozen=True):
    """The answer to one such message: without an error they are on disk."""

    error: ApiError | None = None


class ChangeJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PATCH /v1/jobs/{id}: only what is given changes."""

    priority: int | None = None
    max_running: int | None = None
    """0: no limit any more."""
    paused: bool | None = None
    after: tuple[After, ...] | None = None
    """Replaces what it waits for; only while nothing of it has begun."""


class RetriedJob(msgspec.Struct, frozen=True):
    """POST /v1/jobs/{id}/retry: how many failed tasks are queued again, and how many are left."""

    job: JobView
    again: int
    left: int = 0
    waiting: tuple[JobId, ...] = ()
    """Jobs that were cancelled only because this one failed; they wait for it again."""
    cancelled: tuple[JobId, ...] = ()
    """Such jobs that stay cancelled; `explain` says why."""


class FindingView(msgspec.Struct, frozen=True):
    """One reason, with the next command to type."""

    sentence: str
    hint: str = ""
    about: str = ""
    """The node that it is about, if it is about one."""


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a task that did not become its end."""

    attempt: int
    node: str | None
    outcome: str
    exit_code: int | None
    error: str
    started_at: str | None
    finished_at: str | None
    why_there: str = ""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """GET …/explain: how a job, a task or a node stands and why."""

    subject: str
    status: str
    summary: str
    findings: tuple[FindingView, ...] = ()
    attempts: tuple[AttemptView, ...] = ()
    """Of a task: its runs so far, oldest first."""


class CancelJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: str = ""


class TaskPage(msgspec.Struct, frozen=True):
    """GET /v1/jobs/{id}/tasks?from=N&limit=M&status=S; `next` is None at the end."""

    tasks: tuple[TaskView, ...]
    next: int | None


class JobPage(msgspec.Struct, frozen=True):
    """GET /v1/jobs?limit=M&before=ID, newest first."""

    jobs: tuple[JobView, ...]
    next: str | None


class ChangeNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PATCH /v1/nodes/{id}: only what is given changes."""

    name: str | None = None
    tags: tuple[str, ...] | None = None
    draining: bool | None = None
    now: bool = False
    """With `draining`: give running tasks back instead of letting them end."""


class OpenPairing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    role: str = "agent"
    ttl_seconds: float = 600.0


class PairingWindow(msgspec.Struct, frozen=True):
    slot: str
    role: str
    expires_at: str
    address: str
    code: str = ""
    """Only in the answer to the one who opened it."""
    attempts_left: int = 5
    last_failures: tuple[str, ...] = ()
    """Addresses of those who tried a wrong code."""


class MeshStatus(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/status."""

    mesh: str
    mesh_id: str
    coordinator: str
    version: str
    role: str
    node: str
    nodes: dict[str, int]
    jobs: dict[str, int]
    storage_error: str = ""
    feed_number: int = 0
    fingerprint: str = ""


class SettingView(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/settings: one number of the mesh that an operator may tune. Times are seconds, sizes bytes."""

    name: str
    value: bool | int | float
    default: bool | int | float
    """What a reset gives back: the program's own, or that of the coordinator's settings.json."""
    changed: bool
    """An operator gave it this value."""
    live: bool
    """False: a new value is read at the coordinator's next start."""
    least: float
    most: float
    about: str


ChangeSettings = dict[str, bool | int | float | str | None]
"""PATCH /v1/settings: name → value. Texts like `10s` and `16MiB` will do; None resets."""


class RenewCertificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    csr_pem: str


class RenewedCertificate(msgspec.Struct, frozen=True):
    certificate_pem: str
    ca_pem: str


class OutputPiece(msgspec.Struct, frozen=True):
    """One line of GET /v1/jobs/{id}/output (NDJSON): a piece of a task's output, or the end."""

    number: int
    """Resume after this with `?after=N`."""
    index: int
    attempt: int
    stream: int
    """1 stdout, 2 stderr, 3 values of calls (wire/calls.py), which come only if asked for."""
    offset: int
    data: bytes


class BlobSource(msgspec.Struct, frozen=True):
    """POST /v1/blobs/{digest}/sources: the node to fetch it from; without one, the coordinator."""

    node: NodeId | None = None
    address: str = ""
    port: int = 0
    ticket: str = ""
    """To be shown to that node."""


class ValueKind(StrEnum):
    HELLO = "hello"
    """The first line: what comes now is numbered higher."""
    VALUES = "values"
    """A piece of a task's third stream; `wire/calls.py` has what stands in it."""
    ENDED = "ended"
    """The job is over, and all its values were told before."""
    RESYNC = "resync"
    """Some ends were not told: ask for the jobs that you wait for."""


class ValueLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of GET /v1/values (NDJSON): values of calls and ends of jobs, of all the caller's own jobs."""

    number: int
    """Resume after this with `?after=N`; then ask for the jobs that you wait for: ends are not told twice."""
    kind: ValueKind
    job: JobId = JobId("")
    index: int = 0
    attempt: int = 0
    offset: int = 0
    data: bytes = b""
    view: JobView | None = None


class Form(StrEnum):
    """Which results of a job: `?form=` of GET /v1/jobs/{id}/results."""

    TEXT = "text"
    """What the COMPLETED tasks wrote to their standard output, byte for byte, one behind the other."""
    JSON = "json"
    """TaskResult, one a line."""
    CODES = "codes"
    """TaskCode, one a line."""
    SHORT = "short"
    """TaskShort, one a line: COMPLETED tasks of whose standard output not all was kept, so no form has it."""


class Parse(StrEnum):
    """How a task's output becomes a value."""

    TEXT = "text"
    JSON = "json"
    """Output that is one JSON value becomes that value; other output stays text."""


class Encoding(StrEnum):
    """What a result's `value` is."""

    TEXT = "text"
    BASE64 = "base64"
    """Of bytes that are not UTF-8."""
    JSON = "json"
    """The value that the task wrote as JSON."""
    TYPED = "typed"
    """JSON in which `{"tuple": […]}` and the like stand for what JSON has no word for."""
    PICKLE = "pickle"
    """Base64 of a pickle, which whoever opens it must trust: only clients do, and only if told to."""
    CALLS = "calls"
    """A list with an object for each call of the task: `{"value"}`, also with `encoding` "typed" or "pickle",
    or `{"error": {"type", "message", "traceback", "p"}}`; null for a call that was not made."""


class TaskCode(msgspec.Struct, frozen=True, kw_only=True):
    """How one task ended."""

    index: int
    input: str | None
    inputs: tuple[str, ...] | None
    """Each of them, where a task has several; `input` has all in one text."""
    status: TaskState
    exit_code: int | None
    node: str | None
    attempts: int
    seconds: float | None
    """Of the accepted attempt."""
    error: str | None


class TaskResult(TaskCode, frozen=True, kw_only=True):
    """How one task ended and what came of it."""

    value: Any = None
    """Only of COMPLETED tasks, or what was made of a job of calls; what it is says `encoding`."""
    encoding: Encoding | None = None
    is_cut: bool = False
    """The task wrote more than `value` has."""
    dropped_bytes: int = 0
    """Of that, what was not kept, so that no form has it: it lay beyond `output_most_bytes`."""


class TaskShort(msgspec.Struct, frozen=True, kw_only=True):
    """A task that wrote more to its standard output than was kept (`output_most_bytes`)."""

    index: int
    kept_bytes: int
    written_bytes: int


class Digests(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/blobs/missing and /v1/blobs/read: which blobs are meant."""

    digests: tuple[Digest, ...]


class MissingBlob(msgspec.Struct, frozen=True):
    digest: Digest
    have: int = 0
    """Bytes of it that have arrived; an upload goes on there."""


class MissingBlobs(msgspec.Struct, frozen=True):
    """Of those that were asked for, in any order."""

    missing: tuple[MissingBlob, ...]


class StoredBlobs(msgspec.Struct, frozen=True):
    """POST /v1/blobs: how many of them were new."""

    stored: int


class TaskFiles(msgspec.Struct, frozen=True):
    """One line of GET /v1/jobs/{id}/files (NDJSON): a task that brought files."""

    index: int
    manifest: Digest
    count: int
    bytes: int
    """Of all of them together."""


class FeedEvent(msgspec.Struct, frozen=True):
    """One line of GET /v1/feed (NDJSON, `?after=N`).

    Kinds: `job` (data: JobView), `tasks` (data: list of TaskView), `node` (data: NodeView),
    `node_removed`, `pairing`, `resync` (you missed some: read the lists again), `hello`.
    """

    number: int
    kind: str
    at: str
    data: Any = None


class ApiError(msgspec.Struct, frozen=True):
    code: str
    message: str
    hint: str = ""


class ErrorAnswer(msgspec.Struct, frozen=True):
    error: ApiError
