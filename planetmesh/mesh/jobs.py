"""Jobs: what people ask of them. Hand in, cancel, pause, resume, change, try the failed tasks again.

Same rules as `reactor`, which has what happens to tasks on nodes: state + facts + now → effects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from planetmesh.errors import BadInput, Conflict
from planetmesh.mesh import effects as fx
from planetmesh.mesh import ends
from planetmesh.mesh.lifecycle import Cause, advance
from planetmesh.mesh.live_job import LiveJob
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import After, Counts, Edits, Job, JobState, Task, TaskState
from planetmesh.wire.agent import Held, RecallTasks

CANCEL_AHEAD_MOST = 10_000
"""After a restart each task before one that has a row gets a record."""


def on_job_submitted(state: MeshState, job: Job, ended: dict[JobId, JobState] | None = None) -> fx.Effects:
    """Take a checked job in. Its tasks need no rows until they are placed.

    `ended`: how those of the jobs that it waits for ended that are not live any more. Raises BadInput if
    it could never run, Conflict if a job that it waits for is neither live nor in `ended`.
    """
    waits = _open_conditions(state, job.spec.after, ended or {})
    live = LiveJob(msgspec.structs.replace(job, waits=waits))
    if not live.total:
        raise BadInput("A job needs at least one task.")
    state.add_job(live)
    return [fx.SaveJob(live.job, new=True), fx.JobChanged(job.id)]


def _open_conditions(
    state: MeshState, conditions: Iterable[After], ended: dict[JobId, JobState]
) -> tuple[After, ...]:
    """Those that are still to come; raises BadInput for one that never will."""
    waits = []
    for after in conditions:
        if after.job in state.jobs:
            waits.append(after)
            continue
        if after.job not in ended:
            raise Conflict(f"Job {after.job} is not known.", hint="`planetmesh jobs` lists them.")
        if not after.on.is_met(ended[after.job]):
            raise BadInput(
                f"This would never run: {ends.unmet_sentence(after.job, ended[after.job], after.on)}.",
                hint=f"`planetmesh retry {after.job}` runs its failed tasks again.",
            )
    return tuple(waits)


def on_cancel(state: MeshState, job_id: JobId, reason: str, now: Moment) -> fx.Effects:
    """Cancel every live task of a job."""
    live = state.jobs[job_id]
    return ends.cancel_job(state, live, reason, now) + ends.finish_if_done(state, live, now)


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
    return ends.cancel_task(state, live, task, reason, now) + ends.finish_if_done(state, live, now)


def on_paused(state: MeshState, job_id: JobId, now: Moment) -> fx.Effects:
    """Place nothing more of it; what runs goes on, what waits at a node comes back. Twice is once."""
    live = state.jobs[job_id]
    if live.job.paused_at is not None:
        return []
    live.job = msgspec.structs.replace(live.job, paused_at=now.wall)
    state.line_up(live)
    return [fx.SaveJob(live.job), *_recall_backlog(state, live), fx.JobChanged(job_id)]


def _recall_backlog(state: MeshState, live: LiveJob) -> fx.Effects:
    recalled: dict[NodeId, list[Held]] = {}
    for task in live.tasks.values():
        if task.state is TaskState.ASSIGNED and task.node_id is not None:
            node = state.nodes[task.node_id]
            if node.connected and task.key not in node.recalled:
                node.recalled.add(task.key)
                held = Held(task.job_id, task.index, task.attempt, running=False)
                recalled.setdefault(task.node_id, []).append(held)
    return [fx.Send(node_id, RecallTasks(tuple(held))) for node_id, held in recalled.items()]


def on_resumed(state: MeshState, job_id: JobId) -> fx.Effects:
    """Place its tasks again. Twice is once."""
    live = state.jobs[job_id]
    if live.job.paused_at is None:
        return []
    live.job = msgspec.structs.replace(live.job, paused_at=None)
    state.line_up(live)
    return [fx.SaveJob(live.job), fx.JobChanged(job_id)]


def on_edited(
    state: MeshState,
    job_id: JobId,
    edits: Edits,
    after: tuple[After, ...] | None = None,
    ended: dict[JobId, JobState] | None = None,
) -> fx.Effects:
    """Change what may be changed while a job lives; what is None stays.

    `after` replaces what it waits for; `ended` is as in `on_job_submitted`. Raises BadInput for a circle.
    """
    live = state.jobs[job_id]
    waits = live.job.waits
    if after is not None:
        if live.counts.queued < live.total:
            raise Conflict(f"Job {job_id} has begun already, so it cannot wait for others any more.")
        waits = _open_conditions(state, after, ended or {})
        _refuse_circle(state, job_id, waits)
    merged = Edits(
        priority=live.job.edits.priority if edits.priority is None else edits.priority,
        max_running=live.job.edits.max_running if edits.max_running is None else edits.max_running,
    )
    state.leave_lines(live)
    for each in live.job.waits:
        state.forget_dependent(each.job, job_id)
    live.job = msgspec.structs.replace(live.job, edits=merged, waits=waits)
    for each in waits:
        state.dependents.setdefault(each.job, set()).add(job_id)
    state.line_up(live)
    return [fx.SaveJob(live.job), fx.JobChanged(job_id)]


def _refuse_circle(state: MeshState, job_id: JobId, waits: tuple[After, ...]) -> None:
    """Raise BadInput if a job would wait for itself, by way of others."""
    seen: set[JobId] = set()
    ahead: list[tuple[JobId, tuple[JobId, ...]]] = [(after.job, (job_id, after.job)) for after in waits]
    while ahead:
        each, path = ahead.pop()
        if each == job_id:
            raise BadInput(f"Jobs would wait for each other in a circle: {' after '.join(path)}.")
        if each not in seen and each in state.jobs:
            seen.add(each)
            ahead += [(after.job, (*path, after.job)) for after in state.jobs[each].job.waits]


class Earlier(msgspec.Struct, frozen=True):
    """What the disk knows of a job's tasks, for `on_retried` and `on_cause_retried`."""

    job: Job
    counts: Counts
    next_index: int
    """The first task without a row."""
    ahead: tuple[int, ...]
    """Those beyond it that have one."""
    failed: tuple[Task, ...] = ()

    @property
    def untouched(self) -> int:
        """Tasks without a row."""
        return self.job.spec.task_count - self.next_index - len(self.ahead)


def on_retried(state: MeshState, earlier: Earlier) -> tuple[int, fx.Effects]:
    """Queue the FAILED tasks of a job again, with all their attempts before them; gives how many.

    Raises Conflict if there are none, or if they may run only once.
    """
    job = earlier.job
    if job.spec.at_most_once:
        raise Conflict(
            f"The tasks of job {job.id} may run only once, so none is tried again.",
            hint="Hand in a new job for what is to run anyway.",
        )
    live = state.jobs.get(job.id)
    revived = live is None
    if live is None:
        live = _revive(earlier)
    found: fx.Effects = []
    again = _queue_fresh_again(live, earlier)
    for task in earlier.failed:
        if task.index in live.tasks:
            continue  # it is being tried again already
        queued = advance(
            task,
            Cause.ASKED_AGAIN,
            outcome=None,
            exit_code=None,
            error="",
            failures=0,
            losses=0,
            excluded=(),
            started_at=None,
            finished_at=None,
            begun_at=None,
            made=None,
        )
        live.counts.move(TaskState.FAILED, TaskState.QUEUED, task.width)
        live.adopt(queued)
        live.again.add(task.index)
        found.append(fx.SaveTask(queued))
        again += task.width
    if not again and job.dropped_for is not None:
        raise Conflict(
            f"No task of job {job.id} has failed; it was cancelled because of job {job.dropped_for}.",
            hint=f"`planetmesh retry {job.dropped_for}` lets this job wait for it again.",
        )
    if not again:
        raise Conflict(f"No task of job {job.id} has failed.", hint=f"`planetmesh job {job.id}` shows it.")
    live.first_error = ""
    if revived:
        state.add_job(live)
    else:
        state.line_up(live)
    return again, [fx.SaveJob(live.job), *found, fx.JobChanged(job.id)]


def on_cause_retried(
    state: MeshState, dropped: Sequence[Earlier], ended: Mapping[JobId, JobState]
) -> tuple[tuple[JobId, ...], fx.Effects]:
    """Let those wait again that were cancelled only because a job failed that lives again now, or because
    one of them was; gives their ids.

    `dropped`: causes before those that wait for them. `ended`: how the jobs that they wait for ended, as far
    as those are not live. Where one of these is in the way the job stays cancelled, because of that one then.
    """
    again: list[JobId] = []
    found: fx.Effects = []
    left = [each for each in dropped if each.job.id not in state.jobs and each.untouched]
    while left:
        hopeless = []
        for each in left:
            if _in_its_way(state, each.job, ended) is not None:
                hopeless.append(each)
                continue
            found += _wait_again(state, each)
            again.append(each.job.id)
        if len(hopeless) == len(left):
            break
        left = hopeless
    for each in left:
        found += _blame(state, each.job, ended)
    return tuple(again), found


def _in_its_way(state: MeshState, job: Job, ended: Mapping[JobId, JobState]) -> After | None:
    """The first of what it waits for that will not come."""
    for after in job.waits:
        if after.job not in state.jobs and not (after.job in ended and after.on.is_met(ended[after.job])):
            return after
    return None


def _wait_again(state: MeshState, earlier: Earlier) -> fx.Effects:
    job = msgspec.structs.replace(
        earlier.job,
        completed_at=None,
        cancelled_at=None,
        cancel_reason="",
        dropped_for=None,
        waits=tuple(after for after in earlier.job.waits if after.job in state.jobs),
        rest=None,
        rest_error="",
    )
    live = LiveJob(job)
    live.counts = msgspec.structs.replace(earlier.counts)
    live.next_index, live.ahead = earlier.next_index, set(earlier.ahead)
    live.counts.move(TaskState.CANCELLED, TaskState.QUEUED, live.untouched)
    state.add_job(live)
    return [fx.SaveJob(job), fx.JobChanged(job.id)]


def _blame(state: MeshState, job: Job, ended: Mapping[JobId, JobState]) -> fx.Effects:
    """A retry of the job that is in its way will bring it back."""
    after = _in_its_way(state, job, ended)
    if after is None or after.job not in ended or after.job == job.dropped_for:
        return []
    reason = ends.unmet_sentence(after.job, ended[after.job], after.on)
    rest_error = ends.cancelled_error(reason)
    blaming = msgspec.structs.replace(job, dropped_for=after.job, cancel_reason=reason, rest_error=rest_error)
    return [fx.SaveJob(blaming)]


def _revive(earlier: Earlier) -> LiveJob:
    job = msgspec.structs.replace(earlier.job, completed_at=None, waits=(), dropped_for=None, paused_at=None)
    live = LiveJob(job)
    live.counts = msgspec.structs.replace(earlier.counts)
    live.next_index = live.total
    return live


def _queue_fresh_again(live: LiveJob, earlier: Earlier) -> int:
    """Tasks that waited too long for a machine failed without a record; they wait again."""
    if live.job.rest is not TaskState.FAILED:
        return 0
    live.next_index, live.ahead = earlier.next_index, set(earlier.ahead)
    live.counts.move(TaskState.FAILED, TaskState.QUEUED, live.untouched)
    live.job = msgspec.structs.replace(live.job, rest=None, rest_error="", waiting_since=None)
    return live.untouched
