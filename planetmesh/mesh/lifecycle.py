"""The moves that tasks, nodes, and a node's trust may make: three tables, and nothing moves but by them.

docs/states.md draws them. A job's state is no table of moves: it is computed (`model.job.JOB_RULES`).

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
from planetmesh.model.node import Node, NodeState


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


class NodeCause(StrEnum):
    """Why a node's state changes."""

    SAID_HELLO = "said_hello"
    HEARD = "heard"
    FELL_SILENT = "fell_silent"
    SILENT_TOO_LONG = "silent_too_long"
    LEFT = "left"
    THROWN_OUT = "thrown_out"


HEALTHY, SUSPECT, OFFLINE = NodeState.HEALTHY, NodeState.SUSPECT, NodeState.OFFLINE

NODE_MOVES: dict[tuple[NodeState, NodeCause], NodeState] = {
    (OFFLINE, NodeCause.SAID_HELLO): HEALTHY,
    (OFFLINE, NodeCause.THROWN_OUT): OFFLINE,
    (HEALTHY, NodeCause.SAID_HELLO): HEALTHY,
    (HEALTHY, NodeCause.FELL_SILENT): SUSPECT,
    (HEALTHY, NodeCause.SILENT_TOO_LONG): OFFLINE,
    (HEALTHY, NodeCause.LEFT): OFFLINE,
    (HEALTHY, NodeCause.THROWN_OUT): OFFLINE,
    (SUSPECT, NodeCause.SAID_HELLO): HEALTHY,
    (SUSPECT, NodeCause.HEARD): HEALTHY,
    (SUSPECT, NodeCause.SILENT_TOO_LONG): OFFLINE,
    (SUSPECT, NodeCause.LEFT): OFFLINE,
    (SUSPECT, NodeCause.THROWN_OUT): OFFLINE,
}


def advance_node(node: Node, cause: NodeCause, **changes: Any) -> Node:
    """The node after the move, with other fields changed too; raises IllegalMove."""
    state = NODE_MOVES.get((node.state, cause))
    if state is None:
        raise IllegalMove(f"Node {node.name} is {node.state} and cannot move by '{cause}'.")
    return msgspec.structs.replace(node, state=state, **changes)


class Phase(StrEnum):
    """How far a node is trusted with one kind of job."""

    GOOD = "good"
    COOLING = "cooling"
    """In quarantine until its cool-down is over."""
    PROBE = "probe"
    """The next task of this kind that it gets shows whether it is well again."""
    PROBING = "probing"
    """It has that task."""


class PhaseCause(StrEnum):
    """Why a node is trusted more or less with a kind of job."""

    BLAMED = "blamed"
    REMEMBERED = "remembered"
    COOLED_DOWN = "cooled_down"
    GOT_ONE = "got_one"
    TOLD_NOTHING = "told_nothing"
    FAILED_AGAIN = "failed_again"
    DID_WELL = "did_well"
    LIFTED = "lifted"


GOOD, COOLING, PROBE, PROBING = Phase.GOOD, Phase.COOLING, Phase.PROBE, Phase.PROBING

PHASE_MOVES: dict[tuple[Phase, PhaseCause], Phase] = {
    (GOOD, PhaseCause.BLAMED): COOLING,
    (GOOD, PhaseCause.REMEMBERED): COOLING,
    (COOLING, PhaseCause.COOLED_DOWN): PROBE,
    (COOLING, PhaseCause.DID_WELL): GOOD,
    (COOLING, PhaseCause.LIFTED): GOOD,
    (PROBE, PhaseCause.GOT_ONE): PROBING,
    (PROBE, PhaseCause.DID_WELL): GOOD,
    (PROBE, PhaseCause.LIFTED): GOOD,
    (PROBING, PhaseCause.TOLD_NOTHING): PROBE,
    (PROBING, PhaseCause.FAILED_AGAIN): COOLING,
    (PROBING, PhaseCause.DID_WELL): GOOD,
    (PROBING, PhaseCause.LIFTED): GOOD,
}


def phase_after(phase: Phase, cause: PhaseCause) -> Phase:
    """The phase after the move; raises IllegalMove."""
    after = PHASE_MOVES.get((phase, cause))
    if after is None:
        raise IllegalMove(f"A kind of job in the phase '{phase}' cannot move by '{cause}'.")
    return after
