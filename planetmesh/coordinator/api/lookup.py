"""From what somebody typed to the job or node that is meant: ids, beginnings of them, names, `last`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import msgspec

from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.api.memory import Shelf
from planetmesh.coordinator.engine import Engine
from planetmesh.coordinator.views import find_node
from planetmesh.errors import BadInput, NotFound, StorageFailed
from planetmesh.mesh import effects as fx
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId, NodeId, is_job_id
from planetmesh.model.job import After, Job, JobState
from planetmesh.store.jobs import StoredJob

NEWEST = "last"
"""Stands for the caller's newest job."""
TURNS_MOST = 3
"""Turns of the engine that a reader waits for the end of a job to be written."""
SHOWN = 5
"""Candidates named when something is ambiguous."""


async def find_job(call: Call, text: str) -> JobId:
    """The one job that is meant; raises NotFound, or BadInput naming the candidates."""
    engine = call.parts.engine
    if text == NEWEST:
        return await _newest(call)
    if is_job_id(text) and (text in engine.state.jobs or await engine.store.job(JobId(text))):
        return JobId(text)
    found = await engine.store.find_jobs(text) if text.strip() else []
    if len(found) > 1:
        found = await _named_exactly(engine, found, text) or found
    if not found:
        raise NotFound(f"There is no job '{text}'.", hint="`planetmesh jobs` lists them.")
    if len(found) > 1:
        raise BadInput(
            f"'{text}' may mean several jobs: {_listed(found)}.",
            hint="Give more of the id of the one you mean.",
        )
    return found[0]


async def _newest(call: Call) -> JobId:
    own = await call.parts.engine.store.jobs(1, submitter=call.principal.id)
    if not own:
        raise NotFound("You have not handed in a job yet.", hint="`planetmesh run CMD` does.")
    return own[0].id


async def _named_exactly(engine: Engine, found: list[JobId], text: str) -> list[JobId]:
    """A name that was typed in full means that job, although longer ones begin with it."""
    exact: list[JobId] = []
    for job_id in found:
        live = engine.state.jobs.get(job_id)
        stored = None if live else await engine.store.job(job_id)
        name = live.job.spec.name if live else stored.summary.name if stored else ""
        if name == text:
            exact.append(job_id)
    return exact


class Found(msgspec.Struct, frozen=True):
    """A job wherever it is: in the tables while it lives, in the store afterwards."""

    job: Job
    live: LiveJob | None
    stored: StoredJob | None


async def open_job(call: Call, text: str) -> Found:
    """The job that is meant, with its spec."""
    return await read_job(call.parts.engine, await find_job(call, text), call.parts.shelf)


async def read_job(engine: Engine, job_id: JobId, shelf: Shelf) -> Found:
    """The job as it stands; one whose end is just being written is waited for."""
    for _try in range(TURNS_MOST):
        live = engine.state.jobs.get(job_id)
        if live is not None:
            return Found(live.job, live, None)
        stored = await _stored(engine, job_id, shelf)
        if stored.summary.completed_at is not None:
            return Found(stored.job, None, stored)
        # It has left the tables, and the disk does not know yet: the commit of this turn is on its way.
        with suppress(StorageFailed):
            await engine.do(_nothing)
    stored = await _stored(engine, job_id, shelf)
    return Found(stored.job, None, stored)


async def ended_states(
    call: Call, conditions: Iterable[After]
) -> tuple[tuple[After, ...], dict[JobId, JobState]]:
    """The jobs that another waits for, by their ids, and how those ended that have.

    One that ends before the turn is not among them: the turn raises Conflict, and this is to be asked anew.
    """
    resolved, ended = [], {}
    for after in conditions:
        found = await open_job(call, after.job)
        resolved.append(msgspec.structs.replace(after, job=found.job.id))
        if found.stored is not None:
            ended[found.job.id] = found.stored.summary.state
    return tuple(dict.fromkeys(resolved)), ended


async def _stored(engine: Engine, job_id: JobId, shelf: Shelf) -> StoredJob:
    stored = await shelf.read(engine, job_id)
    if stored is None:
        raise NotFound(f"There is no job '{job_id}' any more.", hint="`planetmesh jobs` lists them.")
    return stored


def _nothing(_state: MeshState, _now: Moment) -> fx.Effects:
    return []


def open_node(state: MeshState, text: str) -> LiveNode:
    """The one node that is meant; raises NotFound, or BadInput naming the candidates."""
    found = find_node(state, text.strip()) if text.strip() else []
    if not found:
        raise NotFound(f"There is no node '{text}'.", hint="`planetmesh nodes` lists them.")
    if len(found) > 1:
        names = [state.nodes[NodeId(each)].node.name for each in found]
        raise BadInput(
            f"'{text}' may mean several nodes: {_listed(names)}.", hint="Give more of the name or id."
        )
    return state.nodes[found[0]]


def _listed(names: list[JobId] | list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
