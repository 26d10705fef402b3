"""One bad machine does not eat the queue, a bad job is nobody's fault, what is mended is trusted again."""

from __future__ import annotations

import random

import msgspec
import pytest
from transcript import Transcript

from planetmesh.mesh import fitness, jobs, quarantine
from planetmesh.mesh.lifecycle import Phase
from planetmesh.mesh.live_node import LiveNode
from planetmesh.model.job import Outcome, TaskState

KIND = "command ffmpeg"


def phase(mesh: Transcript, name: str = "bad") -> Phase:
    record = mesh.node(name).records.get(KIND)
    return record.phase if record else Phase.GOOD


def fail(mesh: Transcript, times: int, seconds: float = 0.1, **changes) -> None:
    """What the bad machine has in hand fails, and it is given the next."""
    for _time in range(times):
        key = next(iter(mesh.node("bad").held))
        mesh.end("bad", "a", key[1], mesh.task("a", key[1]).attempt, outcome=Outcome.EXIT_CODE,
                 error="No codec.", wall_seconds=seconds, **changes)  # fmt: skip
        mesh.place()


@pytest.fixture
def shop(mesh: Transcript) -> Transcript:
    mesh.join("bad")
    mesh.join("good", 2)
    mesh.submit("a", 100, kind=KIND)
    mesh.place()
    mesh.skip()
    return mesh


def good_end(mesh: Transcript, seconds: float = 60.0) -> None:
    key = next(iter(mesh.node("good").held))
    mesh.end("good", "a", key[1], mesh.task("a", key[1]).attempt, wall_seconds=seconds)
    mesh.place()


def test_three_quick_failures_where_others_do_well(shop: Transcript):
    good_end(shop)
    fail(shop, 2)
    assert phase(shop) is Phase.GOOD
    fail(shop, 1)
    assert phase(shop) is Phase.COOLING
    assert not shop.node("bad").held
    reason = fitness.objection(shop.job("a").signature, shop.node("bad"))
    assert reason is not None
    assert reason.code == "quarantine"
    assert "failed 'command ffmpeg' 3 times quickly while others did well (No codec)" in reason.sentence
    assert reason.hint == "planetmesh node resume bad"
    assert [each.kind for each in shop.node("bad").node.confined] == [KIND]
    shop.skip()


def test_the_proof_may_come_later(shop: Transcript):
    fail(shop, 5)
    assert phase(shop) is Phase.GOOD
    good_end(shop)
    assert phase(shop) is Phase.COOLING
    shop.skip()


def test_running_on_elsewhere_is_proof_enough(shop: Transcript):
    for key in list(shop.node("good").held):
        shop.start("good", "a", key[1])
    shop.stay("bad", "good", seconds=4)
    fail(shop, 3)
    assert phase(shop) is Phase.COOLING
    shop.skip()


def test_a_bad_job_is_no_machines_fault(shop: Transcript):
    for _round in range(4):
        fail(shop, 1)
        key = next(iter(shop.node("good").held))
        shop.end("good", "a", key[1], shop.task("a", key[1]).attempt, outcome=Outcome.EXIT_CODE)
        shop.place()
    assert phase(shop) is Phase.GOOD
    assert phase(shop, "good") is Phase.GOOD
    shop.skip()


def test_tasks_that_failed_elsewhere_too_are_no_machines_fault(mesh: Transcript):
    mesh.join("good", 4)
    mesh.submit("a", 4, kind=KIND, max_attempts=3)
    mesh.place()
    assert len(mesh.node("good").held) == 4
    for index in range(4):
        outcome = Outcome.OK if index == 0 else Outcome.EXIT_CODE
        mesh.end("good", "a", index, mesh.task("a", index).attempt, outcome=outcome, wall_seconds=0.1)
    mesh.join("bad", 4)
    mesh.stay("good", "bad", seconds=60)
    mesh.place()
    assert len(mesh.node("bad").held) == 3
    fail(mesh, 3)
    assert phase(mesh) is Phase.GOOD
    mesh.skip()


def test_what_had_failed_for_good_and_is_tried_again_is_no_machines_fault(mesh: Transcript):
    mesh.join("nas")
    mesh.submit("a", 8, kind=KIND, max_attempts=1)
    mesh.place()
    mesh.start("nas", "a", 0)
    mesh.join("good", 7)
    mesh.place()
    failed = []
    for index in range(1, 8):
        was = mesh.task("a", index)
        mesh.end("good", "a", index, outcome=Outcome.EXIT_CODE, wall_seconds=0.1)
        failed.append(msgspec.structs.replace(was, state=TaskState.FAILED, failures=1))
    mesh.join("bad", 8)
    # What goes on there for long is what others are compared with.
    mesh.stay("nas", "good", "bad", seconds=4)
    live = mesh.job("a")
    jobs.on_retried(mesh.state, jobs.Earlier(live.job, live.counts, 8, (), tuple(failed)))
    mesh.drain("good")
    mesh.place()
    assert len(mesh.node("bad").held) == 7
    fail(mesh, 7)
    assert phase(mesh) is Phase.GOOD
    mesh.skip()


@pytest.mark.parametrize("seed", range(10))
def test_faulty_inputs_in_a_row_leave_a_machine_for_the_rest(seed: int):
    """All three machines are well, the last third of the inputs is not: no cool-down is waited for."""
    draw, mesh, names = random.Random(seed), Transcript(seed=seed), ["desk", "nas", "pi"]
    for name in names:
        mesh.join(name, draw.choice([1, 2, 4]))
    mesh.submit("a", 90, kind=KIND, max_attempts=3)
    began = mesh.now.steady
    mesh.place()
    while "a" in {job_id[0] for job_id in mesh.state.jobs}:
        held = [(name, index) for name in names for _job, index in mesh.node(name).held]
        for name, index in draw.sample(held, min(len(held), 3)):
            outcome = Outcome.OK if index < 60 else Outcome.EXIT_CODE
            mesh.end(name, "a", index, mesh.task("a", index).attempt, outcome=outcome, wall_seconds=0.1)
        mesh.stay(*names, seconds=0.1)
        mesh.place()
        assert any(phase(mesh, name) is Phase.GOOD for name in names)
    assert mesh.now.steady - began < mesh.state.settings.quarantine_seconds
    mesh.skip()


def test_slow_failures_and_other_kinds_count_for_nothing(shop: Transcript):
    good_end(shop)
    fail(shop, 4, seconds=11.0)
    assert phase(shop) is Phase.GOOD
    fail(shop, 3)
    shop.submit("b", 1, kind="command true", node=shop.node("bad").node.id)
    assert [each.job_id[0] for each in shop.place()] == ["b"]
    shop.skip()


def cooled(shop: Transcript) -> Transcript:
    good_end(shop)
    fail(shop, 3)
    shop.stay("bad", "good", seconds=58)
    assert phase(shop) is Phase.COOLING
    shop.stay("bad", "good", seconds=4)
    assert phase(shop) is Phase.PROBE
    shop.place()
    assert phase(shop) is Phase.PROBING
    assert len(shop.node("bad").held) == 1
    return shop


def test_a_probe_heals(shop: Transcript):
    cooled(shop)
    key = next(iter(shop.node("bad").held))
    shop.end("bad", "a", key[1], shop.task("a", key[1]).attempt)
    assert phase(shop) is Phase.GOOD
    assert shop.node("bad").node.confined == ()
    assert shop.place()
    shop.skip()


def test_a_probe_that_fails_doubles_the_pause(shop: Transcript):
    cooled(shop)
    fail(shop, 1)
    assert phase(shop) is Phase.COOLING
    assert shop.node("bad").records[KIND].cool_seconds == 120
    shop.skip()


def test_a_probe_that_comes_back_unstarted_tells_nothing(shop: Transcript):
    cooled(shop)
    key = next(iter(shop.node("bad").held))
    shop.give_back("bad", "a", key[1], shop.task("a", key[1]).attempt)
    assert phase(shop) is Phase.PROBE
    shop.skip()


def test_an_operator_lifts_it(shop: Transcript):
    good_end(shop)
    fail(shop, 3)
    shop.drain("bad", on=False)
    assert phase(shop) is Phase.GOOD
    assert shop.place()
    shop.skip()


def test_it_outlives_a_restart(shop: Transcript):
    good_end(shop)
    fail(shop, 3)
    again = LiveNode(msgspec.structs.replace(shop.node("bad").node), 0.0)
    quarantine.restore(again, 100.0)
    record = again.records[KIND]
    assert (record.phase, record.cool_until, record.reason) == (Phase.COOLING, 160.0, "No codec.")
    shop.skip()


class _Counted(dict):
    """A table that counts how often all of it is looked at."""

    walks = 0

    def values(self):
        self.walks += 1
        return super().values()


@pytest.mark.parametrize("runs_elsewhere", [True, False])
def test_a_quick_failure_does_not_walk_all_nodes(mesh: Transcript, runs_elsewhere: bool):
    for number in range(20):
        mesh.join(f"n{number:02}", 2)
    mesh.join("bad")
    mesh.submit("a", 100, kind=KIND)
    mesh.place()
    if runs_elsewhere:
        for name in ("n03", "bad"):
            key = next(iter(mesh.node(name).held))
            mesh.start(name, "a", key[1])
        mesh.stay(*[live.node.name for live in mesh.state.nodes.values()], seconds=4)
    mesh.state.nodes = table = _Counted(mesh.state.nodes)
    for _failure in range(5):
        held = mesh.node("bad").held
        if held:
            _job, index = next(iter(held))
            mesh.end("bad", "a", index, mesh.task("a", index).attempt, Outcome.EXIT_CODE, wall_seconds=0.1)
            mesh.place()
    assert phase(mesh) is (Phase.COOLING if runs_elsewhere else Phase.GOOD)
    assert table.walks == 0
    mesh.skip()
