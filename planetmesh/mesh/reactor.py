"""Tasks: what happens to them on nodes, as functions `on_<happening>`: state + facts + now → effects.

`jobs` has what people ask of jobs, `nodes` what happens to nodes, `ends` how tasks and jobs end.

Each checks first, then changes the state, then returns its effects; never half of a change. An
answer about an attempt that is no longer the current one is stale and changes nothing. A task that
lags may run twice (`stragglers`); then both attempts are current, and the first good end counts.
"""

from __future__ import annotations

import heapq

import msgspec

from planetmesh.mesh import effects as fx
from planetmesh.mesh import ends, fitness, health, limits, quarantine, retry, schedule, stragglers
from planetmesh.mesh.lifecycle import Cause, advance
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId, NodeId, TaskKey
from planetmesh.model.job import ON_NODE, Attempt, Job, Outcome, Task, TaskState
from planetmesh.wire.agent import AssignTask, OpenJob, StopTask, TaskResult, TaskReturned, TaskStarted

MEAN_MEMORY = 0.8
"""Share of the old mean kept when one more attempt's time is learned."""
REST_SECONDS = 2.0
"""A node that gives work back unasked (it is shutting down, or full) is left alone for so long."""
NOT_AN_END = (Outcome.CANCELLED, Outcome.RETURNED)
"""Outcomes of attempts that were stopped on our behalf."""
DONE = (Outcome.OK, Outcome.INPUTS)
"""Outcomes of attempts that did all that can be done: the first one is the task's end."""
LOSS_ERROR = "The machine it ran on went away."


def on_placed(state: MeshState, placement: schedule.Placement, now: Moment) -> fx.Effects:
    """Give a QUEUED task to a node."""
    live, node = state.jobs[placement.job_id], state.nodes[placement.node_id]
    before = live.task(placement.index)
    if before is None or not node.connected:
        return []
    task = advance(
        before,
        Cause.PLACED,
        attempt=before.attempts + 1,
        node_id=node.node.id,
        outcome=None,
        exit_code=None,
        started_at=None,
        terms=placement.terms,
        width=placement.width,
        begun_at=limits.begun_at(live, before, now.steady),
    )
    state.put(live, task)
    state.end_turn(live, task.excluded)
    state.hold(live, node, task.index, now.steady)
    found: fx.Effects = [fx.SaveTask(task)]
    if live.job.started_at is None:
        live.job = msgspec.structs.replace(live.job, started_at=now.wall)
        found.append(fx.SaveJob(live.job))
    return [*found, *_hand_over(live, node, task, task.attempt), fx.JobChanged(live.job.id)]


def on_twin_placed(state: MeshState, twin: stragglers.Twin, now: Moment) -> fx.Effects:
    """Let a task that lags run on a second node too."""
    live, node = state.jobs[twin.job_id], state.nodes[twin.node_id]
    before = live.tasks[twin.index]
    task = msgspec.structs.replace(before, twin_node=twin.node_id, twin_attempt=before.attempts + 1)
    state.put(live, task)
    state.hold(live, node, task.index, now.steady)
    handed = _hand_over(live, node, task, task.twin_attempt)
    return [fx.SaveTask(task), *handed, fx.JobChanged(live.job.id)]


def _hand_over(live: LiveJob, node: LiveNode, task: Task, attempt: int) -> fx.Effects:
    found: fx.Effects = []
    if live.job.id not in node.opened:
        node.opened.add(live.job.id)
        found.append(fx.Send(node.node.id, _opening(live.job)))
    spec = live.job.spec
    items, files = spec.items_of(task.index, task.width), spec.files_of(task.index, task.width)
    found.append(fx.Send(node.node.id, AssignTask(task.job_id, task.index, attempt, items, files)))
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
        files=spec.files,
        outputs=spec.outputs,
    )


def on_task_started(state: MeshState, node_id: NodeId, started: TaskStarted, now: Moment) -> fx.Effects:
    """The node says that the attempt runs."""
    live, task = _current(state, node_id, started.job_id, started.index, started.attempt)
    if live is None or task is None:
        return []
    state.touch(live, state.nodes[node_id], task.index, now.steady)
    if task.state is not TaskState.ASSIGNED or node_id == task.twin_node:
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
    learned = _learn(state, live, node, result, now)
    state.release(node_id, task.key)
    if result.outcome in NOT_AN_END:
        # Nobody cancelled it here, or it would not count any more: else it would be given out again at once.
        _rest(state, node, now)
    if task.twin_node is not None and result.outcome not in DONE:
        return learned + _lose_one(state, live, task, node_id, result, now)
    if result.outcome in NOT_AN_END:
        return learned + _give_back(state, live, task, now, ran=True)
    stops = _stop_the_other(state, task, node_id)
    task = _alone(task, node_id)
    ended = msgspec.structs.replace(
        _found_again(task),
        outcome=result.outcome,
        exit_code=result.exit_code,
        error=result.error,
        stdout_bytes=result.stdout_bytes,
        started_at=task.started_at or max(0.0, now.wall - result.wall_seconds),
    )
    if result.outcome is Outcome.OK:
        done = advance(ended, Cause.SUCCEEDED, finished_at=now.wall, made=result.made)
        return learned + stops + ends.end_task(state, live, done, now)
    if result.outcome is Outcome.INPUTS:
        ended = msgspec.structs.replace(ended, made=result.made)
    return learned + stops + _after_failure(state, live, ended, now)


def _rest(state: MeshState, node: LiveNode, now: Moment) -> None:
    node.resting_until = now.steady + REST_SECONDS
    state.room.rest(node.node.id, node.resting_until)


def _stop_the_other(state: MeshState, task: Task, node_id: NodeId) -> fx.Effects:
    """One of two attempts has won."""
    if task.twin_node is None:
        return []
    other = task.node_id if node_id == task.twin_node else task.twin_node
    if other is None:
        return []
    state.release(other, task.key)
    return [fx.Send(other, StopTask(task.job_id, task.index, task.attempt_on(other)))]


def _alone(task: Task, node_id: NodeId | None) -> Task:
    """The task with only the attempt that this node has."""
    if task.twin_node is None:
        return task
    if node_id == task.twin_node:
        return msgspec.structs.replace(
            task, node_id=task.twin_node, attempt=task.twin_attempt, twin_node=None, started_at=None
        )
    return msgspec.structs.replace(task, twin_node=None)


def _without(task: Task, node_id: NodeId) -> Task:
    """One of two attempts is over: the task with the other one."""
    return _alone(task, task.node_id if node_id == task.twin_node else task.twin_node)


def _lose_one(
    state: MeshState, live: LiveJob, task: Task, node_id: NodeId, result: TaskResult | None, now: Moment
) -> fx.Effects:
    """One of two attempts ended without success, or went away (no result); the other one goes on alone."""
    dropped = _alone(task, node_id)
    left = _without(task, node_id)
    if left.started_at is None and left.state is TaskState.RUNNING:
        left = msgspec.structs.replace(left, started_at=now.wall)
    if result is not None and result.outcome in NOT_AN_END:
        return _go_on_alone(state, live, left)
    outcome, error = (result.outcome, result.error) if result else (Outcome.LOST, LOSS_ERROR)
    lost = outcome is Outcome.LOST
    left = msgspec.structs.replace(
        left, losses=task.losses + lost, failures=task.failures + (not lost), excluded=_excluding(dropped)
    )
    code = result.exit_code if result else None
    kept = _attempt(msgspec.structs.replace(dropped, outcome=outcome, error=error, exit_code=code), now)
    return [fx.SaveAttempt(kept), *_go_on_alone(state, live, left)]


def _go_on_alone(state: MeshState, live: LiveJob, left: Task) -> fx.Effects:
    state.put(live, left)
    return [fx.SaveTask(left), fx.JobChanged(live.job.id)]


def on_task_returned(state: MeshState, node_id: NodeId, returned: TaskReturned, now: Moment) -> fx.Effects:
    """The node gives a task back that it did not start, or stopped on our behalf; it costs nothing."""
    live, task = _current(state, node_id, returned.job_id, returned.index, returned.attempt)
    if live is None or task is None or task.state not in ON_NODE:
        return []
    node = state.nodes[node_id]
    if task.key not in node.recalled:
        _rest(state, node, now)
    state.release(node_id, task.key)
    if task.twin_node is not None:
        return _go_on_alone(state, live, _without(task, node_id))
    return _give_back(state, live, task, now, ran=returned.started)


def on_task_lost(state: MeshState, key: TaskKey, node_id: NodeId, now: Moment) -> fx.Effects:
    """The node that had this task in hand is gone; called for each by `nodes`."""
    live = state.jobs[key[0]]
    task = live.tasks[key[1]]
    state.release(node_id, key)
    if task.twin_node is not None:
        return _lose_one(state, live, task, node_id, None, now)
    ended = msgspec.structs.replace(task, outcome=Outcome.LOST, error=LOSS_ERROR)
    return _after_failure(state, live, ended, now)


def on_task_unseen(state: MeshState, key: TaskKey, node_id: NodeId, now: Moment) -> fx.Effects:
    """The task was sent to an agent that never got it (the link was cut); it costs nothing."""
    live = state.jobs[key[0]]
    task = live.tasks[key[1]]
    state.release(node_id, key)
    if task.twin_node is not None:
        return _go_on_alone(state, live, _without(task, node_id))
    return _give_back(state, live, task, now, ran=False)


def on_task_kept(
    state: MeshState, node_id: NodeId, job_id: JobId, index: int, attempt: int, now: Moment, *, running: bool
) -> fx.Effects | None:
    """A node says in its hello that it has this attempt; None if it is not the current one any more."""
    live, task = _current(state, node_id, job_id, index, attempt)
    if live is None or task is None:
        return None
    if node_id == task.twin_node:
        return []
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
        state.hold(live, node, index, now.steady)
    elif cause is Cause.STARTED:
        state.touch(live, node, index, now.steady)
    return [fx.SaveTask(kept), fx.JobChanged(job_id)]


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
    if live is None or task is None:
        return None, None
    if task.twin_node == node_id and task.twin_attempt == attempt:
        return live, task
    if task.attempt != attempt or task.node_id != node_id:
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


def _learn(state: MeshState, live: LiveJob, node: LiveNode, result: TaskResult, now: Moment) -> fx.Effects:
    """Take the attempt's time and its good or bad end into the estimates."""
    if result.outcome in NOT_AN_END:
        return []
    good = result.outcome in DONE
    key = (result.job_id, result.index)
    if good:
        width = live.tasks[result.index].width
        record = node.record(live.kind)
        live.mean_seconds = _mean(live.mean_seconds, result.wall_seconds / width)
        record.mean_seconds = _mean(record.mean_seconds, result.wall_seconds / width)
        state.learned.add(node.node.id)
        changed = quarantine.on_good(state, live, node, key, now.steady)
        live.good_nodes.add(node.node.id)
    else:
        changed = quarantine.on_bad(
            state, live, node, key, seconds=result.wall_seconds, error=result.error, now_steady=now.steady
        )
    reliability = health.reliability_after(node.node.reliability, state.settings, good=good)
    if reliability != node.node.reliability:
        node.node = msgspec.structs.replace(node.node, reliability=reliability)
    return save_standing(state, changed)


def _mean(old: float | None, new: float) -> float:
    return new if old is None else old * MEAN_MEMORY + new * (1 - MEAN_MEMORY)


def save_standing(state: MeshState, changed: list[LiveNode]) -> fx.Effects:
    """Write down what is held against these nodes."""
    found: fx.Effects = []
    if changed:
        state.room.refit()
    for node in changed:
        node.node = msgspec.structs.replace(node.node, confined=quarantine.confined(node))
        found += [fx.SaveNode(node.node), fx.NodeChanged(node.node.id)]
    return found


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
        error = f"{task.error.removesuffix('.')} ({reason}).".lstrip() if reason else task.error
        failed = advance(counted, Cause.GAVE_UP, finished_at=now.wall, error=error)
        return ends.end_task(state, live, failed, now)
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
        task.terms,
    )


def waiting_reasons(state: MeshState, live: LiveJob) -> list[tuple[LiveNode, fitness.Reason]]:
    """Why each node does not run the job's next task right now."""
    found = []
    for node in state.nodes.values():
        reason = fitness.objection(live.signature, node)
        found.append((node, reason or fitness.full(node)))
    return found
