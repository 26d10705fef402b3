"""What is remembered of a node is bounded."""

from __future__ import annotations

import builders

from planetmesh.mesh.live_node import KINDS_MOST, LiveNode


def test_the_kind_not_seen_for_longest_is_forgotten():
    node = LiveNode(builders.node("desk"), 0.0)
    for number in range(KINDS_MOST + 5):
        node.record(f"kind {number}")
        node.record("kind 0")
    assert len(node.records) == KINDS_MOST
    assert "kind 0" in node.records
    assert "kind 1" not in node.records
