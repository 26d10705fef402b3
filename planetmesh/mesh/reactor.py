"""Jobs and tasks: every change of them, as functions `on_<happening>`: state + facts + now → effects.

Each checks first, then changes the state, then returns its effects; never half of a change. An
answer about an attempt that is no longer the current one is stale and changes nothing.
"""

from __future__ import annotations

import heapq

import msgspec

from planetmesh.errors import BadInput, Conflict
from planetmesh.mesh import effects as fx
from planetmesh.mesh import fitness, health, retry, schedule
from planetmesh.mesh.lifecycle import Cause, advance
from planetmesh.mesh.state import LiveJob, LiveNode, MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import ENDED, ON_NODE, Attempt, Job, Outcome, Task, TaskState
from planetmesh.wire.agent import (
    AssignTask,
    CloseJob,
    OpenJob,
    StopTask,
    TaskResult,
    TaskReturned,
    TaskStarted,
)

MEAN_MEMORY = 0.8
"""Share of the old mean kept when one more attempt's time is learned."""
CANCEL_AHEAD_MOST = 10_000
"""After a restart each task before one that has a row gets a record."""
REST_SECONDS = 2.0
"""A node that gives work back unasked (it is shutting down, or full) is left alone for so long."""
NOT_AN_END = (Outcome.CANCELLED, Outcome.RETURNED)
"""Outcomes of attempts that were stopped on our behalf."""
LOSS_ERROR = "The machine it ran on went away."


def on_job_submitted(state: MeshState, job: Job) -> fx.Effects:
    """Take a checked job in. Its tasks need no rows until they are placed."""
    live = LiveJob(job)
    if not live.total:
        raise BadInput("A job needs at least one task.")
    state.jobs[job.id] = live
    state.line_up(live)
    return [fx.SaveJob(job), fx.JobChanged(job.id)]


def on_placed(state: MeshState, placement: schedule.Placement, now: Moment) -> fx.Effects:
    """Give a QUEUED task to a node."""
    live, node = state.jobs[placement.job_id], state.nodes[placement.node_id]
    before = live.task(placement.index)
    if before is None or not node.connected:
        return []
    task = advance(
        before,
        Cause.PLACED,
        attempt=before.attempt + 1,
        node_id=node.node.id,
        outcome=None,
        exit_code=None,
        started_at=None,
    )
    state.put(live, task)
    state.end_turn(live, task.excluded)
    node.hold(task.key, live.job.spec.requests, now.steady)
    found: fx.Effects = [fx.SaveTask(task)]
    if live.job.started_at is None:
        live.job = msgspec.structs.replace(live.job, started_at=now.wall)
        found.append(fx.SaveJob(live.job))
    if live.job.id not in node.opened:
        node.opened.add(live.job.id)
        found.append(fx.Send(node.node.id, _opening(live.job)))
    item = live.job.spec.inputs.item(task.index)
    found.append(fx.Send(node.node.id, AssignTask(task.job_id, task.index, task.attempt, item)))
    found.append(fx.JobChanged(live.job.id))
    return found


def _opening(job: Job) -> OpenJob:
    spec = job.spec
    return OpenJob(
        job_id=job.id,
        job_type=spec.type,
        payload=spec.payload,
        requests=spec.requests,
        env=spec.env,
        limits=spec.limits,
        at_most_once=spec.at_most_once,
        submitter=job.submitter,
    )


def on_task_started(state: MeshState, node_id: NodeId, started: TaskStarted, now: Moment) -> fx.Effects:
    """The node says that the attempt runs."""
    live, task = _current(state, node_id, started.job_id, started.index, started.attempt)
    if live is None or task is None or task.state is not TaskState.ASSIGNED:
        return []
    task = advance(task, Cause.STARTED, started_at=now.wall)
    state.put(live, task)
    return [fx.SaveTask(task, urgent=False), fx.JobChanged(live.job.id)]


def on_task_ended(state: MeshState, node_id: NodeId, result: TaskResult, now: Moment) -> fx.Effects:
    """One attempt ended on a node. Stale answers are dropped; the caller acknowledges them all the same."""
    live, task = _current(state, node_id, result.job_id, result.index, result.attempt)
    if live is None or task is None:
        return []
    node = state.nodes[node_id]
    node.release(task.key)
    _learn(live, node, result, state)
    if result.outcome in NOT_AN_END:
        # Nobody cancelled it here, or it would not count any more: else it would be given out again at once.
        node.resting_until = now.steady + REST_SECONDS
        return _give_back(state, live, task, now, ran=True)
    ended = msgspec.structs.replace(
        _found_again(task),
        outcome=result.outcome,
        exit_code=result.exit_code,
        error=result.error,
        started_at=task.started_at or max(0.0, now.wall - result.wall_seconds),
    )
    if result.outcome is Outcome.OK:
        return _end(state, live, advance(ended, Cause.SUCCEEDED, finished_at=now.wall), now)
    return _after_failure(state, live, ended, now)


def on_task_returned(state: MeshState, node_id: NodeId, returned: TaskReturned, now: Moment) -> fx.Effects:
    """The node gives a task back that it did not start, or stopped on our behalf; it costs nothing."""
    live, task = _current(state, node_id, returned.job_id, returned.index, returned.attempt)
    if live is None or task is None or task.state not in ON_NODE:
        return []
    node = state.nodes[node_id]
    if task.key not in node.recalled:
        node.resting_until = now.steady + REST_SECONDS
    node.release(task.key)
    return _give_back(state, live, task, now, ran=returned.started)


def on_task_lost(state: MeshState, job_id: JobId, index: int, now: Moment) -> fx.Effects:
    """The node that had this task in hand is gone; called for each by `nodes`."""
    live = state.jobs[job_id]
    task = live.tasks[index]
    if task.node_id is not None:
        state.nodes[task.node_id].release(task.key)
    ended = msgspec.structs.replace(task, outcome=Outcome.LOST, error=LOSS_ERROR)
    return _after_failure(state, live, ended, now)


def on_task_unseen(state: MeshState, job_id: JobId, index: int, now: Moment) -> fx.Effects:
    """The task was sent to an agent that never got it (the link was cut); it costs nothing."""
    live = state.jobs[job_id]
    task = live.tasks[index]
    if task.node_id is not None:
        state.nodes[task.node_id].release(task.key)
    return _give_back(state, live, task, now, ran=False)


def on_task_kept(
    state: MeshState, node_id: NodeId, job_id: JobId, index: int, attempt: int, now: Moment, *, running: bool
) -> fx.Effects | None:
    """A node says in its hello that it has this attempt; None if it is not the current one any more."""
    live, task = _current(state, node_id, job_id, index, attempt)
    if live is None or task is None:
        return None
    node = state.nodes[node_id]
    was_on_node = task.state in ON_NODE
    cause = Cause.KEPT if not (running and task.state is TaskState.ASSIGNED) else Cause.STARTED
    kept = advance(
        _found_again(task),
        cause,
        outcome=None,
        error="",
        started_at=task.started_at or (now.wall if running else None),
    )
    state.put(live, kept)
    if not was_on_node:
        node.hold(kept.key, live.job.spec.requests, now.steady)
    return [fx.SaveTask(kept), fx.JobChanged(job_id)]


def on_cancel(state: MeshState, job_id: JobId, reason: str, now: Moment) -> fx.Effects:
    """Cancel every live task of a job. Tasks that were never placed get no row: the job's end says it."""
    live = state.jobs[job_id]
    live.job = msgspec.structs.replace(live.job, cancelled_at=now.wall, cancel_reason=reason)
    found: fx.Effects = [fx.SaveJob(live.job)]
    live.cancel_untouched()
    for task in list(live.tasks.values()):
        found += _cancel_task(state, live, task, reason, now)
    return found + _finish_if_done(state, live, now)


def on_cancel_task(state: MeshState, job_id: JobId, index: int, reason: str, now: Moment) -> fx.Effects:
    """Cancel one task of a job; raises Conflict if it is so far from its turn that others would need rows."""
    live = state.jobs[job_id]
    task = live.task(index)
    if task is None:
        return []
    if index - live.next_index > CANCEL_AHEAD_MOST:
        raise Conflict(
            f"Task {job_id}/{index} is more than {CANCEL_AHEAD_MOST} tasks away from its turn.",
            hint="Cancel it nearer to its turn, or the whole job.",
        )
    return _cancel_task(state, live, task, reason, now) + _finish_if_done(state, live, now)


def _cancel_task(state: MeshState, live: LiveJob, task: Task, reason: str, now: Moment) -> fx.Effects:
    found: fx.Effects = []
    if task.state in ON_NODE and task.node_id is not None:
        node = state.nodes[task.node_id]
        node.release(task.key)
        found.append(fx.Send(node.node.id, StopTask(task.job_id, task.index, task.attempt)))
    error = f"Cancelled: {reason}" if reason else "Cancelled."
    cancelled = advance(task, Cause.CANCELLED, finished_at=now.wall, outcome=Outcome.CANCELLED, error=error)
    state.put(live, cancelled)
    return [fx.SaveTask(cancelled), *found, fx.JobChanged(live.job.id)]


def on_backoffs_over(state: MeshState, now: Moment) -> fx.Effects:
    """Queue again what has waited out its back-off."""
    found: fx.Effects = []
    while state.backoffs and state.backoffs[0][0] <= now.steady:
        retry_at, job_id, index = heapq.heappop(state.backoffs)
        live = state.jobs.get(job_id)
        task = live.tasks.get(index) if live else None
        if live is None or task is None or task.state is not TaskState.RETRYING or task.retry_at != retry_at:
            continue
        queued = advance(task, Cause.WAITED_OUT)
        state.put(live, queued)
        found += [fx.SaveTask(queued, urgent=False), fx.JobChanged(job_id)]
    return found


def still_counts(state: MeshState, node_id: NodeId, job_id: JobId, index: int, attempt: int) -> bool:
    """May this node still say something about this attempt?"""
    return _current(state, node_id, job_id, index, attempt)[1] is not None


def _current(
    state: MeshState, node_id: NodeId, job_id: JobId, index: int, attempt: int
) -> tuple[LiveJob, Task] | tuple[None, None]:
    """The live task if this node's attempt is still the one that counts, else nothing.

    A lost attempt still counts until a newer one is placed: its node may come back with it.
    """
    live = state.jobs.get(job_id)
    task = live.tasks.get(index) if live else None
    if live is None or task is None or task.attempt != attempt or task.node_id != node_id:
        return None, None
    if task.state in ON_NODE or task.outcome is Outcome.LOST:
        return live, task
    return None, None


def _found_again(task: Task) -> Task:
    """The node came back with an attempt that was given up as lost: the loss never was."""
    if task.state in ON_NODE:
        return task
    excluded = tuple(node_id for node_id in task.excluded if node_id != task.node_id)
    return msgspec.structs.replace(task, losses=task.losses - 1, excluded=excluded)


def _learn(live: LiveJob, node: LiveNode, result: TaskResult, state: MeshState) -> None:
    """Take the attempt's time and its good or bad end into the estimates."""
    if result.outcome in NOT_AN_END:
        return
    good = result.outcome is Outcome.OK
    if good:
        old = live.mean_seconds
        new = result.wall_seconds
        live.mean_seconds = new if old is None else old * MEAN_MEMORY + new * (1 - MEAN_MEMORY)
    reliability = health.reliability_after(node.node.reliability, state.settings, good=good)
    if reliability != node.node.reliability:
        node.node = msgspec.structs.replace(node.node, reliability=reliability)


def _give_back(state: MeshState, live: LiveJob, task: Task, now: Moment, *, ran: bool) -> fx.Effects:
    """Back into the queue without counting anything, unless it may have run and must not run twice.

    `ran` says so even where the news of its start was lost with a link.
    """
    if task.state not in ON_NODE:
        return []
    if live.job.spec.at_most_once and (ran or task.state is TaskState.RUNNING):
        lost = msgspec.structs.replace(task, outcome=Outcome.LOST, error="It was stopped while it ran.")
        return _after_failure(state, live, lost, now)
    back = advance(task, Cause.RETURNED, outcome=Outcome.RETURNED, started_at=None)
    state.put(live, back)
    return [fx.SaveTask(back), fx.JobChanged(live.job.id)]


def _after_failure(state: MeshState, live: LiveJob, task: Task, now: Moment) -> fx.Effects:
    """Retry or give up; `task` already carries how the attempt ended."""
    assert task.outcome is not None
    lost = task.outcome is Outcome.LOST
    counted = msgspec.structs.replace(
        task,
        losses=task.losses + lost,
        failures=task.failures + (not lost),
        excluded=_excluding(task),
    )
    decision = retry.decide(counted, live.job.spec, task.outcome, state.settings, state.spread)
    hopeless = task.outcome is Outcome.NOT_FOUND and not schedule.untried_node_exists(
        state, live, counted.excluded
    )
    if isinstance(decision, retry.GiveUp) or hopeless:
        reason = decision.reason if isinstance(decision, retry.GiveUp) else "no other machine could run it"
        error = f"{task.error} ({reason})".strip() if reason else task.error
        return _end(state, live, advance(counted, Cause.GAVE_UP, finished_at=now.wall, error=error), now)
    retry_at = now.steady + decision.delay_seconds
    waiting = advance(counted, Cause.WILL_RETRY, retry_at=retry_at)
    state.put(live, waiting)
    heapq.heappush(state.backoffs, (retry_at, live.job.id, task.index))
    return [fx.SaveTask(waiting), fx.SaveAttempt(_attempt(task, now)), fx.JobChanged(live.job.id)]


def _excluding(task: Task) -> tuple[NodeId, ...]:
    if task.node_id is None or task.node_id in task.excluded:
        return task.excluded
    return (*task.excluded, task.node_id)


def _attempt(task: Task, now: Moment) -> Attempt:
    assert task.outcome is not None
    return Attempt(
        task.job_id,
        task.index,
        task.attempt,
        task.node_id,
        task.outcome,
        task.exit_code,
        task.error,
        task.started_at,
        now.wall,
    )


def _end(state: MeshState, live: LiveJob, task: Task, now: Moment) -> fx.Effects:
    """The task's one accepted end."""
    assert task.state in ENDED
    state.put(live, task)
    if task.state is TaskState.FAILED and not live.first_error:
        live.first_error = task.error
    return [fx.SaveTask(task), fx.JobChanged(live.job.id), *_finish_if_done(state, live, now)]


def _finish_if_done(state: MeshState, live: LiveJob, now: Moment) -> fx.Effects:
    """When the last task has ended the job leaves the tables."""
    if live.counts.live:
        return []
    job_id = live.job.id
    live.job = msgspec.structs.replace(live.job, completed_at=now.wall)
    del state.jobs[job_id]
    state.line_up(live)
    found: fx.Effects = [fx.SaveJob(live.job)]
    for node in state.nodes.values():
        if job_id in node.opened or job_id in node.carried:
            node.opened.discard(job_id)
            node.carried.discard(job_id)
            found.append(fx.Send(node.node.id, CloseJob(job_id)))
    found.append(fx.JobEnded(live.job, live.counts, live.first_error))
    return found


def waiting_reasons(state: MeshState, live: LiveJob) -> list[tuple[LiveNode, fitness.Reason]]:
    """Why each node does not run the job's next task right now."""
    found = []
    for node in state.nodes.values():
        reason = fitness.objection(live.signature, node)
        found.append((node, reason or fitness.full(node)))
    return found
