"""More inputs for a job that lingers: what comes one soon after the other need not be a job each time.

By a request each, or as messages on a WebSocket that stays open: whoever makes one call after the other
would spend as much time on requests as on all else.
"""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import WSMsgType, web

from planetmesh.coordinator.api.call import SMALL_BODY_BYTES, Call, parse
from planetmesh.coordinator.api.checks import check_more
from planetmesh.coordinator.api.door import SEND_SECONDS
from planetmesh.coordinator.api.jobs import checked
from planetmesh.coordinator.api.lookup import open_job
from planetmesh.errors import BadInput, Conflict, MeshError, NotFound, TooLarge
from planetmesh.mesh import effects as fx
from planetmesh.mesh import lingering
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId
from planetmesh.model.job import Items, Job
from planetmesh.wire.api import AddedInputs, AddInputs, ApiError, InputsTaken, MoreInputs
from planetmesh.wire.codec import to_json

IDLE_SECONDS = 15.0
"""A WebSocket on which nothing is said for about twice as long is closed: our clients open another."""


async def add_inputs(call: Call) -> web.StreamResponse:
    asked = await call.body(AddInputs, most_bytes=call.parts.settings.api_body_most_bytes)
    engine, part = call.parts.engine, call.part("job")
    live = engine.state.jobs.get(JobId(part))
    job = live.job if live is not None else (await open_job(call, part)).job
    await _check(call, job, asked)
    try:
        await _take(call, job.id, asked, call.body_bytes)
    except Conflict:
        # The first answer may have been lost, and the job be over since.
        known = (await open_job(call, job.id)).job.spec.inputs
        if not (isinstance(known, Items) and lingering.has_inputs(known, asked.items, asked.first)):
            raise
        call.parts.weights.note(job.id, call.principal.id, call.body_bytes)
    return call.answer(AddedInputs(job.id, asked.first + len(asked.items)))


async def hear_inputs(call: Call) -> web.StreamResponse:
    """Take messages one after the other, each answered once it is on disk, until the caller leaves."""
    socket = web.WebSocketResponse(compress=False, max_msg_size=SMALL_BODY_BYTES, heartbeat=IDLE_SECONDS)
    await socket.prepare(call.request)
    try:
        while True:
            with call.open_ended():
                message = await socket.receive()
            if message.type is not WSMsgType.BINARY:
                break
            call.still_allowed()
            answer = to_json(InputsTaken(await _hear(call, message.data)))
            async with asyncio.timeout(SEND_SECONDS):
                await socket.send_bytes(answer)
    except (ConnectionError, TimeoutError):
        call.connection.abort()
    return socket


async def _hear(call: Call, content: bytes) -> ApiError | None:
    try:
        asked = parse(content, MoreInputs, SMALL_BODY_BYTES)
        live = call.parts.engine.state.jobs.get(asked.job)
        if live is None:
            raise NotFound(f"There is no job {asked.job} that takes inputs.")
        more = AddInputs(asked.items, asked.first)
        await _check(call, live.job, more)
        await _take(call, asked.job, more, len(content))
    except MeshError as error:
        return ApiError(error.code, error.message, error.hint)
    return None


async def _take(call: Call, job_id: JobId, asked: AddInputs, size_bytes: int) -> None:
    """Put them behind those that the job has; they are on disk then."""
    engine = call.parts.engine

    def happen(state: MeshState, _now: Moment) -> fx.Effects:
        return lingering.on_inputs_added(state, job_id, asked.items, asked.first)

    call.parts.weights.refuse_too_much(engine.state, call.principal.id, size_bytes)
    await engine.do(happen, also=call.audited("add_inputs", job_id, str(len(asked.items))))
    call.parts.weights.note(job_id, call.principal.id, size_bytes)


async def _check(call: Call, job: Job, asked: AddInputs) -> None:
    """The new inputs must be such as the job could have been handed in with."""
    if not asked.items or asked.first < 0:
        raise BadInput("There are no inputs to add.")
    if not job.spec.linger_seconds:
        raise Conflict(
            f"Job {job.id} takes no more inputs: it was not handed in to linger.",
            hint="Hand in another job with them.",
        )
    settings = call.parts.settings
    if asked.first + len(asked.items) > settings.tasks_most:
        raise TooLarge(f"The job would have more than {settings.tasks_most} tasks, which is the limit.")
    await checked(call.parts, msgspec.structs.replace(job.spec, inputs=Items(asked.items)), check_more)
