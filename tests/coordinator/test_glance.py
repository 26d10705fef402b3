"""What a coordinator's owner sees of its own machine in the first seconds."""

from __future__ import annotations

from api_world import World
from builders import node_id

from planetmesh.coordinator.glance import Glance, look
from planetmesh.model.node import NodeState


async def test_the_own_agent_that_has_not_called_yet_is_starting_until_the_grace_is_over(world: World):
    here = await world.add_node("here", join=False)
    await world.add_node("attic", join=False)
    grace = world.engine.settings.restart_grace_seconds

    def at(up_seconds: float) -> Glance:
        return look(world.engine, world.desk, here, up_seconds)

    early = at(grace / 2)
    assert early.is_starting
    assert early.nodes["OFFLINE"] == 1
    assert [each.name for each in early.away] == ["attic"]
    late = at(grace)
    assert not late.is_starting
    assert late.nodes["OFFLINE"] == 2
    assert {each.name for each in late.away} == {"here", "attic"}
    # As after a new start of the coordinator, which remembers who was well.
    await world.join("attic")
    world.engine.state.nodes[node_id("attic")].session = None
    assert [each.name for each in at(grace / 2).away] == []
    assert "not connected" in at(grace).away[-1].note
    await world.join("attic", session=2)
    await world.join("here")
    called = at(grace / 2)
    assert not called.is_starting
    assert called.nodes[NodeState.HEALTHY] == 2
