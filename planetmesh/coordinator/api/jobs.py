"""Jobs: hand in, look at, wait for, list, cancel. What is changed later stands in `edits`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from aiohttp import web

from planetmesh.coordinator.api.call import Call, Parts
from planetmesh.coordinator.api.checks import check_job, check_key, check_reason
from planetmesh.coordinator.api.lookup import (
    TURNS_MOST,
    ended_states,
    find_job,
    open_job,
    open_node,
    read_job,
)
from planetmesh.coordinator.views import (
    Sentences,
    live_job_view,
    never_runnable,
    stored_job_view,
    summary_view,
    with_spec,
)
from planetmesh.errors import Conflict, TooLarge
from planetmesh.jobtypes.registry import job_type
from planetmesh.mesh import effects as fx
from planetmesh.mesh import jobs
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId, is_node_id, new_job_id
from planetmesh.model.job import Job, JobSpec, JobState, staged_files
from planetmesh.settings import Settings
from planetmesh.wire.api import CancelJob, JobPage, JobView, SubmitJob, SubmittedJob

PAGE_MOST = 1000
PAGE_USUAL = 50
LIVE_JOBS_EACH = 10_000
"""Of one operator; a job of many tasks is the way to hand in more."""


async def submit_job(call: Call) -> web.StreamResponse:
    most = call.parts.settings.api_body_most_bytes
    asked = await call.body(SubmitJob, most_bytes=most)
    wait_seconds = call.wait_seconds()
    check_key(asked.key)
    if asked.key:
        async with call.parts.submits.lock(call.principal.id, asked.key):
            earlier = await call.parts.submits.earlier(call.parts.engine, call.principal.id, asked.key)
            job_id, warnings = (earlier, ()) if earlier else await _take_in(call, asked)
    else:
        job_id, warnings = await _take_in(call, asked)
    view = await _final_view(call, job_id, wait_seconds) or await view_of(call, job_id)
    return call.answer(SubmittedJob(view, warnings), status=201)


async def _take_in(call: Call, asked: SubmitJob) -> tuple[JobId, tuple[str, ...]]:
    """Check the job and hand it to the engine; it is on disk when this returns."""
    engine, own = call.parts.engine, call.principal.id
    call.parts.weights.refuse_too_much(engine.state, own, call.body_bytes)
    spec = _resolve_node(engine.state, asked.spec)
    spec = await checked(call.parts, spec)
    after, ended = await ended_states(call, spec.after)
    spec = msgspec.structs.replace(spec, after=after)
    now = engine.read_clock()
    kind = job_type(spec.type).kind(spec.payload)
    job = Job(id=new_job_id(), spec=spec, submitter=own, key=asked.key, created_at=now.wall, kind=kind)
    warning = never_runnable(engine.state, LiveJob(job))
    await call.parts.depot.use(job.id, staged_files(spec))

    def happen(state: MeshState, _now: Moment) -> fx.Effects:
        refuse_too_many(state, own)
        return jobs.on_job_submitted(state, job, ended)

    if asked.key:
        call.parts.submits.remember(own, asked.key, job.id)
    audited = call.audited(
        "submit", job.id, f"{spec.type}, {spec.task_count} task{'' if spec.task_count == 1 else 's'}"
    )
    for tried in range(TURNS_MOST):
        try:
            await engine.do(happen, also=audited)
            break
        except Conflict:
            if not after or tried == TURNS_MOST - 1:
                raise
            _after, ended = await ended_states(call, after)  # one of them has just ended
    call.parts.weights.note(job.id, own, call.body_bytes)
    return job.id, (warning,) if warning else ()


async def checked(
    parts: Parts, spec: JobSpec, check: Callable[[JobSpec, Settings], JobSpec] = check_job
) -> JobSpec:
    """Checking a million inputs takes a second: in a thread, so that heartbeats are not kept waiting."""
    if spec.inputs.count < PAGE_MOST:
        return check(spec, parts.settings)
    return await asyncio.to_thread(check, spec, parts.settings)


def _resolve_node(state: MeshState, spec: JobSpec) -> JobSpec:
    """A node may be asked for by its name too."""
    if spec.node is None or (is_node_id(spec.node) and spec.node in state.nodes):
        return spec
    return msgspec.structs.replace(spec, node=open_node(state, spec.node).node.id)


def refuse_too_many(state: MeshState, submitter: str) -> None:
    """Raise TooLarge if the submitter has as many live jobs as one may have."""
    if len(state.jobs) < LIVE_JOBS_EACH:
        return
    own = sum(live.job.submitter == submitter for live in state.jobs.values())
    if own >= LIVE_JOBS_EACH:
        raise TooLarge(
            f"There are {own} jobs of this submitter that have not ended; {LIVE_JOBS_EACH} is the limit.",
            hint="Hand in one job with many inputs instead: planetmesh run CMD ::: INPUT…",
        )


async def _final_view(call: Call, job_id: JobId, seconds: float) -> JobView | None:
    """The job's last view if it ends in time."""
    if seconds <= 0 or job_id not in call.parts.engine.state.jobs:
        return None
    with call.open_ended():
        return await call.parts.engine.job_ended(job_id, seconds)


async def view_of(call: Call, job_id: JobId, *, spec: bool = False) -> JobView:
    engine = call.parts.engine
    found = await read_job(engine, job_id, call.parts.shelf)
    if found.live is not None:
        view = live_job_view(engine.state, found.live)
    else:
        assert found.stored is not None
        view = stored_job_view(found.stored)
    if not spec:
        return view
    named = msgspec.structs.replace(
        view, submitter_name=call.parts.access.serials.name_of(found.job.submitter)
    )
    return with_spec(named, found.job.spec, masked=not call.may_see_secrets, whole=call.flag("spec"))


async def show_job(call: Call) -> web.StreamResponse:
    job_id = await find_job(call, call.part("job"))
    await _final_view(call, job_id, call.wait_seconds())
    return call.answer(await view_of(call, job_id, spec=True))


async def list_jobs(call: Call) -> web.StreamResponse:
    engine = call.parts.engine
    limit = call.number("limit", PAGE_USUAL, least=1, most=PAGE_MOST)
    submitter, before = call.text("submitter"), call.text("before")
    if submitter == "me":
        submitter = call.principal.id
    live = None if call.text("live") is None else call.flag("live")
    rows = await engine.store.jobs(limit, JobId(before) if before else None, submitter=submitter, live=live)
    made: Sentences = {}
    views: list[JobView] = []
    for row in rows:
        present = engine.state.jobs.get(row.id)
        views.append(live_job_view(engine.state, present, made) if present else summary_view(row))
    following = rows[-1].id if len(rows) == limit else None
    return call.answer(JobPage(tuple(views), following))


async def cancel_job(call: Call) -> web.StreamResponse:
    asked = await call.body(CancelJob, empty=CancelJob())
    reason = check_reason(asked.reason)
    found = await open_job(call, call.part("job"))
    job_id = found.job.id

    def happen(state: MeshState, now: Moment) -> fx.Effects:
        if job_id not in state.jobs:
            raise Conflict(f"Job {job_id} has ended already.", hint=f"planetmesh job {job_id}")
        return jobs.on_cancel(state, job_id, reason, now)

    try:
        await call.parts.engine.do(happen, also=call.audited("cancel", job_id, reason))
    except Conflict:
        # Asked twice, as by a client whose first answer was lost: it is so already.
        view = await view_of(call, job_id)
        if view.status is not JobState.CANCELLED:
            raise
        return call.answer(view)
    return call.answer(await view_of(call, job_id))
