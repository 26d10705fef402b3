"""Nodes: their tags."""

from __future__ import annotations

import builders

from planetmesh.model.node import NodeState


def test_tags_are_those_it_reports_and_those_it_was_given():
    assert builders.node("desk").all_tags == set()
    assert builders.node("desk", tags=("a",)).all_tags == {"a"}
    known = builders.node("desk", tags=("a", "b"), info=builders.info(1, tags=("b", "c")))
    assert known.all_tags == {"a", "b", "c"}


def test_a_node_that_never_spoke_is_offline():
    assert builders.node("desk").state is NodeState.OFFLINE
    assert builders.node("desk").info is None
