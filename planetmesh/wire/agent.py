"""Coordinator↔agent messages. Array-like, so only append fields, always with a default.

The seed's names: REGISTER_NODE is `RegisterNode`, HEARTBEAT `Heartbeat`, ASSIGN_TASK `AssignTask`,
TASK_RESULT `TaskResult`. Numbers are bounded here, so that nothing an agent says can be not a number,
below zero, or more than a database holds. Every durable message from an agent (`TaskOutput`, `TaskResult`,
`TaskReturned`) counts one in the agent's outbox; `Acknowledge.upto` says up to which one the
coordinator has everything on disk.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from planetmesh.model.blob import Digest, Made, StagedFile
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Limits, Outcome
from planetmesh.model.node import NodeInfo, NodeLoad
from planetmesh.model.resources import Resources

Count = Annotated[int, Meta(ge=0, le=2**53)]
"""What JSON readers and SQLite keep exactly."""
Seconds = Annotated[float, Meta(ge=0.0, le=1e10)]
ExitCode = Annotated[int, Meta(ge=-(2**31), le=2**32)]
"""Windows' are unsigned."""
Sentence = Annotated[str, Meta(max_length=4096)]


class Held(msgspec.Struct, frozen=True, array_like=True):
    """An attempt that an agent has in hand when it says hello."""

    job_id: JobId
    index: Count
    attempt: Count
    running: bool
    """False: waiting in the agent's backlog, or ended with its result still in the outbox."""


# From the agent


class RegisterNode(msgspec.Struct, frozen=True, array_like=True, tag="register"):
    """The hello: the first message on a link. The node's id comes from its certificate only."""

    protocol: int
    info: NodeInfo
    instance: str
    """Drawn at each start of the agent process: tells a reconnect from a restart."""
    held: tuple[Held, ...] = ()
    first_unacknowledged: Count = 0
    """Number in the outbox of the first durable message that will be sent (again)."""


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag="heartbeat"):
    load: NodeLoad


class Pong(msgspec.Struct, frozen=True, array_like=True, tag="pong"):
    number: Count


class TaskStarted(msgspec.Struct, frozen=True, array_like=True, tag="started"):
    job_id: JobId
    index: Count
    attempt: Count


class TaskOutput(msgspec.Struct, frozen=True, array_like=True, tag="output"):
    """Durable. A piece of one stream; `offset` counts bytes of that stream in that attempt."""

    job_id: JobId
    index: Count
    attempt: Count
    stream: Annotated[int, Meta(ge=1, le=3)]
    """1 stdout, 2 stderr, 3 values of calls (wire/calls.py)."""
    offset: Count
    data: bytes


class TaskResult(msgspec.Struct, frozen=True, array_like=True, tag="result"):
    """Durable. How an attempt ended."""

    job_id: JobId
    index: Count
    attempt: Count
    outcome: Outcome
    exit_code: ExitCode | None = None
    """The command's own status; 128+N after signal N."""
    error: Sentence = ""
    wall_seconds: Seconds = 0.0
    cpu_seconds: Seconds = 0.0
    memory_peak_bytes: Count = 0
    stdout_bytes: Count = 0
    stderr_bytes: Count = 0
    """All that was written, also what was dropped beyond the cap."""
    made: Made | None = None
    """Files for the job; their blobs and the manifest are with the coordinator already."""


class TaskReturned(msgspec.Struct, frozen=True, array_like=True, tag="returned"):
    """Durable. Will not end here: recalled, draining, or no longer possible."""

    job_id: JobId
    index: Count
    attempt: Count
    reason: Sentence = ""
    started: bool = False
    """It had been started and was stopped: a task that may run only once cannot be given to another."""


class BlobsHeld(msgspec.Struct, frozen=True, array_like=True, tag="blobs_held"):
    """What the agent's cache has gained and lost since the last such message; large ones only."""

    gained: Annotated[tuple[Digest, ...], Meta(max_length=4096)] = ()
    lost: Annotated[tuple[Digest, ...], Meta(max_length=4096)] = ()


class Serving(msgspec.Struct, frozen=True, array_like=True, tag="serving"):
    """The agent hands blobs to other nodes there, at the address that its link comes from."""

    port: Annotated[int, Meta(ge=1, le=65535)]


class Leaving(msgspec.Struct, frozen=True, array_like=True, tag="leaving"):
    """The agent ends on purpose; its tasks were given back before this."""

    reason: Sentence = ""


FromAgent = (
    RegisterNode
    | Heartbeat
    | Pong
    | TaskStarted
    | TaskOutput
    | TaskResult
    | TaskReturned
    | BlobsHeld
    | Serving
    | Leaving
)
DURABLE = (TaskOutput, TaskResult, TaskReturned)

# To the agent


class Registered(msgspec.Struct, frozen=True, array_like=True, tag="registered"):
    """The answer to the hello: who you are and which of your tasks are no longer yours.

    Sent again on the same link, with nothing to drop, when an operator changed what agents go by.
    """

    node_id: NodeId
    name: str
    mesh_name: str
    heartbeat_seconds: float
    server_time: float
    """Epoch seconds, so that a node whose clock is far off can say so."""
    drop: tuple[Held, ...] = ()
    output_most_bytes: int = 0
    endpoints: tuple[str, ...] = ()
    coalesce_seconds: Seconds | None = None
    prefill_most: Count | None = None
    """None: by the agent's own settings."""


class OpenJob(msgspec.Struct, frozen=True, array_like=True, tag="open_job"):
    """What all tasks of a job share; sent once on a link before the job's first task."""

    job_id: JobId
    job_type: str
    payload: dict[str, Any]
    requests: Resources
    env: dict[str, str]
    limits: Limits
    at_most_once: bool = False
    submitter: str = ""
    """Jobs of one person may follow each other in one launcher."""
    files: tuple[StagedFile, ...] = ()
    """To lie in the folder of each task."""
    outputs: tuple[str, ...] = ()
    """Patterns of what is to be brought back from there."""


class AssignTask(msgspec.Struct, frozen=True, array_like=True, tag="assign"):
    job_id: JobId
    index: Count
    attempt: Count
    items: tuple[str, ...] = ()
    """Its inputs: one, several if the job is cut into chunks, none if it has none."""
    files: tuple[StagedFile, ...] = ()
    """The files that those name."""


class StopTask(msgspec.Struct, frozen=True, array_like=True, tag="stop"):
    """Cancel: not started ones are dropped, running ones killed. Answered by a `TaskResult`."""

    job_id: JobId
    index: Count
    attempt: Count


class RecallTasks(msgspec.Struct, frozen=True, array_like=True, tag="recall"):
    """Give these back if they have not started; started ones run on."""

    tasks: tuple[Held, ...]


class CloseJob(msgspec.Struct, frozen=True, array_like=True, tag="close_job"):
    """No more tasks of this job will come; forget its launcher and folder."""

    job_id: JobId


class Acknowledge(msgspec.Struct, frozen=True, array_like=True, tag="acknowledge"):
    """All durable messages with a number below `upto` are on the coordinator's disk."""

    upto: Count


class Ping(msgspec.Struct, frozen=True, array_like=True, tag="ping"):
    """Answered at once by `Pong`; the coordinator measures RTT by it."""

    number: Count


class Drain(msgspec.Struct, frozen=True, array_like=True, tag="drain"):
    """Take no new work (`on`), and with `now` give running tasks back too."""

    on: bool
    now: bool = False


class Goodbye(msgspec.Struct, frozen=True, array_like=True, tag="goodbye"):
    """The coordinator closes the link on purpose, and says why."""

    code: str
    reason: str


ToAgent = (
    Registered
    | OpenJob
    | AssignTask
    | StopTask
    | RecallTasks
    | CloseJob
    | Acknowledge
    | Ping
    | Drain
    | Goodbye
)
