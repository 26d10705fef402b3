"""Nodes: joining, speaking, falling silent, leaving, and what an operator does to them.

The other half of the reactor; `reactor` has jobs and tasks. Same rules: state + facts + now → effects.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from planetmesh.mesh import effects as fx
from planetmesh.mesh import fitness, health, limits, lingering, quarantine, reactor, stragglers
from planetmesh.mesh.lifecycle import NodeCause, advance_node
from planetmesh.mesh.live_job import Signature
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState
from planetmesh.model.blob import Digest
from planetmesh.model.clock import Moment
from planetmesh.model.ids import NodeId, TaskKey
from planetmesh.model.job import TaskState
from planetmesh.model.node import Node, NodeLoad, NodeState
from planetmesh.settings import Settings
from planetmesh.wire.agent import Drain, Held, RecallTasks, Registered, RegisterNode

TOLD_TO_AGENTS = ("heartbeat_seconds", "output_most_bytes", "coalesce_seconds", "prefill_most")
"""Settings that `Registered` carries."""
REVOKED = "An operator took it out of the mesh."
LEFT = "It has left the mesh."
PREFILL_PAUSE_SECONDS = 5.0
"""A node whose backlog was pulled back gets none for so long, lest it flaps."""


class Joining(msgspec.Struct, frozen=True):
    """A hello together with what the link knows."""

    node_id: NodeId
    session: int
    hello: RegisterNode


def on_node_enrolled(state: MeshState, node: Node, now: Moment) -> fx.Effects:
    """A machine was given a certificate; it has not said hello yet."""
    state.nodes[node.id] = LiveNode(node, now.steady)
    state.room.refit()
    return [fx.SaveNode(node), fx.NodeChanged(node.id)]


def on_node_joined(state: MeshState, joining: Joining, mesh_name: str, now: Moment) -> fx.Effects:
    """A link said hello. A second machine with the same identity is refused while the first lives."""
    live, hello = state.nodes[joining.node_id], joining.hello
    if live.session is not None and _is_copy(live, hello):
        return [fx.HangUp(live.node.id, joining.session, "duplicate", _copied(live))]
    found: fx.Effects = []
    if live.session is not None:
        found.append(
            fx.HangUp(live.node.id, live.session, "replaced", "A newer link of this agent took over.")
        )
    restarted = live.node.instance != hello.instance
    live.session = joining.session
    live.is_member = True
    live.last_heard = now.steady
    live.opened = set()
    live.recalled = set()
    state.holdings.lose(live, tuple(live.blobs))
    live.node = advance_node(
        live.node,
        NodeCause.SAID_HELLO,
        info=hello.info,
        instance=hello.instance,
        last_heartbeat_at=now.wall,
    )
    state.room.refit()
    drop, kept, kept_effects = _sort_held(state, live, hello, now)
    found += kept_effects
    live.carried = {job_id for job_id, _index in kept}
    for key in [key for key in live.held if key not in kept]:
        if key not in live.held:
            continue  # the end of another one stopped its whole job
        lost = reactor.on_task_lost if restarted else reactor.on_task_unseen
        found += lost(state, key, live.node.id, now)
    found.append(fx.SaveNode(live.node))
    found.append(fx.Send(live.node.id, _welcome(state, live, mesh_name, drop, now)))
    if live.node.draining:
        found.append(fx.Send(live.node.id, Drain(on=True)))
    found.append(fx.NodeChanged(live.node.id))
    return found


def _is_copy(live: LiveNode, hello: RegisterNode) -> bool:
    known = live.node.info.machine if live.node.info else ""
    return bool(known) and hello.info.machine != known


def _copied(live: LiveNode) -> str:
    return (
        f"Another machine is connected with the identity of {live.node.name}: a home or disk was copied. "
        "Remove the copy's home and pair it with a code of its own."
    )


def _sort_held(
    state: MeshState, live: LiveNode, hello: RegisterNode, now: Moment
) -> tuple[tuple[Held, ...], set[TaskKey], fx.Effects]:
    """Tell the attempts that the agent still has apart into those that count and those to drop."""
    drop, kept, found = [], set(), []
    for held in hello.held:
        effects = reactor.on_task_kept(
            state, live.node.id, held.job_id, held.index, held.attempt, now, running=held.running
        )
        if effects is None:
            drop.append(held)
            continue
        kept.add((held.job_id, held.index))
        found += effects
    return tuple(drop), kept, found


def _welcome(
    state: MeshState, live: LiveNode, mesh_name: str, drop: tuple[Held, ...], now: Moment
) -> Registered:
    settings = state.settings
    return Registered(
        node_id=live.node.id,
        name=live.node.name,
        mesh_name=mesh_name,
        heartbeat_seconds=settings.heartbeat_seconds,
        server_time=now.wall,
        drop=drop,
        output_most_bytes=settings.output_most_bytes,
        coalesce_seconds=settings.coalesce_seconds,
        prefill_most=settings.prefill_most,
    )


def on_settings_changed(state: MeshState, settings: Settings, mesh_name: str, now: Moment) -> fx.Effects:
    """An operator changed settings: from here on these count, and agents are told what they go by.

    Nobody is declared OFFLINE earlier than he would have been: who spoke in time by the old numbers gets
    as long to speak by the new ones, and a grace time that was granted stays as long as it was.
    """
    before, state.settings = state.settings, settings
    state.room.refit()
    granted = max(0.0, before.offline_after_seconds - settings.offline_after_seconds)
    told = any(getattr(before, name) != getattr(settings, name) for name in TOLD_TO_AGENTS)
    found: fx.Effects = []
    for live in state.nodes.values():
        live.last_heard += granted
        if told and live.connected:
            found.append(fx.Send(live.node.id, _welcome(state, live, mesh_name, (), now)))
    return found


def on_heard(state: MeshState, node_id: NodeId, now: Moment) -> fx.Effects:
    """Any frame from a node is a sign of life."""
    live = state.nodes[node_id]
    live.last_heard = now.steady
    if live.node.state is NodeState.HEALTHY or not live.connected:
        return []
    live.node = advance_node(live.node, NodeCause.HEARD)
    state.room.refit()
    return [fx.SaveNode(live.node), fx.NodeChanged(node_id)]


def on_heartbeat(state: MeshState, node_id: NodeId, load: NodeLoad, now: Moment) -> fx.Effects:
    live = state.nodes[node_id]
    live.load = load
    live.node = msgspec.structs.replace(live.node, last_heartbeat_at=now.wall)
    return [fx.SaveNode(live.node, urgent=False), fx.NodeChanged(node_id)]


def on_rtt(state: MeshState, node_id: NodeId, seconds: float) -> fx.Effects:
    """A round trip was measured on the link; kept as a decayed mean."""
    live = state.nodes[node_id]
    live.rtt_seconds = seconds if live.rtt_seconds is None else live.rtt_seconds * 0.8 + seconds * 0.2
    return []


def on_blobs_held(
    state: MeshState, node_id: NodeId, gained: tuple[Digest, ...], lost: tuple[Digest, ...]
) -> fx.Effects:
    """The node's cache changed: a hint for placing tasks."""
    live = state.nodes[node_id]
    state.holdings.lose(live, lost)
    state.holdings.gain(live, gained)
    return []


def on_folder_known(state: MeshState, manifest: Digest, sizes: Mapping[Digest, int]) -> fx.Effects:
    """A folder's manifest was read, and these are the large files in it."""
    state.holdings.know_folder(manifest, sizes)
    return []


def on_link_lost(state: MeshState, node_id: NodeId, session: int) -> fx.Effects:
    """A link ended. The node keeps its tasks until it has been silent for too long."""
    live = state.nodes.get(node_id)
    if live is None or live.session != session:
        return []
    live.session = None
    state.room.refit()
    return [fx.NodeChanged(node_id)]


def on_leaving(state: MeshState, node_id: NodeId, session: int, now: Moment) -> fx.Effects:
    """The agent ends on purpose: no need to wait for silence."""
    live = state.nodes.get(node_id)
    if live is None or live.session != session:
        return []
    live.session = None
    return _go_offline(state, live, NodeCause.LEFT, now)


def on_tick(state: MeshState, now: Moment) -> fx.Effects:
    """What time alone brings: silence, limits, pauses that are over, stale backlog, stragglers."""
    found = reactor.on_backoffs_over(state, now)
    for live in list(state.nodes.values()):
        found += _watch(state, live, now)
    found += limits.on_tick(state, now)
    found += lingering.on_tick(state, now)
    found += reactor.save_standing(state, quarantine.on_tick(state, now.steady))
    found += _pull_back(state, now)
    for twin in stragglers.twins(state, now.steady):
        found += reactor.on_twin_placed(state, twin, now)
    return found


def on_woken(state: MeshState, now: Moment) -> fx.Effects:
    """The coordinator itself slept: the silence was its own, so everybody gets the grace time."""
    grace = state.settings.restart_grace_seconds - state.settings.offline_after_seconds
    for live in state.nodes.values():
        live.last_heard = max(live.last_heard, now.steady + grace)
    return []


def _watch(state: MeshState, live: LiveNode, now: Moment) -> fx.Effects:
    if live.node.state is NodeState.OFFLINE:
        return []
    wanted = health.state_after(now.steady - live.last_heard, state.settings)
    if wanted is NodeState.OFFLINE:
        return _go_offline(state, live, NodeCause.SILENT_TOO_LONG, now)
    if wanted is live.node.state or wanted is NodeState.HEALTHY:
        return []
    live.node = advance_node(live.node, NodeCause.FELL_SILENT)
    state.room.refit()
    return [fx.SaveNode(live.node), fx.NodeChanged(live.node.id)]


def _go_offline(state: MeshState, live: LiveNode, cause: NodeCause, now: Moment) -> fx.Effects:
    found: fx.Effects = []
    if live.session is not None:
        found.append(fx.HangUp(live.node.id, live.session, "silent", "Nothing was heard for too long."))
        live.session = None
    reliability = live.node.reliability
    if live.held:
        reliability = health.reliability_after(reliability, state.settings, good=False)
    live.node = advance_node(live.node, cause, reliability=reliability)
    live.offline_by = cause
    state.room.refit()
    live.opened = set()
    for key in list(live.held):
        if key not in live.held:
            continue  # the end of another one stopped its whole job
        found += reactor.on_task_lost(state, key, live.node.id, now)
    return [fx.SaveNode(live.node), *found, fx.NodeChanged(live.node.id)]


def _pull_back(state: MeshState, now: Moment) -> fx.Effects:
    """Recall backlog that has not started for a while, as much as other nodes could start at once."""
    latest = now.steady - state.settings.pull_back_after_seconds
    room: dict[Signature, int] = {}
    found: fx.Effects = []
    for live in state.nodes.values():
        if not live.connected or live.used.fits_in(live.offer):
            continue
        recalled = [key for key in live.held if _take_back(state, live, key, latest, room, now)]
        if recalled:
            live.recalled.update(recalled)
            live.prefill_after = now.steady + PREFILL_PAUSE_SECONDS
            state.room.rest(live.node.id, live.prefill_after)
            tasks = tuple(_as_held(state, key) for key in recalled)
            found.append(fx.Send(live.node.id, RecallTasks(tasks)))
    return found


def _take_back(
    state: MeshState, live: LiveNode, key: TaskKey, latest: float, room: dict[Signature, int], now: Moment
) -> bool:
    """Is this stale backlog that has a free slot elsewhere? If so, the slot is counted as taken."""
    job = state.jobs[key[0]]
    task = job.tasks[key[1]]
    waits = task.state is TaskState.ASSIGNED and task.twin_node is None
    stale = waits and live.held[key][1] < latest and key not in live.recalled
    if not stale or task.excluded:
        return False
    if job.signature not in room:
        room[job.signature] = _free_slots(state, job.signature, now)
    room[job.signature] -= 1
    return room[job.signature] >= 0


def _free_slots(state: MeshState, signature: Signature, now: Moment) -> int:
    """How many such tasks could start right now, beside those that are on their way back already."""
    requests = signature[0]
    free = sum(
        requests.how_often_in(live.offer - live.used)
        for live in state.nodes.values()
        if fitness.objection(signature, live) is None and fitness.has_slot(live, requests, now.steady)
    )
    recalled = [key for live in state.nodes.values() for key in live.recalled]
    return free - sum(state.jobs[job_id].signature == signature for job_id, _index in recalled)


def _as_held(state: MeshState, key: TaskKey) -> Held:
    return Held(*key, state.jobs[key[0]].tasks[key[1]].attempt, running=False)


def on_drain(state: MeshState, node_id: NodeId, *, on: bool, at_once: bool) -> fx.Effects:
    """Give the node no new work, or again some: then nothing is held against it any more either.

    `at_once` gives its running tasks back too.
    """
    live = state.nodes[node_id]
    if not on:
        quarantine.lift(live)
    live.node = msgspec.structs.replace(live.node, draining=on, confined=quarantine.confined(live))
    state.room.refit()
    found: fx.Effects = [fx.SaveNode(live.node)]
    if live.connected:
        found.append(fx.Send(node_id, Drain(on=on, now=at_once)))
    return [*found, fx.NodeChanged(node_id)]


def on_node_described(
    state: MeshState, node_id: NodeId, name: str | None, tags: tuple[str, ...] | None
) -> fx.Effects:
    """An operator renamed or tagged the node."""
    live = state.nodes[node_id]
    live.node = msgspec.structs.replace(
        live.node,
        name=live.node.name if name is None else name,
        tags=live.node.tags if tags is None else tags,
    )
    state.room.refit()
    return [fx.SaveNode(live.node), fx.NodeChanged(node_id)]


def on_node_revoked(state: MeshState, node_id: NodeId, now: Moment) -> fx.Effects:
    """Its certificate counts no more: close its link, take its tasks back."""
    return _put_out(state, state.nodes[node_id], REVOKED, NodeCause.THROWN_OUT, now)


def on_node_left(state: MeshState, node_id: NodeId, now: Moment) -> fx.Effects:
    """Its machine gave up its place; nothing if it is no node."""
    live = state.nodes.get(node_id)
    if live is None:
        return []
    if live.node.state is not NodeState.OFFLINE:
        return _put_out(state, live, LEFT, NodeCause.LEFT, now)
    return _set_member(state, live, is_member=False)


def _put_out(state: MeshState, live: LiveNode, reason: str, cause: NodeCause, now: Moment) -> fx.Effects:
    found: fx.Effects = []
    if live.session is not None:
        found.append(fx.HangUp(live.node.id, live.session, "revoked", reason))
        live.session = None
    live.is_member = False
    return found + _go_offline(state, live, cause, now)


def on_members_known(state: MeshState, members: Collection[NodeId]) -> fx.Effects:
    """These have certificates that count now, and no other node has. Some run out, or are never used."""
    found: fx.Effects = []
    for node_id, live in state.nodes.items():
        found += _set_member(state, live, is_member=node_id in members)
    return found


def _set_member(state: MeshState, live: LiveNode, *, is_member: bool) -> fx.Effects:
    if live.is_member == is_member:
        return []
    live.is_member = is_member
    state.room.refit()
    return [fx.NodeChanged(live.node.id)]


def on_node_forgotten(state: MeshState, node_id: NodeId, now: Moment) -> fx.Effects:
    """Remove a node that is gone for good; the caller has seen to it that it is not connected."""
    live = state.nodes[node_id]
    found = _go_offline(state, live, NodeCause.THROWN_OUT, now)
    state.holdings.lose(live, tuple(live.blobs))
    del state.nodes[node_id]
    state.room.forget(node_id)
    kept = [effect for effect in found if not isinstance(effect, fx.SaveNode | fx.NodeChanged)]
    return [*kept, fx.RemoveNode(node_id)]
