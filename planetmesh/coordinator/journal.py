"""The coordinator's log of its work: jobs one by one, tasks only where something went wrong.

A million tasks must not make a million lines: each placing, start and good end is a line at debug only, and
once a minute one line says how many there were. Told by the engine after each turn; decides nothing. No
sentence of a task's is logged: it may hold what its owner keeps secret.
"""

from __future__ import annotations

import logging

import msgspec

from planetmesh.coordinator.meters import Meters
from planetmesh.coordinator.turn import Turn
from planetmesh.mesh import effects as fx
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Task, TaskState, job_state
from planetmesh.store.changes import AuditRow

log = logging.getLogger(__name__)


class _Tally(msgspec.Struct, frozen=True):
    """What was done since the start."""

    placed: int
    completed: int
    failed: int
    cancelled: int
    retried: int
    jobs_submitted: int
    jobs_ended: int


class Journal:
    """One a coordinator."""

    def __init__(self) -> None:
        self._last = _Tally(0, 0, 0, 0, 0, 0, 0)

    def tell(self, turn: Turn, state: MeshState, now: Moment) -> None:
        """What one turn let out."""
        for changes in turn.also:
            for row in changes.audit:
                _say_audit(row)
        for job_id in turn.new_jobs:
            _say_submitted(state, job_id)
        every_task = log.isEnabledFor(logging.DEBUG)
        for key, task in turn.tasks.items():
            if turn.carried.get(key) is not task:
                _say_task(state, task, in_detail=every_task)
        for ended in turn.job_ends:
            _say_ended(ended, now)

    def tell_minute(self, meters: Meters, state: MeshState) -> None:
        """Call once a minute; silent after one in which nothing was done."""
        now = _tally(meters)
        then, self._last = self._last, now
        if now == then:
            return
        done = {name: getattr(now, name) - getattr(then, name) for name in now.__struct_fields__}
        counts = [live.counts for live in state.jobs.values()]
        log.info(
            "mesh.minute",
            extra={
                "jobs_submitted": done["jobs_submitted"],
                "jobs_ended": done["jobs_ended"],
                "placed": done["placed"],
                "completed": done["completed"],
                "failed": done["failed"],
                "cancelled": done["cancelled"],
                "retried": done["retried"],
                "queued_now": sum(each.queued for each in counts),
                "running_now": sum(each.running for each in counts),
                "nodes_now": sum(1 for node in state.nodes.values() if node.session is not None),
            },
        )


def _tally(meters: Meters) -> _Tally:
    return _Tally(
        placed=meters.placed,
        completed=meters.tasks_ended[TaskState.COMPLETED],
        failed=meters.tasks_ended[TaskState.FAILED],
        cancelled=meters.tasks_ended[TaskState.CANCELLED],
        retried=meters.retries,
        jobs_submitted=meters.jobs_submitted,
        jobs_ended=meters.jobs_ended.total(),
    )


def _say_audit(row: AuditRow) -> None:
    log.info(
        "audit.row",
        extra={
            "actor": row.actor,
            "action": row.action,
            "object": row.object,
            "detail": row.detail,
            "address": row.address,
        },
    )


def _say_submitted(state: MeshState, job_id: JobId) -> None:
    live = state.jobs.get(job_id)
    if live is None:
        return  # it ended in the same turn
    job = live.job
    log.info(
        "job.submitted",
        extra={
            "job_id": job_id,
            "job": job.spec.name,
            "type": job.spec.type,
            "tasks": job.spec.task_count,
            "submitter": job.submitter,
        },
    )


def _say_ended(ended: fx.JobEnded, now: Moment) -> None:
    job, counts = ended.job, ended.counts
    state = job_state(counts, partial=job.spec.partial, cancelled=job.cancelled_at is not None)
    log.info(
        "job.ended",
        extra={
            "job_id": job.id,
            "job": job.spec.name,
            "status": state.value,
            "seconds": round(max(0.0, now.wall - job.created_at), 3),
            "completed": counts.completed,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
        },
    )


def _say_task(state: MeshState, task: Task, *, in_detail: bool) -> None:
    if task.state is TaskState.RETRYING:
        log.info("task.retrying", extra=_how(state, task))
    elif task.state is TaskState.FAILED:
        log.info("task.failed", extra=_how(state, task))
    elif in_detail:
        _say_detail(state, task)


def _say_detail(state: MeshState, task: Task) -> None:
    match task.state:
        case TaskState.ASSIGNED:
            log.debug("task.assigned", extra=_where(state, task))
        case TaskState.RUNNING:
            log.debug("task.started", extra=_where(state, task))
        case TaskState.COMPLETED:
            log.debug("task.completed", extra=_where(state, task))
        case TaskState.CANCELLED:
            log.debug("task.cancelled", extra=_where(state, task))
        case _:
            log.debug("task.queued", extra=_where(state, task))


def _where(state: MeshState, task: Task) -> dict[str, object]:
    return {
        "job_id": task.job_id,
        "task": task.index,
        "attempt": task.attempt,
        "node_id": task.node_id or "",
        "node": _name(state, task.node_id),
    }


def _how(state: MeshState, task: Task) -> dict[str, object]:
    return {
        **_where(state, task),
        "outcome": task.outcome.value if task.outcome else "",
        "exit_code": task.exit_code,
        "failures": task.failures,
        "losses": task.losses,
    }


def _name(state: MeshState, node_id: NodeId | None) -> str:
    live = state.nodes.get(node_id) if node_id else None
    return live.node.name if live is not None else ""
