"""Effects are few and each is known to those who carry them out."""

from __future__ import annotations

from typing import get_args

import transcript

from planetmesh.coordinator.turn import Turn
from planetmesh.mesh import effects as fx


def test_the_transcript_shows_every_effect():
    assert set(get_args(fx.Effect)) == set(transcript._SHOW)


def test_there_are_few():
    assert len(get_args(fx.Effect)) <= 10


def test_the_engine_knows_what_to_do_with_each(mesh):
    """A whole life of a mesh: whatever effect comes up, a turn takes it."""
    session = mesh.join("desk")
    mesh.submit("a", 2)
    mesh.place()
    mesh.start("desk", "a")
    mesh.wait(20.0)
    mesh.join("desk", held=(transcript.builders.held("a"),))
    mesh.end("desk", "a")
    mesh.cancel("a")
    mesh.take(transcript.nodes.on_link_lost(mesh.state, mesh.node("desk").node.id, session + 1))
    mesh.take(transcript.nodes.on_node_forgotten(mesh.state, mesh.node("desk").node.id, mesh.now))
    kinds = {type(effect) for effect in mesh.unseen}
    assert kinds == set(get_args(fx.Effect))
    Turn().take(mesh.unseen)
    mesh.skip()
