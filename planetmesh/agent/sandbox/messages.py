"""What the agent and a job's launcher say to each other: tagged msgspec structs, sent in batches.

Commands go down, reports come up, and nothing else crosses. One frame is one batch. The agent reads
reports from a process that shares its user with foreign programs, so frames are bounded and typed.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

MIB = 1024 * 1024
OUTPUT_MOST_BYTES = 16 * MIB
"""Kept of one stream of one attempt when nobody says otherwise (settings.output_most_bytes)."""
PROCESSES_MOST = 512
"""In one task's tree: more than a large build needs, less than what makes a machine unusable."""


class Why(StrEnum):
    """Why an attempt ended."""

    EXIT = "exit"
    """By itself, with an exit code."""
    INPUTS = "inputs"
    """The same, and the call says that this is the fault of some of its inputs alone."""
    SIGNAL = "signal"
    """By a signal that the launcher did not send."""
    NOT_FOUND = "not_found"
    NOT_EXECUTABLE = "not_executable"
    CANNOT_START = "cannot_start"
    TIMEOUT = "timeout"
    SILENCE = "silence"
    MEMORY = "memory"
    PROCESSES = "processes"
    DISK = "disk"
    """The disk was almost full, and it was this task's doing."""
    KILLED = "killed"
    """The agent asked for it; also of one that had not started yet."""


class Limits(msgspec.Struct, frozen=True, array_like=True):
    """What one attempt may use. Zero means no limit."""

    timeout_seconds: float = 0.0
    silence_seconds: float = 0.0
    memory_bytes: int = 0
    processes: int = PROCESSES_MOST
    output_most_bytes: int = OUTPUT_MOST_BYTES
    cpu_seconds: int = 0
    file_bytes: int = 0


class Share(msgspec.Struct, frozen=True, array_like=True):
    """A path that the owner of the node offers to tasks."""

    path: str
    writable: bool = False


class LauncherSpec(msgspec.Struct, frozen=True, array_like=True):
    """One job on this node: what all its tasks have in common."""

    job_id: str
    folder: str
    """The job's work folder; it belongs to the task user (folders.make_job_folder)."""
    hidden: tuple[str, ...]
    """Never seen by a task: the state directory first of all."""
    shares: tuple[Share, ...] = ()
    env: dict[str, str] = {}
    limits: Limits = Limits()
    slots: int = 1
    nice: int = 5
    """Below the owner's own programs, above idle."""


class Start(msgspec.Struct, frozen=True, array_like=True, tag="start"):
    index: int
    attempt: int
    argv: list[str]
    env: dict[str, str] = {}
    folder: str = ""
    """Prepared by the runner (inputs staged) and kept. Empty: the launcher lends one and clears it."""
    keep: bool = False
    """Keep the lent folder too; its path comes with the end."""
    call: bytes = b""
    """Instead of `argv`: a `wire.worker.CallBlob` for a warm worker. Opened there only."""


class Kill(msgspec.Struct, frozen=True, array_like=True, tag="kill"):
    """SIGTERM, then after the grace SIGKILL to the whole tree."""

    index: int
    attempt: int
    grace_seconds: float = 2.0


class Slots(msgspec.Struct, frozen=True, array_like=True, tag="slots"):
    """How many may run at once from now on; what runs already goes on."""

    count: int


class Recall(msgspec.Struct, frozen=True, array_like=True, tag="recall"):
    """Give back up to `count` starts that still wait, the latest first."""

    count: int


class Close(msgspec.Struct, frozen=True, array_like=True, tag="close"):
    """Kill what runs, clear up, leave."""


class Adopt(msgspec.Struct, frozen=True, array_like=True, tag="adopt"):
    """Serve this job from now on; said to a launcher that has nothing in hand.

    `limits.cpu_seconds` and `file_bytes` bind a launcher for good, so they stand in its specification only.
    """

    job_id: str
    env: dict[str, str]
    limits: Limits
    slots: int


class Rest(msgspec.Struct, frozen=True, array_like=True, tag="rest"):
    """The job is over. Answered by `Rested` if nothing of it is left; else the launcher leaves."""


Command = Start | Kill | Slots | Recall | Close | Adopt | Rest


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The launcher stands, confined as said."""

    pid: int
    uid: int
    landlock_abi: int
    """0: no Landlock on this machine."""
    can_kill_job: bool = False
    """Its signals reach this job's processes and no others, so one call ends them all at once."""
    is_veiled: bool = False
    """In a mount namespace where the sockets of the owner's session are out of sight."""
    open_doors: tuple[str, ...] = ()
    """Sockets of programs outside that it could connect to and that run things for whoever asks."""


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """The launcher could not confine itself; it has left."""

    message: str


class Started(msgspec.Struct, frozen=True, array_like=True, tag="started"):
    index: int
    attempt: int
    pid: int
    at: float


class Output(msgspec.Struct, frozen=True, array_like=True, tag="output"):
    index: int
    attempt: int
    stream: int
    """1 is stdout, 2 is stderr, 3 what a call returns."""
    offset: int
    data: bytes


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="ended"):
    """The one end of an attempt. All its output has been sent before."""

    index: int
    attempt: int
    why: Why
    exit_code: int
    """As a shell would say it: 128 + signal, 127 not found, 126 not executable."""
    signal: int = 0
    message: str = ""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    """The kernel's high-water mark; never less than the launcher's own size (vfork shares its pages)."""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    """Written by the task; what lies beyond output_most_bytes was dropped."""
    folder: str = ""


class Recalled(msgspec.Struct, frozen=True, array_like=True, tag="recalled"):
    """These (index, attempt) never started and never will from here."""

    attempts: list[tuple[int, int]]


class Rested(msgspec.Struct, frozen=True, array_like=True, tag="rested"):
    """No process and no file of the job is left; another may come."""


Report = Ready | Refused | Started | Output | Ended | Recalled | Rested
