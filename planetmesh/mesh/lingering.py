"""Jobs that stay open for a while after their last task, for inputs that come one soon after the other.

Whoever calls a function again and again, each time waiting for its value, would else pay for a job each
time: a row, a launcher and a worker. `state.lingering` has those that wait with nothing left to do.
"""

from __future__ import annotations

import msgspec

from planetmesh.errors import Conflict
from planetmesh.mesh import effects as fx
from planetmesh.mesh import ends
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId
from planetmesh.model.job import Items, Outcome
from planetmesh.wire.agent import TaskResult


def on_inputs_added(state: MeshState, job_id: JobId, items: tuple[str, ...], first: int) -> fx.Effects:
    """Take further inputs in, behind the `first` that the job has; each becomes a task, or a part of one.

    Twice is once. Raises Conflict if the job takes none any more, or has other inputs from there on.
    """
    live = state.jobs.get(job_id)
    inputs = live.job.spec.inputs if live is not None else None
    if live is None or not isinstance(inputs, Items) or not is_open(state, job_id):
        raise Conflict(f"Job {job_id} takes no more inputs.", hint="Hand in a job with them.")
    if has_inputs(inputs, items, first):
        return []
    if inputs.count != first:
        raise Conflict(f"Job {job_id} has {inputs.count} inputs, not {first}.")
    spec = msgspec.structs.replace(live.job.spec, inputs=Items(inputs.items + items))
    live.job = msgspec.structs.replace(live.job, spec=spec)
    live.total += len(items)
    live.counts.queued += len(items)
    state.lingering.pop(job_id, None)
    state.line_up(live)
    return [fx.SaveJob(live.job, more=items), fx.JobChanged(job_id)]


def has_inputs(inputs: Items, items: tuple[str, ...], first: int) -> bool:
    """Whether these are among them already, at that place."""
    return inputs.items[first : first + len(items)] == items


def is_open(state: MeshState, job_id: JobId) -> bool:
    """A live job that was handed in to linger, and of which nothing was dropped."""
    job = state.jobs[job_id].job
    return job.spec.linger_seconds > 0 and job.cancelled_at is None and job.rest is None


def can_wait(state: MeshState, result: TaskResult) -> bool:
    """Whether this end may be taken in a moment later: the job stays open, and nothing waits for the room.

    Who calls again and again makes the next call as soon as he has the value, which does not come this way:
    then both are one change.
    """
    live = state.jobs.get(result.job_id)
    if live is None or state.waiting():
        return False
    return result.outcome is Outcome.OK and is_open(state, result.job_id)


def on_tick(state: MeshState, now: Moment) -> fx.Effects:
    """End those for which nothing has come for long enough."""
    found: fx.Effects = []
    for job_id, since in list(state.lingering.items()):
        live = state.jobs.get(job_id)
        if live is None or live.counts.live:
            # Ended by somebody's wish, or some of its tasks are tried again.
            del state.lingering[job_id]
        elif now.steady - since >= live.job.spec.linger_seconds:
            del state.lingering[job_id]
            found += ends.finish(state, live, now)
    return found
