"""What people ask of jobs that were handed in, through the API's own handlers.

What was answered must be on the disk and stay there; what was not answered may have happened or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from sim_coordinator import SimEngine

from planetmesh.coordinator.access import Connection
from planetmesh.coordinator.api.call import Call, Parts
from planetmesh.coordinator.api.edits import change_job, retry_job
from planetmesh.coordinator.api.jobs import cancel_job
from planetmesh.errors import MeshError
from planetmesh.model.identity import Principal, Role
from planetmesh.model.ids import JobId
from planetmesh.model.job import Job, TaskState
from planetmesh.wire.api import CancelJob, ChangeJob

if TYPE_CHECKING:
    from sim_world import Request, World


class Asked(Call):
    """A request without a socket."""

    def __init__(self, parts: Parts, job_id: JobId, body: object) -> None:
        from_desk = asyncio.Transport({"peername": ("192.0.2.9", 50_000)})
        super().__init__(parts, Connection(self.principal, from_desk), None)  # type: ignore[arg-type]
        self._job_id = job_id
        self._body = body

    @property
    def principal(self) -> Principal:
        return Principal("mesh", Role.OPERATOR, "ann", "serial", 1e12)

    def part(self, name: str) -> str:
        assert name == "job"
        return self._job_id

    async def body(self, kind: type[Any], **_options: Any) -> Any:
        assert isinstance(self._body, kind)
        return self._body

    def answer(self, value: Any, *, status: int = 200) -> Any:
        return value


def cancel(world: World, job_id: JobId, reason: str) -> Request:
    def is_met(job: Job) -> bool:
        return job.cancelled_at is not None

    return _request(world, job_id, (cancel_job, CancelJob(reason)), is_met)


def change(world: World, job_id: JobId, asked: ChangeJob) -> Request:
    def is_met(job: Job) -> bool:
        edits = job.edits
        return (
            asked.priority in (None, edits.priority)
            and asked.max_running in (None, edits.max_running)
            and asked.paused in (None, job.paused_at is not None)
            and (asked.after is None or set(job.waits) <= set(asked.after))
        )

    return _request(world, job_id, (change_job, asked), is_met)


def retry(world: World, job_id: JobId) -> Request:
    """Its failed tasks once more."""

    def is_met(job: Job) -> bool:
        return job.rest is not TaskState.FAILED

    return _request(world, job_id, (retry_job, None), is_met, is_retry=True)


def _request(
    world: World,
    job_id: JobId,
    asked: tuple[Callable[[Call], Awaitable[Any]], object],
    is_met: Callable[[Job], bool],
    *,
    is_retry: bool = False,
) -> Request:
    handler, body = asked

    async def serve(_engine: SimEngine) -> None:
        truth, what = world.truth, handler.__name__.replace("_", " ")
        wish = truth.on_asked(job_id, is_met, is_retry=is_retry)
        try:
            await handler(Asked(world.coordinator.parts, job_id, body))
        except MeshError as refused:
            truth.on_refused(wish)
            world.note(f"{what} {job_id}: {refused.message}")
            raise
        world.note(f"{what} {job_id} is done: {body}")
        world.counted[f"answered: {what}"] += 1
        truth.on_answered(wish)

    return serve
