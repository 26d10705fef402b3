"""Chunks that the scheduler cuts: a few seconds of work on that node, and fair at the end."""

from __future__ import annotations

import builders
import pytest
from transcript import Transcript

from planetmesh.mesh import chunks
from planetmesh.mesh.effects import Send
from planetmesh.model.job import AUTO_CHUNK, Counts, Outcome, Task
from planetmesh.wire.agent import AssignTask


def learn(mesh: Transcript, seconds: dict[str, float], count: int = 10_000) -> None:
    """Each node does one input, and is so known to take so long for it."""
    mesh.submit("a", count, chunk=AUTO_CHUNK)
    for placement in mesh.place():
        assert placement.width == 1
        name = mesh.state.nodes[placement.node_id].node.name
        mesh.end(name, "a", placement.index, wall_seconds=seconds[name])


def test_a_slow_machine_gets_small_ones(mesh: Transcript):
    mesh.join("desk")
    mesh.join("pi")
    learn(mesh, {"desk": 0.05, "pi": 1.0})
    mesh.skip()
    widths = {mesh.state.nodes[each.node_id].node.name: each.width for each in mesh.place()}
    assert widths == {"desk": 100, "pi": 5}
    sent = [each.message for each in mesh.unseen if isinstance(each, Send)]
    items = {each.index: each.items for each in sent if isinstance(each, AssignTask)}
    assert sorted(len(each) for each in items.values()) == [5, 100]
    assert sorted(int(text) for each in items.values() for text in each) == list(range(2, 107))
    assert mesh.job("a").counts == Counts(queued=10_000 - 107, assigned=105, completed=2)
    mesh.skip()


def test_a_chunk_ends_and_fails_as_a_whole(mesh: Transcript):
    mesh.join("desk")
    learn(mesh, {"desk": 1.0}, count=11)
    (chunk,) = mesh.place()
    assert chunk.width == 5
    mesh.end("desk", "a", chunk.index, outcome=Outcome.EXIT_CODE)
    assert mesh.job("a").counts == Counts(queued=5, retrying=5, completed=1)
    mesh.stay("desk", seconds=4)
    assert {each.index: each.width for each in mesh.place()} == {6: 3}
    mesh.end("desk", "a", 6, wall_seconds=3.0)
    assert {each.index: each.width for each in mesh.place()} == {1: 5}
    mesh.end("desk", "a", 1, attempt=2, wall_seconds=5.0)
    assert mesh.job("a").counts == Counts(queued=2, completed=9)
    mesh.skip()


def test_the_last_ones_are_fair(mesh: Transcript):
    mesh.join("desk", 2)
    learn(mesh, {"desk": 0.001}, count=50)
    taken = []
    while mesh.state.jobs:
        for each in mesh.place():
            taken.append(each.width)
            mesh.end("desk", "a", each.index, wall_seconds=0.001 * each.width)
    assert sum(taken) == 48
    assert taken == sorted(taken, reverse=True)
    assert taken[0] == 12
    assert taken[-1] == 1
    mesh.skip()


def test_a_cancelled_task_ahead_ends_the_chunk_before_it(mesh: Transcript):
    mesh.join("desk")
    learn(mesh, {"desk": 0.01})
    mesh.cancel_task("a", 7)
    (chunk,) = mesh.place()
    assert (chunk.index, chunk.width) == (1, 6)
    mesh.end("desk", "a", 1)
    (chunk,) = mesh.place()
    assert chunk.index == 8
    assert mesh.task("a", 9).index == 8
    mesh.skip()


def test_a_job_without_inputs_is_one_task_all_the_same(mesh: Transcript):
    mesh.join("desk")
    mesh.node("desk").record("command").mean_seconds = 0.1
    mesh.submit("a", 1, chunk=AUTO_CHUNK)
    (only,) = mesh.place()
    assert only.width == 1
    mesh.end("desk", "a")
    assert not mesh.state.jobs
    mesh.skip()


def test_a_task_that_got_a_record_at_a_restart_stays_as_narrow_as_that(mesh: Transcript):
    mesh.join("desk")
    learn(mesh, {"desk": 0.01})
    live = mesh.job("a")
    live.next_index = 5
    for index in range(1, 5):
        live.adopt(Task(live.job.id, index))
    mesh.state.line_up(live)
    (chunk,) = mesh.place()
    assert (chunk.index, chunk.width) == (1, 1)
    mesh.skip()


@pytest.mark.parametrize(("length", "most"), [(10, 1000), (1000, 65), (70_000, 1)])
def test_inputs_of_one_task_fit_a_command(mesh: Transcript, length: int, most: int):
    mesh.join("desk")
    mesh.submit("a", builders.items(*["x" * length] * 5000), chunk=AUTO_CHUNK)
    mesh.node("desk").record("command").mean_seconds = 1e-9
    assert chunks.width(mesh.job("a"), mesh.node("desk"), 1, mesh.state.settings) == most
    mesh.skip()
