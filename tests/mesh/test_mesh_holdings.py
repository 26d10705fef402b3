"""Tasks go where their large files lie, as far as that is worth it."""

from __future__ import annotations

import random

import builders
import pytest
from transcript import Transcript

from planetmesh.mesh import explain, fitness, holdings, nodes, reactor, schedule, score
from planetmesh.mesh.holdings import Holdings, missing_bytes
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import check
from planetmesh.model.blob import LARGE_BYTES, LARGE_MOST, Digest, StagedFile
from planetmesh.model.job import Items, Outcome
from planetmesh.settings import Settings, Weights

MIB = 1024 * 1024
GIB = 1024 * MIB


def digest(number: int) -> Digest:
    return Digest(f"{number:064x}")


def file(number: int, size: int = GIB, *, is_tree: bool = False) -> StagedFile:
    return StagedFile(f"f{number}", digest(number), size, is_tree=is_tree)


def holds(mesh: Transcript, name: str, *numbers: int) -> None:
    mesh.take(nodes.on_blobs_held(mesh.state, builders.node_id(name), tuple(map(digest, numbers)), ()))


def where(mesh: Transcript) -> str:
    """The nodes that get tasks in a pass."""
    placed = mesh.place()
    mesh.skip()
    return " ".join(mesh.state.nodes[each.node_id].node.name for each in placed)


def four(mesh: Transcript, cpus: float = 4) -> None:
    for name in ("m1", "m2", "m3", "m4"):
        mesh.join(name, cpus)


class TestPlacing:
    def test_where_the_file_lies(self, mesh: Transcript):
        four(mesh)
        holds(mesh, "m3", 1)
        mesh.submit("a", files=(file(1),))
        assert where(mesh) == "m3"

    def test_a_small_file_is_no_reason(self, mesh: Transcript):
        four(mesh)
        holds(mesh, "m3", 1)
        mesh.submit("a", files=(file(1, LARGE_BYTES - 1),))
        assert where(mesh) == "m1"

    def test_each_task_goes_to_its_own_input(self, mesh: Transcript):
        four(mesh)
        holds(mesh, "m4", 1)
        holds(mesh, "m2", 2)
        holds(mesh, "m3", 3)
        files = (file(1), file(2), None, file(3))
        mesh.submit("a", Items(("x", "y", "z", "w"), files))
        assert where(mesh) == "m4 m2 m1 m3"

    def test_the_one_that_holds_most_of_it(self, mesh: Transcript):
        four(mesh)
        holds(mesh, "m2", 1)
        holds(mesh, "m4", 2, 3)
        mesh.submit("a", files=(file(1), file(2), file(3)))
        assert where(mesh) == "m4"

    def test_a_folder_counts_once_its_manifest_was_read(self, mesh: Transcript):
        four(mesh)
        holds(mesh, "m3", 7)
        mesh.submit("a", files=(file(1, 500, is_tree=True),))
        mesh.submit("b", files=(file(1, 500, is_tree=True),))
        assert where(mesh) == "m1 m2"
        mesh.take(nodes.on_folder_known(mesh.state, digest(1), {digest(7): GIB}))
        mesh.submit("c", files=(file(1, 500, is_tree=True),))
        assert where(mesh) == "m3"

    def test_others_help_when_it_is_busy(self, mesh: Transcript):
        """A gigabyte is fetched sooner than a machine with four CPUs has done thirty tasks."""
        four(mesh)
        holds(mesh, "m3", 1)
        mesh.submit("a", 16, files=(file(1),))
        placed = where(mesh).split()
        assert placed[:3] == ["m3"] * 3
        assert {name: placed.count(name) for name in placed} == {"m1": 4, "m2": 4, "m3": 4, "m4": 4}

    def test_not_where_a_task_may_not_go(self, mesh: Transcript):
        four(mesh)
        mesh.join("gpu", 4, tags=("gpu",))
        holds(mesh, "m3", 1)
        mesh.submit("a", files=(file(1),), tags=("gpu",))
        assert where(mesh) == "gpu"

    def test_not_where_it_failed(self, mesh: Transcript):
        four(mesh)
        holds(mesh, "m3", 1)
        mesh.submit("a", files=(file(1),), max_attempts=3)
        assert where(mesh) == "m3"
        mesh.start("m3", "a")
        mesh.end("m3", "a", outcome=Outcome.EXIT_CODE)
        mesh.wait(5.0)
        assert where(mesh) == "m1"

    def test_a_weight_of_zero_ends_it(self):
        mesh = Transcript(Settings(weights=Weights(missing_input=0.0)))
        four(mesh)
        holds(mesh, "m3", 1)
        mesh.submit("a", files=(file(1),))
        assert where(mesh) == "m1"

    def test_backlog_stands_there_too(self, mesh: Transcript):
        mesh.join("m1", 1)
        mesh.join("m2", 1)
        holds(mesh, "m2", 1)
        mesh.submit("a", 100, files=(file(1),))
        assert where(mesh) == "m2 m1"
        for name, index in (("m2", 0), ("m1", 1)):
            mesh.start(name, "a", index)
            mesh.end(name, "a", index, wall_seconds=0.01)
        mesh.skip()
        assert where(mesh).split().count("m2") > 10

    def test_the_winner_says_why(self, mesh: Transcript):
        four(mesh)
        holds(mesh, "m3", 2)
        mesh.submit("a", files=(file(1, 300 * MIB), file(2)))
        (placement,) = mesh.place()
        mesh.skip()
        terms = placement.terms
        assert placement.node_id == builders.node_id("m3")
        assert terms.missing_input == pytest.approx(score.missing_input(300 * MIB)) == 0.75
        assert terms.cost == pytest.approx(1.5)
        assert explain.terms_in_words(terms).startswith("cost 1.50, from input to fetch 0.75, round trip")
        mesh.submit("b")
        (placement,) = mesh.place()
        mesh.skip()
        assert "input" not in explain.terms_in_words(placement.terms)


@pytest.mark.parametrize("seed", range(30))
def test_no_node_that_could_take_it_would_have_been_cheaper(seed: int):
    """Against all nodes one by one: what is asked of the holders only is asked of everybody here."""
    draw = random.Random(seed)
    mesh = Transcript(Settings(prefill_most=0), seed)
    files = [file(number, draw.choice([5, 50, 500]) * MIB) for number in range(6)]
    for number in range(12):
        mesh.join(f"n{number:02}", draw.choice([1, 2, 4]), tags=draw.choice([(), (), ("gpu",)]))
        mesh.node(f"n{number:02}").rtt_seconds = draw.choice([0.0, 0.001, 0.02])
    for name in "abcdef":
        own = Items(("x", "y", "z"), (None, draw.choice(files), draw.choice(files)))
        shared = tuple(draw.sample(files, draw.randint(0, 3)))
        mesh.submit(name, draw.choice([own, 5]), files=shared, tags=draw.choice([(), ("gpu",)]))
    for number in range(12):
        holds(mesh, f"n{number:02}", *draw.sample(range(6), draw.randint(0, 4)))
    check(mesh.state)

    def look(placement: schedule.Placement) -> None:
        job, weights = mesh.state.jobs[placement.job_id], mesh.state.settings.weights
        task = job.task(placement.index)
        assert task is not None
        wanted = mesh.state.holdings.wanted(job, task)

        def cost(live: LiveNode) -> float:
            return score.cost(live, weights, missing_bytes(live, wanted))

        could = [
            live
            for live in mesh.state.nodes.values()
            if fitness.objection(job.signature, live) is None
            and fitness.has_slot(live, job.signature[0], mesh.now.steady)
        ]
        assert placement.terms.cost == min(map(cost, could))
        assert placement.terms.cost == cost(mesh.state.nodes[placement.node_id])

    count = 0
    for placement in schedule.placements(mesh.state, mesh.now.steady, lambda: True):
        look(placement)
        mesh.take(reactor.on_placed(mesh.state, placement, mesh.now))
        count += 1
    assert count
    mesh.skip()


class TestHoldings:
    def test_what_comes_and_goes(self, mesh: Transcript, monkeypatch):
        mesh.join("desk")
        mesh.join("nas")
        desk, nas = builders.node_id("desk"), builders.node_id("nas")
        holds(mesh, "desk", 1, 2)
        holds(mesh, "nas", 2, 2)
        check(mesh.state)
        assert list(mesh.state.holdings.of(digest(2))) == [desk, nas]
        nodes.on_blobs_held(mesh.state, desk, (digest(3),), (digest(2), digest(9)))
        assert list(mesh.state.holdings.of(digest(2))) == [nas]
        monkeypatch.setattr(holdings, "BLOBS_MOST", 2)
        holds(mesh, "desk", 4)
        assert mesh.node("desk").blobs == {digest(1), digest(3)}
        mesh.join("desk")
        assert not mesh.node("desk").blobs
        assert list(mesh.state.holdings.of(digest(1))) == []
        check(mesh.state)
        mesh.skip()

    def test_who_is_forgotten_holds_nothing(self, mesh: Transcript):
        mesh.join("desk")
        holds(mesh, "desk", 1)
        mesh.cut("desk")
        mesh.take(nodes.on_node_forgotten(mesh.state, builders.node_id("desk"), mesh.now))
        check(mesh.state)
        assert list(mesh.state.holdings.of(digest(1))) == []
        mesh.skip()

    def test_few_files_and_few_nodes_are_looked_at(self, mesh: Transcript, monkeypatch):
        monkeypatch.setattr(holdings, "HOLDERS_MOST", 3)
        four(mesh)
        for name in ("m1", "m2", "m3", "m4"):
            holds(mesh, name, 1)
        holds(mesh, "m4", 2)
        many = tuple(file(number, GIB + number * MIB) for number in range(100))
        mesh.submit("a", Items(("x",), (file(2, 9 * GIB),)), files=many)
        task = mesh.task("a")
        wanted = mesh.state.holdings.wanted(mesh.job("a"), task)
        assert len(wanted) == LARGE_MOST
        assert digest(2) in wanted
        assert digest(99) in wanted
        found = mesh.state.holdings.holders({digest(1): GIB, digest(2): 9 * GIB})
        assert found == [builders.node_id(name) for name in ("m4", "m1", "m2")]
        mesh.skip()

    def test_folders_are_forgotten_in_their_turn(self, monkeypatch, mesh: Transcript):
        monkeypatch.setattr(holdings, "FOLDERS_MOST", 2)
        known = Holdings()
        mesh.join("desk")
        mesh.submit("a", files=(file(1, 9, is_tree=True),))
        for number in (1, 2):
            known.know_folder(digest(number), {digest(number + 10): GIB})
        assert known.wanted(mesh.job("a"), mesh.task("a")) == {digest(11): GIB}
        known.know_folder(digest(3), {})
        assert known.wanted(mesh.job("a"), mesh.task("a")) == {digest(11): GIB}
        known.know_folder(digest(4), {})
        known.know_folder(digest(5), {})
        assert known.wanted(mesh.job("a"), mesh.task("a")) == {}
        mesh.skip()
