"""The moves a task may make. Everything about task states is in this table.

A task waits (QUEUED) until a pass places it (ASSIGNED) and its node says it started (RUNNING).
Ends may come without a start having been seen, since a short task's start and end travel
together. A failure with attempts left, or the loss of the node, leads through RETRYING. A node
that comes back still running a lost attempt gets it back (`kept`), as long as no newer attempt
was placed. COMPLETED, FAILED and CANCELLED have no way out but one: a person may ask for a FAILED
task to be tried again.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from planetmesh.errors import IllegalMove
from planetmesh.model.job import Task, TaskState


class Cause(StrEnum):
    """Why a task moves."""

    PLACED = "placed"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    GAVE_UP = "gave_up"
    WILL_RETRY = "will_retry"
    RETURNED = "returned"
    WAITED_OUT = "waited_out"
    KEPT = "kept"
    CANCELLED = "cancelled"
    ASKED_AGAIN = "asked_again"


Q, A, R, T = TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING, TaskState.RETRYING

MOVES: dict[tuple[TaskState, Cause], TaskState] = {
    (Q, Cause.PLACED): TaskState.ASSIGNED,
    (Q, Cause.KEPT): TaskState.RUNNING,
    (Q, Cause.SUCCEEDED): TaskState.COMPLETED,
    (Q, Cause.GAVE_UP): TaskState.FAILED,
    (Q, Cause.WILL_RETRY): TaskState.RETRYING,
    (Q, Cause.CANCELLED): TaskState.CANCELLED,
    (A, Cause.STARTED): TaskState.RUNNING,
    (A, Cause.KEPT): TaskState.ASSIGNED,
    (A, Cause.SUCCEEDED): TaskState.COMPLETED,
    (A, Cause.GAVE_UP): TaskState.FAILED,
    (A, Cause.WILL_RETRY): TaskState.RETRYING,
    (A, Cause.RETURNED): TaskState.QUEUED,
    (A, Cause.CANCELLED): TaskState.CANCELLED,
    (R, Cause.STARTED): TaskState.RUNNING,
    (R, Cause.KEPT): TaskState.RUNNING,
    (R, Cause.SUCCEEDED): TaskState.COMPLETED,
    (R, Cause.GAVE_UP): TaskState.FAILED,
    (R, Cause.WILL_RETRY): TaskState.RETRYING,
    (R, Cause.RETURNED): TaskState.QUEUED,
    (R, Cause.CANCELLED): TaskState.CANCELLED,
    (T, Cause.WAITED_OUT): TaskState.QUEUED,
    (T, Cause.KEPT): TaskState.RUNNING,
    (T, Cause.SUCCEEDED): TaskState.COMPLETED,
    (T, Cause.GAVE_UP): TaskState.FAILED,
    (T, Cause.WILL_RETRY): TaskState.RETRYING,
    (T, Cause.CANCELLED): TaskState.CANCELLED,
    (TaskState.FAILED, Cause.ASKED_AGAIN): TaskState.QUEUED,
}


def advance(task: Task, cause: Cause, **changes: Any) -> Task:
    """The task after the move, with other fields changed too; raises IllegalMove with its story."""
    state = MOVES.get((task.state, cause))
    if state is None:
        raise IllegalMove(
            f"Task {task.job_id}/{task.index} is {task.state} (attempt {task.attempt}, node {task.node_id}, "
            f"last outcome {task.outcome}) and cannot move by '{cause}'."
        )
    return msgspec.structs.replace(task, state=state, **changes)
