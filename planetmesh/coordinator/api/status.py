"""The mesh at a glance, and the audit trail."""

from __future__ import annotations

from collections import Counter

from aiohttp import web

from planetmesh import __version__
from planetmesh.coordinator.api.call import Call
from planetmesh.model.ids import NodeId
from planetmesh.model.job import JobState
from planetmesh.model.node import NodeState
from planetmesh.store.changes import AuditRow
from planetmesh.wire.api import MeshStatus, rfc3339
from planetmesh.wire.members import AuditView, SelfView

AUDIT_PAGE_MOST = 1000
AUDIT_PAGE_USUAL = 100


async def show_status(call: Call) -> web.StreamResponse:
    parts, engine = call.parts, call.parts.engine
    own = parts.enrolment.coordinator.membership
    # Drawn before the lists are read: what happens meanwhile has a higher number.
    feed_number = engine.feed.expect(engine.read_clock())
    jobs = await engine.store.job_states()
    nodes = Counter(live.node.state for live in engine.state.nodes.values())
    node = engine.state.nodes.get(NodeId(call.principal.id))
    status = MeshStatus(
        mesh=own.mesh_name,
        mesh_id=own.mesh_id,
        coordinator=own.id,
        version=__version__,
        role=call.principal.role.value,
        node=node.node.name if node else call.principal.id,
        nodes={state.value: nodes.get(state, 0) for state in NodeState},
        jobs={state.value: jobs.get(state, 0) for state in JobState},
        storage_error=engine.storage_error,
        feed_number=feed_number,
        fingerprint=parts.enrolment.authority.short_fingerprint,
    )
    return call.answer(status)


async def show_self(call: Call) -> web.StreamResponse:
    """For `doctor`: a machine that may see nothing else sees how it stands itself."""
    parts = call.parts
    live = parts.engine.state.nodes.get(NodeId(call.principal.id))
    info = live.node.info if live is not None else None
    view = SelfView(
        id=call.principal.id,
        role=call.principal.role.value,
        name=live.node.name if live is not None else parts.access.serials.name_of(call.principal.id),
        mesh=parts.enrolment.coordinator.membership.mesh_name,
        version=__version__,
        now=rfc3339(parts.engine.read_clock().wall) or "",
        address=call.connection.address,
        state=live.node.state if live is not None else None,
        connected=live is not None and live.connected,
        machine=info.machine if info is not None else "",
        node_version=info.version if info is not None else "",
    )
    return call.answer(view)


async def show_audit(call: Call) -> web.StreamResponse:
    """Who did what, newest first."""
    limit = call.number("limit", AUDIT_PAGE_USUAL, least=1, most=AUDIT_PAGE_MOST)
    before = call.number("before", 0, most=2**53) or None
    rows = await call.parts.engine.store.audit(limit, before)
    return call.answer([_audit_view(call, row) for row in rows])


def _audit_view(call: Call, row: AuditRow) -> AuditView:
    nodes = call.parts.engine.state.nodes
    live = nodes.get(NodeId(row.actor))
    return AuditView(
        number=row.number,
        at=rfc3339(row.at) or "",
        actor=row.actor,
        who=live.node.name if live is not None else call.parts.access.serials.name_of(row.actor),
        action=row.action,
        object=row.object,
        detail=row.detail,
        address=row.address,
    )
