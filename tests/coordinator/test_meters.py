"""What the engine measures of itself."""

from __future__ import annotations

from pathlib import Path

from api_world import running_world, small

from planetmesh.coordinator.meters import KEPT, Samples


def test_samples_keep_the_newest_and_count_all() -> None:
    samples = Samples()
    for number in range(KEPT + 10):
        samples.note(float(number))
    assert (samples.count, samples.most) == (KEPT + 10, KEPT + 9.0)
    assert samples.total == sum(range(KEPT + 10))
    assert samples.newest(2) == [KEPT + 8.0, KEPT + 9.0]
    assert samples.newest(0) == []
    assert samples.newest(10 * KEPT)[0] == 10.0


async def test_the_engine_counts_what_it_takes_in_places_and_writes(tmp_path: Path) -> None:
    async with running_world(tmp_path) as world:
        meters = world.engine.meters
        await world.add_node(cpus=3)
        taken, written = meters.happenings, meters.commits.count
        await (await world.client()).submit(**small(10))
        assert meters.placements.total() == 3
        assert meters.happenings == taken + 1
        assert meters.commits.count > written
        assert meters.passes.count >= 1
        assert meters.turns.total >= meters.commits.total > 0
        assert 0 < meters.waits.count <= meters.happenings
