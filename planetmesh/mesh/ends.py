"""How tasks and jobs end, and what follows from it: the one place where a job leaves the tables.

Called by `reactor` (tasks that end on nodes), `jobs` (what people ask for) and `limits` (what time brings).
"""

from __future__ import annotations

from collections import deque

import msgspec

from planetmesh.mesh import effects as fx
from planetmesh.mesh.lifecycle import Cause, advance
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId
from planetmesh.model.job import ENDED, ON_NODE, Condition, Job, JobState, Outcome, Task, TaskState
from planetmesh.wire.agent import CloseJob, StopTask


def end_task(state: MeshState, live: LiveJob, task: Task, now: Moment) -> fx.Effects:
    """The task's one accepted end; the job's too, if it was the last or one failure too many."""
    assert task.state in ENDED
    assert task.twin_node is None
    state.put(live, task)
    found: fx.Effects = [fx.SaveTask(task), fx.JobChanged(live.job.id)]
    if task.state is TaskState.FAILED:
        live.first_error = live.first_error or task.error
        found += stop_early(state, live, now)
    return found + finish_if_done(state, live, now)


def stop_early(state: MeshState, live: LiveJob, now: Moment) -> fx.Effects:
    most = live.job.spec.max_failures
    if most is None or live.counts.failed < most or not live.counts.live:
        return []
    reason = f"{live.counts.failed} of its tasks failed, and the job was to stop at {most}"
    return drop_rest(state, live, reason, now)


def drop_rest(state: MeshState, live: LiveJob, reason: str, now: Moment) -> fx.Effects:
    """Cancel all that is live of a job. Tasks that were never placed get no row: the job's row says it."""
    found: fx.Effects = []
    if live.untouched:
        live.job = msgspec.structs.replace(
            live.job, rest=TaskState.CANCELLED, rest_error=cancelled_error(reason)
        )
        live.end_untouched(TaskState.CANCELLED)
        found += [fx.SaveJob(live.job), fx.JobChanged(live.job.id)]
    for task in list(live.tasks.values()):
        found += cancel_task(state, live, task, reason, now)
    state.line_up(live)
    return found


def cancel_task(state: MeshState, live: LiveJob, task: Task, reason: str, now: Moment) -> fx.Effects:
    """Its end by somebody's wish. The caller sees to the job's end."""
    stops = take_from_hands(state, task)
    cancelled = advance(
        task,
        Cause.CANCELLED,
        finished_at=now.wall,
        outcome=Outcome.CANCELLED,
        error=cancelled_error(reason),
        twin_node=None,
    )
    state.put(live, cancelled)
    return [fx.SaveTask(cancelled), *stops, fx.JobChanged(live.job.id)]


def cancelled_error(reason: str) -> str:
    return f"Cancelled: {reason.rstrip('.')}." if reason else "Cancelled."


def take_from_hands(state: MeshState, task: Task) -> fx.Effects:
    """Whoever has the task is told to stop it, and does not count as having it any more."""
    if task.state not in ON_NODE:
        return []
    stops: fx.Effects = []
    for node_id in (task.node_id, task.twin_node):
        if node_id is not None:
            state.release(node_id, task.key)
            stops.append(fx.Send(node_id, StopTask(task.job_id, task.index, task.attempt_on(node_id))))
    return stops


def finish_if_done(state: MeshState, live: LiveJob, now: Moment) -> fx.Effects:
    """When its last task has ended the job leaves the tables, and those that waited for it are settled.

    One that lingers stays for now, if all is well; see `lingering`. Who waits for the value of a task that
    failed without one is told at once.
    """
    if live.counts.live:
        return []
    job = live.job
    if job.spec.linger_seconds and not live.counts.failed and job.cancelled_at is None and job.rest is None:
        state.lingering.setdefault(job.id, now.steady)
        return []
    return finish(state, live, now)


def finish(state: MeshState, live: LiveJob, now: Moment) -> fx.Effects:
    """A job of which nothing is left leaves the tables."""
    found: fx.Effects = []
    over = deque([live])
    while over:
        each = over.popleft()
        found += _finish(state, each, now)
        for dependent in sorted(state.dependents.pop(each.job.id, ())):
            waiting = state.jobs[dependent]
            found += _settle(state, waiting, each.job.id, each.state, now)
            if not waiting.counts.live:
                over.append(waiting)
    return found


def _finish(state: MeshState, live: LiveJob, now: Moment) -> fx.Effects:
    job_id = live.job.id
    live.job = msgspec.structs.replace(live.job, completed_at=now.wall)
    state.remove_job(live)
    found: fx.Effects = [fx.SaveJob(live.job)]
    for node in state.nodes.values():
        if job_id in node.opened or job_id in node.carried:
            node.opened.discard(job_id)
            node.carried.discard(job_id)
            found.append(fx.Send(node.node.id, CloseJob(job_id)))
    found.append(fx.JobEnded(live.job, live.counts, live.first_error))
    return found


def _settle(state: MeshState, live: LiveJob, ended: JobId, how: JobState, now: Moment) -> fx.Effects:
    """A job that this one waited for has ended: it may run now, waits for others, or never will."""
    for after in live.job.waits:
        if after.job == ended and not after.on.is_met(how):
            live.job = msgspec.structs.replace(live.job, dropped_for=ended)
            return cancel_job(state, live, unmet_sentence(ended, how, after.on), now)
    live.job = msgspec.structs.replace(
        live.job, waits=tuple(after for after in live.job.waits if after.job != ended)
    )
    state.line_up(live)
    return [fx.SaveJob(live.job), fx.JobChanged(live.job.id)]


def unmet_sentence(ended: JobId, how: JobState, on: Condition) -> str:
    """Why a job that was to run after another never will."""
    wanted = {Condition.SUCCESS: "has succeeded", Condition.FAILURE: "has failed"}[on]
    return f"it was to run only once job {ended} {wanted}, and that job is {how}"


def cancel_job(state: MeshState, live: LiveJob, reason: str, now: Moment) -> fx.Effects:
    """The job is CANCELLED with all that is live of it. The caller sees to its end."""
    job: Job = msgspec.structs.replace(live.job, cancelled_at=now.wall, cancel_reason=reason)
    live.job = job
    found = drop_rest(state, live, reason, now)
    return [fx.SaveJob(live.job), *[each for each in found if not isinstance(each, fx.SaveJob)]]
