"""What the worklist asks for next: the words between it and the desk. PURE."""

from __future__ import annotations

import msgspec

from planetmesh.model.ids import JobId
from planetmesh.wire.agent import AssignTask


class Start(msgspec.Struct, frozen=True):
    task: AssignTask
    gpus: tuple[str, ...]


class Kill(msgspec.Struct, frozen=True):
    job_id: JobId
    index: int
    attempt: int


class SetSlots(msgspec.Struct, frozen=True):
    job_id: JobId
    count: int


class RecallBacklog(msgspec.Struct, frozen=True):
    """Ask the launcher for everything that it has not started; `on_recalled` takes the answer."""

    job_id: JobId
    count: int


class GiveBack(msgspec.Struct, frozen=True):
    """Tell the coordinator that this will not end here."""

    task: AssignTask
    reason: str
    started: bool = False


class Cancelled(msgspec.Struct, frozen=True):
    """Tell the coordinator that this ended before it was started, or before its files had left."""

    job_id: JobId
    index: int
    attempt: int
    started: bool = False


class Fetch(msgspec.Struct, frozen=True):
    """See that the task's files are here and stay; `on_fetched` or `on_fetch_failed` takes the answer."""

    task: AssignTask


class StopFetch(msgspec.Struct, frozen=True):
    """Its files are not needed any more, whether they have come or not."""

    job_id: JobId
    index: int
    attempt: int


class StopCollect(msgspec.Struct, frozen=True):
    """What it made is not wanted any more."""

    job_id: JobId
    index: int
    attempt: int


class Close(msgspec.Struct, frozen=True):
    """Forget the job's launcher and folder."""

    job_id: JobId


Step = (
    Start | Kill | SetSlots | RecallBacklog | GiveBack | Cancelled | Fetch | StopFetch | StopCollect | Close
)
