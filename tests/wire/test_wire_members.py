"""What members are told of themselves: a newer coordinator may say more, an older client reads on."""

from __future__ import annotations

import msgspec

from planetmesh.model.node import NodeState
from planetmesh.wire.members import AuditView, SelfView

SEEN = SelfView(
    id="a", role="agent", name="desk", mesh="home", version="1", now="2026-01-02T03:04:05Z", address="::1"
)


def test_what_a_newer_coordinator_adds_is_passed_over():
    said = msgspec.to_builtins(SEEN) | {"state": "HEALTHY", "connected": True, "news": [1]}
    seen = msgspec.json.decode(msgspec.json.encode(said), type=SelfView)
    assert (seen.state, seen.connected, seen.machine) == (NodeState.HEALTHY, True, "")


def test_an_audit_row_needs_no_detail():
    row = msgspec.json.decode(
        b'{"number":1,"at":"x","actor":"a","who":"","action":"submit","object":"j"}', type=AuditView
    )
    assert row.detail == ""
