"""A pass that asks only the nodes that gained room places the same as one that asks all of them."""

from __future__ import annotations

import copy
import random

import builders
import pytest
from transcript import Transcript

from planetmesh.mesh import fitness, nodes, schedule
from planetmesh.mesh.room import Room
from planetmesh.mesh.state import MeshState, check
from planetmesh.model.blob import Digest, StagedFile
from planetmesh.model.job import Outcome
from planetmesh.model.node import NodeLoad
from planetmesh.settings import Settings

NODES = 12
SEEDS = [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 8))]
FILES = tuple(StagedFile(letter, Digest(letter * 64), 2**30) for letter in "abc")
OUTCOMES = (Outcome.OK, Outcome.OK, Outcome.EXIT_CODE, Outcome.NOT_FOUND, Outcome.CANCELLED)


def forget_all(state: MeshState) -> None:
    """Nothing is known of any node: the next pass asks all of them."""
    state.slots.clear()
    state.backlogs.clear()
    chosen_at, era = state.kept_at
    is_kept = era == state.room.era
    state.room.refit()
    state.kept_at = chosen_at, state.room.era if is_kept else -1


class Bustle:
    """Jobs, nodes and mishaps at random, with passes in between."""

    def __init__(self, seed: int, *, backlog: bool) -> None:
        self.random = random.Random(seed)
        self.mesh = Transcript(
            Settings(prefill_most=64 if backlog else 0, quarantine_failures=2, quarantine_seconds=3.0), seed
        )
        self.jobs = 0
        for number in range(NODES):
            self.mesh.join(f"n{number:02}", self.random.choice([1, 2, 4]), tags=self.tags())

    def tags(self) -> tuple[str, ...]:
        return self.random.choice([(), (), ("gpu",)])

    def node(self) -> str:
        return self.random.choice(list(self.mesh.state.nodes.values())).node.name

    def step(self) -> None:
        happen = [self.submit, self.end, self.end, self.end, self.end, self.pass_time, self.node_trouble]
        for _ in range(self.random.randint(1, 6)):
            self.random.choice(happen)()
        self.mesh.skip()

    def submit(self) -> None:
        draw = self.random
        self.jobs += 1
        self.mesh.submit(
            f"j{self.jobs:04}",
            draw.choice([1, 3, 30]),
            submitter=draw.choice("xy"),
            kind=draw.choice(["p", "q"]),
            priority=draw.choice([0, 0, 1]),
            max_running=draw.choice([None, None, 2]),
            tags=self.tags(),
            max_attempts=draw.choice([1, 5]),
            requests=builders.resources(draw.choice([0.5, 1, 1, 3])),
            files=draw.choice([(), FILES[:1], FILES]),
        )

    def end(self) -> None:
        for live in list(self.mesh.state.nodes.values()):
            if not live.held or not live.connected or self.random.random() < 0.6:
                continue
            job_id, index = self.random.choice(list(live.held))
            task = self.mesh.state.jobs[job_id].tasks[index]
            name, attempt = job_id[:5], task.attempt_on(live.node.id)
            if self.random.random() < 0.1:
                self.mesh.give_back(live.node.name, name, index, attempt)
            else:
                outcome, seconds = self.random.choice(OUTCOMES), self.random.choice([0.01, 0.1, 5.0])
                self.mesh.end(live.node.name, name, index, attempt, outcome, wall_seconds=seconds)

    def pass_time(self) -> None:
        seconds = self.random.choice([0.1, 0.5, 1.5, 4.0, schedule.STARVED_SECONDS])
        self.mesh.pass_time(seconds)
        for live in self.mesh.state.nodes.values():
            if live.connected and self.random.random() < 0.98:
                self.mesh.hear(live.node.name)
        self.mesh.wait(0)

    def node_trouble(self) -> None:
        name, what = self.node(), self.random.choice(["cut", "drain", "tag", "forget", "queue", "files"])
        node_id, mesh = builders.node_id(name), self.mesh
        if what == "cut" and mesh.node(name).connected:
            mesh.cut(name)
        elif what == "drain":
            mesh.drain(name, on=not mesh.node(name).node.draining)
        elif what == "tag":
            mesh.take(nodes.on_node_described(mesh.state, node_id, None, self.tags()))
        elif what == "forget" and not mesh.node(name).connected:
            mesh.take(nodes.on_node_forgotten(mesh.state, node_id, mesh.now))
        elif what == "files":
            gained, lost = self.random.sample([file.digest for file in FILES], 2)
            mesh.take(nodes.on_blobs_held(mesh.state, node_id, (gained,), (lost,)))
        elif what == "queue" and mesh.state.jobs:
            job_id = self.random.choice(list(mesh.state.jobs))
            self.random.choice([mesh.cancel, mesh.pause, mesh.resume])(job_id[:5])
        if not mesh.state.nodes.get(node_id) or not mesh.node(name).connected:
            mesh.join(name, self.random.choice([1, 2, 4]), tags=self.tags())


def placed(mesh: Transcript, most: int = 10_000) -> list[tuple[str, int, str]]:
    found = [(each.job_id, each.index, each.node_id) for each in mesh.place(most)]
    mesh.skip()
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_same_choices_as_a_pass_over_all_nodes(seed: int):
    bustle = Bustle(seed, backlog=False)
    count = 0
    for _step in range(60):
        bustle.step()
        plain = copy.deepcopy(bustle.mesh)
        forget_all(plain.state)
        chosen = placed(bustle.mesh)
        assert chosen == placed(plain)
        check(bustle.mesh.state)
        count += len(chosen)
    assert count > 60


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_that_fits_a_free_slot_is_left_out(seed: int):
    """Whatever was cut short before, after a whole pass not even one over all nodes finds a free slot."""
    bustle = Bustle(seed, backlog=True)
    state = bustle.mesh.state
    for _step in range(60):
        bustle.step()
        for _pass in range(3):
            placed(bustle.mesh, bustle.random.choice([1, 2, 5]))
            check(state)
        bustle.step()
        while state.asked or placed(bustle.mesh):
            placed(bustle.mesh)
        plain = copy.deepcopy(bustle.mesh)
        forget_all(plain.state)
        free = {node_id: live.offer for node_id, live in state.nodes.items() if not live.held}
        for _job, _index, node_id in placed(plain):
            live = plain.state.nodes[node_id]
            assert node_id not in free
            assert not live.used.fits_in(live.offer), "it had a free slot and was not asked"


class TestWhatGivesRoom:
    """Each by itself, with the clock standing still: what changed is found, not looked for again."""

    @pytest.fixture
    def full(self, mesh: Transcript) -> Transcript:
        mesh.join("desk")
        mesh.submit("a", 9)
        assert placed(mesh) == [(builders.job_id("a"), 0, builders.node_id("desk"))]
        assert placed(mesh) == []
        return mesh

    def test_an_end(self, full: Transcript):
        full.end("desk", "a", wall_seconds=50.0)
        assert len(placed(full)) == 1

    def test_a_new_node(self, full: Transcript):
        full.join("nas")
        assert len(placed(full)) == 1

    def test_a_larger_offer(self, full: Transcript):
        full.join("desk", 3, instance="i1", held=(builders.held("a"),))
        assert len(placed(full)) == 2

    def test_a_rest_that_is_over(self, full: Transcript):
        full.give_back("desk", "a")
        assert placed(full) == []
        full.pass_time(2.0)
        assert len(placed(full)) == 1

    def test_a_tag(self, full: Transcript):
        full.submit("b", tags=("gpu",), priority=1)
        full.cancel("a")
        assert placed(full) == []
        full.take(nodes.on_node_described(full.state, builders.node_id("desk"), None, ("gpu",)))
        assert [job[0] for job, *_ in placed(full)] == ["b"]

    def test_a_drain_that_is_over(self, full: Transcript):
        full.drain("desk")
        full.end("desk", "a", wall_seconds=50.0)
        assert placed(full) == []
        full.drain("desk", on=False)
        assert len(placed(full)) == 1

    def test_a_word_after_silence(self, full: Transcript):
        full.end("desk", "a", wall_seconds=50.0)
        full.wait(7.0)
        assert placed(full) == []
        full.hear("desk")
        assert len(placed(full)) == 1

    def test_a_line_that_no_longer_starves(self, mesh: Transcript):
        mesh.join("desk", 2)
        mesh.submit("a", 2)
        assert len(placed(mesh)) == 2
        mesh.submit("b", requests=builders.resources(2))
        placed(mesh)
        mesh.pass_time(schedule.STARVED_SECONDS)
        mesh.hear("desk")
        mesh.submit("c")
        mesh.end("desk", "a", wall_seconds=50.0)
        assert placed(mesh) == []
        mesh.cancel("b")
        assert [job[0] for job, *_ in placed(mesh)] == ["c"]

    def test_if_all_else_fails_the_clock(self, full: Transcript):
        """A change that nobody counted costs a moment and not the task."""
        full.node("desk").used = builders.resources(0)
        assert placed(full) == []
        full.pass_time(schedule.LOOK_AGAIN_SECONDS)
        assert len(placed(full)) == 1
        full.node("desk").used = builders.resources(2)


class TestCost:
    def test_a_turn_of_a_full_mesh_asks_only_the_node_that_changed(self, monkeypatch, mesh: Transcript):
        for number in range(300):
            mesh.join(f"n{number:03}")
        mesh.submit("a", 10_000)
        assert len(placed(mesh)) == 300
        asked = []
        for name in ("has_slot", "objection"):
            original = getattr(fitness, name)

            def noted(*args, _original=original, _name=name):
                asked.append(_name)
                return _original(*args)

            monkeypatch.setattr(fitness, name, noted)
        for number in range(20):
            name = f"n{number:03}"
            __job_id, index = next(iter(mesh.node(name).held))
            mesh.end(name, "a", index, wall_seconds=50.0)
            assert [node_id for *_, node_id in placed(mesh)] == [builders.node_id(name)]
        assert len(asked) <= 5 * 20

    def test_heartbeats_change_nothing(self, mesh: Transcript):
        mesh.join("desk")
        mesh.submit("a", 9)
        placed(mesh)
        before = mesh.state.room.era, mesh.state.room.number
        for _beat in range(3):
            mesh.hear("desk")
            mesh.take(nodes.on_heartbeat(mesh.state, builders.node_id("desk"), NodeLoad(), mesh.now))
        assert (mesh.state.room.era, mesh.state.room.number) == before
        mesh.skip()


def test_gains_are_told_newest_first_and_each_node_once():
    room = Room({})
    for name in ("a", "b", "a", "c"):
        room.more_room(builders.node_id(name))
    assert room.gained_since(0) == [builders.node_id(name) for name in "cab"]
    assert room.gained_since(3) == [builders.node_id("c")]
    assert room.gained_since(room.number) == []
