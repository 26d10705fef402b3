"""More inputs for a job that lingers: what comes one soon after the other need not be a job each time."""

from __future__ import annotations

import msgspec
from aiohttp import web

from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.api.checks import check_more
from planetmesh.coordinator.api.jobs import checked
from planetmesh.coordinator.api.lookup import open_job
from planetmesh.errors import BadInput, Conflict, TooLarge
from planetmesh.mesh import effects as fx
from planetmesh.mesh import lingering
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId
from planetmesh.model.job import Items, Job
from planetmesh.wire.api import AddedInputs, AddInputs


async def add_inputs(call: Call) -> web.StreamResponse:
    asked = await call.body(AddInputs, most_bytes=call.parts.settings.api_body_most_bytes)
    engine, items = call.parts.engine, asked.items
    if not items or asked.first < 0:
        raise BadInput("There are no inputs to add.")
    part = call.part("job")
    live = engine.state.jobs.get(JobId(part))
    job = live.job if live is not None else (await open_job(call, part)).job
    await _check(call, job, asked)

    def happen(state: MeshState, _now: Moment) -> fx.Effects:
        return lingering.on_inputs_added(state, job.id, items, asked.first)

    call.parts.weights.refuse_too_much(engine.state, call.principal.id, call.body_bytes)
    try:
        await engine.do(happen, also=call.audited("add_inputs", job.id, str(len(items))))
    except Conflict:
        # The first answer may have been lost, and the job be over since.
        known = (await open_job(call, job.id)).job.spec.inputs
        if not (isinstance(known, Items) and lingering.has_inputs(known, items, asked.first)):
            raise
    call.parts.weights.note(job.id, call.principal.id, call.body_bytes)
    return call.answer(AddedInputs(job.id, asked.first + len(items)))


async def _check(call: Call, job: Job, asked: AddInputs) -> None:
    """The new inputs must be such as the job could have been handed in with."""
    if not job.spec.linger_seconds:
        raise Conflict(
            f"Job {job.id} takes no more inputs: it was not handed in to linger.",
            hint="Hand in another job with them.",
        )
    settings = call.parts.settings
    if asked.first + len(asked.items) > settings.tasks_most:
        raise TooLarge(f"The job would have more than {settings.tasks_most} tasks, which is the limit.")
    await checked(call.parts, msgspec.structs.replace(job.spec, inputs=Items(asked.items)), check_more)
