"""What a coordinator's owner sees of the mesh at a glance: sums over the state, for `up`'s panel.

Made in the process itself, not over the API: a client of its own would cost the coordinator an event for each
task's change. Reads the state, changes nothing, waits for nothing.
"""

from __future__ import annotations

import time
from collections import Counter

import msgspec

from planetmesh.coordinator.engine import Engine
from planetmesh.coordinator.views import node_note
from planetmesh.model.job import TaskState
from planetmesh.model.node import NodeState
from planetmesh.trust.pairing_server import PairingDesk

NOTES_MOST = 3


class OpenCode(msgspec.Struct, frozen=True):
    """A pairing window without its code, which is the business of who opened it."""

    slot: int
    role: str
    seconds_left: float
    attempts_left: int


class NodeGlance(msgspec.Struct, frozen=True):
    """A machine that somebody should look at."""

    name: str
    state: NodeState
    note: str = ""
    """Why it gets no work, with the next command, if that is so."""


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """The mesh at one moment."""

    nodes: dict[str, int]
    """By state."""
    running: int
    """Tasks, on all machines."""
    running_here: int
    waiting: int
    """Tasks that are not on a machine."""
    jobs: int
    """That have not ended."""
    codes: tuple[OpenCode, ...] = ()
    away: tuple[NodeGlance, ...] = ()
    """Machines that are OFFLINE or SUSPECT, and some that get no work."""
    storage_error: str = ""
    is_starting: bool = False
    """This machine's own agent has not called yet, and is in time; it is not among `nodes`."""


def look(engine: Engine, desk: PairingDesk, here: str, up_seconds: float) -> Glance:
    """`here`: the id of this machine's own node, if any. `up_seconds`: since the coordinator's start."""
    state = engine.state
    running = waiting = 0
    for job in state.jobs.values():
        running += job.counts.running
        waiting += job.counts.queued + job.counts.retrying
    counts = Counter(live.node.state for live in state.nodes.values())
    away: list[NodeGlance] = []
    noted: list[NodeGlance] = []
    running_here = 0
    is_starting = False
    is_early = up_seconds < engine.settings.restart_grace_seconds
    for node_id, live in state.nodes.items():
        if node_id == here:
            held = (state.jobs[job_id].tasks[index] for job_id, index in live.held)
            running_here = sum(task.state is TaskState.RUNNING for task in held)
        if is_early and not live.connected and (node_id == here or live.node.state is NodeState.HEALTHY):
            # Nobody is late yet. Of another one it is known that it was well, of this one that it comes.
            is_starting |= node_id == here
            counts[live.node.state] -= node_id == here
        elif live.node.state is not NodeState.HEALTHY:
            away.append(NodeGlance(live.node.name, live.node.state))
        elif len(noted) < NOTES_MOST and (note := node_note(live)):
            noted.append(NodeGlance(live.node.name, live.node.state, note))
    now = time.monotonic()
    return Glance(
        nodes={each.value: counts.get(each, 0) for each in NodeState},
        running=running,
        running_here=running_here,
        waiting=waiting,
        jobs=len(state.jobs),
        codes=tuple(
            OpenCode(each.slot, each.role.value, max(0.0, each.expires - now), each.attempts_left)
            for each in desk.windows()
        ),
        away=(*sorted(away, key=lambda each: (each.state, each.name)), *noted),
        storage_error=engine.storage_error,
        is_starting=is_starting,
    )
