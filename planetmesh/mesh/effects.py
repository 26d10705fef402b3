"""What the reactor asks of the outside. A new effect is a design decision; there are few.

The engine carries them out in this order: all saves in one transaction, then sends and hang-ups,
then what changed is published.
"""

from __future__ import annotations

import msgspec

from planetmesh.model.ids import JobId, NodeId
from planetmesh.model.job import Attempt, Counts, Job, Task
from planetmesh.model.node import Node
from planetmesh.wire.agent import ToAgent


class SaveTask(msgspec.Struct, frozen=True):
    """Write this record. Not `urgent`: it may ride on the next commit (a start that a hello repeats)."""

    task: Task
    urgent: bool = True


class SaveAttempt(msgspec.Struct, frozen=True):
    """Write down a run that was not the task's accepted end."""

    attempt: Attempt


class SaveJob(msgspec.Struct, frozen=True):
    job: Job
    new: bool = False
    """It was just handed in."""
    more: tuple[str, ...] = ()
    """The last of its inputs, which it just got."""


class SaveNode(msgspec.Struct, frozen=True):
    """Not `urgent`: it may ride on the next commit (a heartbeat's time)."""

    node: Node
    urgent: bool = True


class RemoveNode(msgspec.Struct, frozen=True):
    node_id: NodeId


class Send(msgspec.Struct, frozen=True):
    """Give this to the node's link after the commit; dropped if the link is gone by then."""

    node_id: NodeId
    message: ToAgent


class HangUp(msgspec.Struct, frozen=True):
    """Close one link of a node, saying why."""

    node_id: NodeId
    session: int
    code: str
    reason: str


class JobChanged(msgspec.Struct, frozen=True):
    """Subscribers should see this job anew."""

    job_id: JobId


class JobEnded(msgspec.Struct, frozen=True):
    """The job has left the tables; this is the last that the reactor knows of it."""

    job: Job
    counts: Counts
    error: str


class NodeChanged(msgspec.Struct, frozen=True):
    node_id: NodeId


Effect = (
    SaveTask
    | SaveAttempt
    | SaveJob
    | SaveNode
    | RemoveNode
    | Send
    | HangUp
    | JobChanged
    | JobEnded
    | NodeChanged
)
Effects = list[Effect]
