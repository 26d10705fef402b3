"""The two time limits that the coordinator keeps: waiting for a machine, and a task from first start to end.

The agent keeps the other two (one attempt, silence). Time that a job is paused, or waits for others, does not
count as waiting. Nor does time without a coordinator count for either: steady time stands still then
(`model.clock`), since no other clock tells for sure how long that was.
"""

from __future__ import annotations

import msgspec

from planetmesh.mesh import effects as fx
from planetmesh.mesh import ends
from planetmesh.mesh.lifecycle import Cause, advance
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.job import ON_NODE, Outcome, Task, TaskState


def begun_at(live: LiveJob, task: Task, now_steady: float) -> float | None:
    """For a task that is given to a node: the first time counts."""
    if live.job.spec.limits.total_seconds is None:
        return None
    return now_steady if task.begun_at is None else task.begun_at


def restore(live: LiveJob, now_steady: float) -> None:
    """After a start of the coordinator, when all tasks are there: limits go on where they stood.

    What a machine has and was written by a planetmesh that did not keep it begins anew, and nothing begins in
    time to come. A task that waits to be tried once more has not begun.
    """
    since = live.job.waiting_since
    if since is not None:
        live.job = msgspec.structs.replace(live.job, waiting_since=min(since, now_steady))
    begun = []
    for task in live.tasks.values():
        has_begun = task.begun_at is not None or task.state in ON_NODE
        if has_begun and live.job.spec.limits.total_seconds is not None:
            at = min(now_steady, now_steady if task.begun_at is None else task.begun_at)
            begun.append(msgspec.structs.replace(task, begun_at=at))
    begun.sort(key=lambda task: task.begun_at or 0.0)
    live.tasks.update({task.index: task for task in begun})
    live.begun = {task.index: task.begun_at for task in begun if task.begun_at is not None}


def on_tick(state: MeshState, now: Moment) -> fx.Effects:
    """End what is over its limit."""
    found: fx.Effects = []
    for job_id in list(state.limited):
        live = state.jobs.get(job_id)
        if live is not None:
            found += _end_queued(state, live, now) + _end_long(state, live, now)
            if job_id in state.jobs:
                found += ends.finish_if_done(state, live, now)
    return found


def _end_queued(state: MeshState, live: LiveJob, now: Moment) -> fx.Effects:
    """All tasks that were never placed fail together; they get no rows, the job's row says it."""
    limit = live.job.spec.limits.queue_seconds
    if limit is None:
        return []
    if not live.untouched:
        return []
    since = live.job.waiting_since
    if live.is_held or since is None:
        held_since = None if live.is_held else now.steady
        if since == held_since:
            return []
        live.job = msgspec.structs.replace(live.job, waiting_since=held_since)
        return [fx.SaveJob(live.job)]
    if now.steady - since < limit:
        return []
    error = f"It waited {limit:g} s for a machine, which is its limit."
    live.job = msgspec.structs.replace(live.job, rest=TaskState.FAILED, rest_error=error)
    live.end_untouched(TaskState.FAILED)
    live.first_error = live.first_error or error
    state.line_up(live)
    return [fx.SaveJob(live.job), fx.JobChanged(live.job.id), *ends.stop_early(state, live, now)]


def _end_long(state: MeshState, live: LiveJob, now: Moment) -> fx.Effects:
    limit = live.job.spec.limits.total_seconds
    if limit is None:
        return []
    found: fx.Effects = []
    late = []
    for index, begun in live.begun.items():
        if now.steady - begun < limit:
            break
        late.append(index)
    for index in late:
        task = live.tasks.get(index)
        if task is None:  # another one's end stopped the whole job
            continue
        found += _end_task(state, live, task, limit, now)
    return found


def _end_task(state: MeshState, live: LiveJob, task: Task, limit: float, now: Moment) -> fx.Effects:
    stops = ends.take_from_hands(state, task)
    before = f" Before that: {task.error}" if task.error else ""
    failed = advance(
        task,
        Cause.GAVE_UP,
        finished_at=now.wall,
        outcome=Outcome.TIMED_OUT,
        error=f"It was not done {limit:g} s after its first start, which is its limit.{before}",
        twin_node=None,
    )
    return stops + ends.end_task(state, live, failed, now)
