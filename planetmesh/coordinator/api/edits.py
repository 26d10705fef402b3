"""Jobs that were handed in already: pause, resume, change, try the failed tasks again."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.api.checks import check_change
from planetmesh.coordinator.api.dropped import read_dropped
from planetmesh.coordinator.api.jobs import refuse_too_many, view_of
from planetmesh.coordinator.api.lookup import TURNS_MOST, Found, ended_states, open_job
from planetmesh.errors import BadInput, Conflict
from planetmesh.mesh import effects as fx
from planetmesh.mesh import jobs
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId
from planetmesh.model.job import Edits, Task, TaskState
from planetmesh.wire.api import ChangeJob, RetriedJob

RETRIED_MOST = 100_000
"""Failed tasks that one request queues again: each has a record in memory from then on."""
PAGE = 10_000


async def change_job(call: Call) -> web.StreamResponse:
    asked = await call.body(ChangeJob)
    if asked == ChangeJob():
        raise BadInput("Nothing was asked for.", hint="Say what to change: planetmesh edit ID --priority 5")
    check_change(asked, call.parts.settings)
    found = await open_job(call, call.part("job"))
    job_id = found.job.id
    after, ended = await ended_states(call, asked.after or ())
    edits = Edits(asked.priority, asked.max_running)

    def happen(state: MeshState, now: Moment) -> fx.Effects:
        if job_id not in state.jobs:
            raise Conflict(
                f"Job {job_id} has ended, so nothing of it can be changed any more.",
                hint=f"`planetmesh retry {job_id}` runs its failed tasks again.",
            )
        effects: fx.Effects = []
        if edits != Edits() or asked.after is not None:
            wanted = None if asked.after is None else after
            effects += jobs.on_edited(state, job_id, edits, wanted, ended)
        if asked.paused is True:
            effects += jobs.on_paused(state, job_id, now)
        elif asked.paused is False:
            effects += jobs.on_resumed(state, job_id)
        return effects

    await call.parts.engine.do(happen, also=call.audited("change", job_id, _in_words(asked)))
    return call.answer(await view_of(call, job_id))


def _in_words(asked: ChangeJob) -> str:
    given = {name: getattr(asked, name) for name in ("priority", "max_running", "paused")}
    words = [f"{name}={value}" for name, value in given.items() if value is not None]
    if asked.after is not None:
        words.append(f"after={','.join(each.job for each in asked.after) or 'nothing'}")
    return " ".join(words)


class _Retried(msgspec.Struct, frozen=True):
    again: int
    """Tasks that are queued again."""
    waiting: tuple[JobId, ...]
    """Jobs that wait for it again."""
    cancelled: tuple[JobId, ...]
    """Those that could not."""


async def retry_job(call: Call) -> web.StreamResponse:
    """One at a time: only a retry makes an ended job live again, so what was read stays true meanwhile."""
    async with call.parts.retries:
        for _try in range(TURNS_MOST):
            found = await open_job(call, call.part("job"))
            retried = await _retry(call, found)
            if retried is not None:
                break
        else:
            raise Conflict(f"Job {found.job.id} is just ending.", hint="Try again.")
    view = await view_of(call, found.job.id)
    return call.answer(RetriedJob(view, retried.again, view.tasks.failed, retried.waiting, retried.cancelled))


async def _retry(call: Call, found: Found) -> _Retried | None:
    """What was done; None if a job ended meanwhile, so that all is to be read anew."""
    engine, job_id = call.parts.engine, found.job.id
    own, size = found.job.submitter, 0
    if found.live is None:
        size = len(await asyncio.to_thread(msgspec.json.encode, found.job.spec))
        call.parts.weights.refuse_too_much(engine.state, own, size)
    failed = await _failed(call, job_id)
    next_index, ahead = await engine.store.unplaced(job_id)
    dropped = await read_dropped(call, job_id)
    done: list[_Retried] = []

    def happen(state: MeshState, _now: Moment) -> fx.Effects:
        live = state.jobs.get(job_id)
        if (live is None) != (found.live is None) or dropped.is_stale(state):
            return []
        if live is not None:
            job, counts = live.job, live.counts
        else:
            refuse_too_many(state, own)
            assert found.stored is not None
            job, counts = found.stored.job, found.stored.summary.counts
        earlier = jobs.Earlier(job, counts, next_index, ahead, tuple(failed))
        again, effects = jobs.on_retried(state, earlier)
        waiting, more = jobs.on_cause_retried(state, dropped.within_bounds(state), dropped.ended)
        known = [each.job.id for each in dropped.jobs] + dropped.left
        done.append(_Retried(again, waiting, tuple(each for each in known if each not in waiting)))
        return effects + more

    def forget() -> None:
        for each in (job_id, *(each.job.id for each in dropped.jobs)):
            call.parts.shelf.forget(each)

    forget()
    await engine.do(
        happen, also=call.audited("retry", job_id, f"{len(failed)} task{'' if len(failed) == 1 else 's'}")
    )
    forget()
    if not done:
        return None
    call.parts.weights.note(job_id, own, size)
    submitters = {each.job.id: each.job.submitter for each in dropped.jobs}
    for each in done[0].waiting:
        call.parts.weights.note(each, submitters[each], dropped.sizes[each])
    return done[0]


async def _failed(call: Call, job_id: JobId) -> list[Task]:
    """Those with a row; `on_retried` knows of the others, of which there may be millions."""
    failed: list[Task] = []
    start = 0
    while len(failed) < RETRIED_MOST:
        page = await call.parts.engine.store.rows(job_id, start, PAGE, {TaskState.FAILED})
        failed += page
        if len(page) < PAGE:
            break
        start = page[-1].index + 1
    return failed[:RETRIED_MOST]
