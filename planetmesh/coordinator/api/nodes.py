"""Nodes: list, look at, rename, tag, drain, revoke, forget."""

from __future__ import annotations

from shlex import quote

from aiohttp import web

from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.api.checks import check_node_name, check_tags
from planetmesh.coordinator.api.lookup import open_node
from planetmesh.coordinator.engine import Happening
from planetmesh.coordinator.views import node_view
from planetmesh.errors import BadInput, Conflict, NotFound
from planetmesh.mesh import effects as fx
from planetmesh.mesh import nodes
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.ids import NodeId
from planetmesh.store.changes import Changes
from planetmesh.wire.api import ChangeNode


async def list_nodes(call: Call) -> web.StreamResponse:
    state = call.parts.engine.state
    ordered = sorted(state.nodes.values(), key=lambda live: (live.node.created_at, live.node.id))
    return call.answer([node_view(state, live) for live in ordered])


async def show_node(call: Call) -> web.StreamResponse:
    state = call.parts.engine.state
    return call.answer(node_view(state, open_node(state, call.part("node"))))


async def change_node(call: Call) -> web.StreamResponse:
    asked = _checked(await call.body(ChangeNode))
    node_id = open_node(call.parts.engine.state, call.part("node")).node.id

    def change(state: MeshState, _now: Moment) -> fx.Effects:
        if asked.name is not None:
            _refuse_taken_name(state, node_id, asked.name)
        found: fx.Effects = []
        if asked.name is not None or asked.tags is not None:
            found += nodes.on_node_described(state, node_id, asked.name, asked.tags)
        if asked.draining is not None:
            found += nodes.on_drain(state, node_id, on=asked.draining, at_once=asked.now)
        return found

    await call.parts.engine.do(
        _if_known(node_id, change), call.audited("change_node", node_id, _in_words(asked))
    )
    return await _show(call, node_id)


def _checked(asked: ChangeNode) -> ChangeNode:
    if asked.name is None and asked.tags is None and asked.draining is None:
        raise BadInput("Nothing is to be changed.", hint="Give a name, tags or draining.")
    if asked.now and not asked.draining:
        raise BadInput("'now' goes with 'draining': true only.")
    name = None if asked.name is None else check_node_name(asked.name)
    tags = None if asked.tags is None else check_tags(asked.tags)
    return ChangeNode(name=name, tags=tags, draining=asked.draining, now=asked.now)


def _in_words(asked: ChangeNode) -> str:
    """For the audit trail."""
    given = [
        f"{field}={value}"
        for field in ("name", "tags", "draining", "now")
        if (value := getattr(asked, field)) not in (None, False) or field == "draining"
    ]
    return " ".join(given)


def _refuse_taken_name(state: MeshState, node_id: NodeId, name: str) -> None:
    for live in state.nodes.values():
        if live.node.id != node_id and live.node.name.casefold() == name.casefold():
            raise Conflict(f"Another node has the name '{live.node.name}' already.")


def _if_known(node_id: NodeId, happening: Happening) -> Happening:
    """The happening, unless the node was forgotten while the request was on its way."""

    def happen(state: MeshState, now: Moment) -> fx.Effects:
        if node_id not in state.nodes:
            raise NotFound("This node was forgotten in the meantime.")
        return happening(state, now)

    return happen


async def _show(call: Call, node_id: NodeId) -> web.StreamResponse:
    state = call.parts.engine.state
    if node_id not in state.nodes:
        raise NotFound("This node was forgotten in the meantime.")
    return call.answer(node_view(state, state.nodes[node_id]))


async def revoke_node(call: Call) -> web.StreamResponse:
    """Its certificate counts no more from here on; connections close within a second."""
    live = open_node(call.parts.engine.state, call.part("node"))
    node_id = live.node.id
    changes = _revoked(call, live)

    def revoke(state: MeshState, now: Moment) -> fx.Effects:
        return nodes.on_node_revoked(state, node_id, now)

    changes.audit.append(call.audit("revoke_node", node_id, live.node.name))
    await call.parts.access.change(_if_known(node_id, revoke), changes)
    return await _show(call, node_id)


def _revoked(call: Call, live: LiveNode) -> Changes:
    """The rows of a node's certificates, refused from now on; nothing if it never had one."""
    try:
        return call.parts.access.revoke(live.node.id)
    except NotFound:
        return Changes()


async def forget_node(call: Call) -> web.StreamResponse:
    """Strike it from the list; it would have to be paired again."""
    live = open_node(call.parts.engine.state, call.part("node"))
    node_id = live.node.id
    if live.connected:
        raise Conflict(
            f"Node {live.node.name} is connected.",
            hint=f"First: planetmesh node revoke {quote(live.node.name)}",
        )
    changes = _revoked(call, live)

    def forget(state: MeshState, now: Moment) -> fx.Effects:
        return nodes.on_node_forgotten(state, node_id, now)

    changes.audit.append(call.audit("forget_node", node_id, live.node.name))
    await call.parts.access.change(_if_known(node_id, forget), changes)
    return call.answer({})
