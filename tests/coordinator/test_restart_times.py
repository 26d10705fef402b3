"""What a coordinator knows of times outlives its restart: limits that run, and what nodes have shown."""

from __future__ import annotations

import random
import time

import pytest
from api_world import Client, World
from builders import node_id

from planetmesh.coordinator import engine as engine_room
from planetmesh.coordinator.clock import KEEP_LATEST_SECONDS
from planetmesh.coordinator.engine import Engine
from planetmesh.mesh import nodes
from planetmesh.mesh.state import check
from planetmesh.settings import Settings
from planetmesh.store.changes import Changes

YEAR = 365 * 86400.0
THREE = {"type": "range", "first": 1, "last": 3}


class Clocks:
    """The machine's two clocks, as far as the coordinator's own clock sees them."""

    def __init__(self) -> None:
        self.steady, self.wall = 0.0, 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.steady

    def time(self) -> float:
        return time.time() + self.wall


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()
    monkeypatch.setattr("planetmesh.coordinator.clock.time", made)
    return made


async def restarted(world: World) -> Engine:
    """A new process on the same disk: it knows nothing but what lies there."""
    engine = Engine(Settings(), world.engine.store, world.engine.outputs, random.Random(2).random)
    await engine.load()
    check(engine.state)
    return engine


async def tick(world: World) -> None:
    await world.engine.do(nodes.on_tick)


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
async def test_waiting_goes_on_where_it_stood(world: World, operator: Client, clocks: Clocks, jump: float):
    job_id = await operator.submit(inputs=THREE, limits={"queue_seconds": 100})
    await tick(world)
    clocks.steady += 70
    await operator.submit()
    # The machine boots, which takes an hour, and the wall clock is wrong.
    clocks.steady -= 60
    clocks.wall += jump + 3600
    after = await restarted(world)
    waited = after.read_clock().steady - after.state.jobs[job_id].job.waiting_since
    assert 69 <= waited < 100
    assert not nodes.limits.on_tick(after.state, after.read_clock())
    clocks.steady += 31
    nodes.limits.on_tick(after.state, after.read_clock())
    assert job_id not in after.state.jobs


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
async def test_a_task_goes_on_where_it_stood(world: World, operator: Client, clocks: Clocks, jump: float):
    await world.add_node(cpus=2)
    job_id = await operator.submit(inputs=THREE, limits={"total_seconds": 100})
    clocks.steady += 70
    await world.finish(job_id, 0)
    clocks.steady -= 60
    clocks.wall += jump
    after = await restarted(world)
    live, now = after.state.jobs[job_id], after.read_clock().steady
    assert [index for index, begun in live.begun.items() if 69 <= now - begun < 100] == [1]
    assert 0 <= now - live.begun[2] < 30


async def test_the_time_is_written_down_also_where_nothing_happens(
    world: World, operator: Client, clocks: Clocks
):
    job_id = await operator.submit(limits={"queue_seconds": 1000})
    await tick(world)
    for _ in range(3):
        clocks.steady += KEEP_LATEST_SECONDS
        await tick(world)
    after = await restarted(world)
    waited = after.read_clock().steady - after.state.jobs[job_id].job.waiting_since
    assert waited >= 3 * KEEP_LATEST_SECONDS


async def test_without_a_limit_nothing_is_written_while_nothing_happens(
    world: World, operator: Client, clocks: Clocks
):
    await operator.submit()
    await tick(world)
    written = world.engine.meters.commits.count
    for _ in range(3):
        clocks.steady += KEEP_LATEST_SECONDS
        await tick(world)
    assert world.engine.meters.commits.count == written


async def test_what_a_node_has_shown_is_known_after_a_restart(world: World, operator: Client):
    await world.add_node("attic", cpus=1)
    await world.finish(await operator.submit())
    record = (await restarted(world)).state.nodes[node_id("attic")].records["command true"]
    assert record.mean_seconds == pytest.approx(5.0)


async def test_times_are_written_down_one_so_long_after_another(
    world: World, operator: Client, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
):
    seen: list[Changes] = []
    commit = world.engine.store.commit

    async def watched(changes: Changes) -> None:
        seen.append(changes)
        await commit(changes)

    monkeypatch.setattr(world.engine.store, "commit", watched)
    await world.add_node("attic", cpus=1)
    for _ in range(5):
        await world.finish(await operator.submit())
    assert sum(bool(changes.learned) for changes in seen) == 1
    clocks.steady += engine_room.LEARNED_SECONDS
    await operator.submit()
    assert sum(bool(changes.learned) for changes in seen) == 2
    assert not world.engine.state.learned


async def test_what_was_learned_goes_with_its_node(world: World, operator: Client):
    await world.add_node("attic", cpus=1)
    await world.finish(await operator.submit())
    assert (await world.engine.store.load()).learned
    await world.leave("attic")
    await world.engine.do(lambda state, now: nodes.on_node_forgotten(state, node_id("attic"), now))
    assert (await world.engine.store.load()).learned == {}
