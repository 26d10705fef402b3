"""The last task of a job runs a second time on an idle machine; exactly one of the two counts."""

from __future__ import annotations

import builders
import pytest
from transcript import Transcript

from planetmesh.model.job import Outcome


@pytest.fixture
def late(mesh: Transcript) -> Transcript:
    """`a/1` lags on slow; fast is idle."""
    mesh.join("slow")
    mesh.join("fast")
    mesh.submit("a", 2)
    mesh.place()
    first, second = (mesh.state.nodes[node_id].node.name for node_id in (
        mesh.task("a", 0).node_id, mesh.task("a", 1).node_id))  # fmt: skip
    mesh.start(first, "a", 0)
    mesh.start(second, "a", 1)
    mesh.end(first, "a", 0, wall_seconds=3.0)
    mesh.idle, mesh.lagging = first, second  # type: ignore[attr-defined]
    mesh.stay("slow", "fast", seconds=4)
    mesh.skip()
    assert mesh.task("a", 1).twin_node is None
    mesh.stay("slow", "fast", seconds=4)
    mesh.expect(f"""
        save a/1 RUNNING #1 on {second}
        {first} <- AssignTask a/1 #2
        job a changed
    """)
    return mesh


def test_the_second_one_wins(late: Transcript):
    late.start(late.idle, "a", 1, attempt=2)
    late.skip()
    late.end(late.idle, "a", 1, attempt=2)
    late.expect(f"""
        {late.lagging} <- StopTask a/1 #1
        save a/1 COMPLETED #2 on {late.idle} ok
        job a changed
        save job a started completed
        slow <- CloseJob a
        fast <- CloseJob a
        job a ended COMPLETED
    """)
    late.end(late.lagging, "a", 1, attempt=1)
    late.expect("")


def test_the_first_one_wins(late: Transcript):
    late.end(late.lagging, "a", 1)
    late.expect(f"""
        {late.idle} <- StopTask a/1 #2
        save a/1 COMPLETED #1 on {late.lagging} ok
        job a changed
        save job a started completed
        slow <- CloseJob a
        fast <- CloseJob a
        job a ended COMPLETED
    """)
    late.end(late.idle, "a", 1, attempt=2, outcome=Outcome.CANCELLED)
    late.expect("")


def test_one_fails_and_the_other_goes_on(late: Transcript):
    late.end(late.lagging, "a", 1, outcome=Outcome.EXIT_CODE)
    late.expect(f"""
        keep a/1 #1 exit_code
        save a/1 RUNNING #2 on {late.idle}
        job a changed
    """)
    assert late.task("a", 1).failures == 1
    late.end(late.idle, "a", 1, attempt=2)
    assert not late.state.jobs
    late.skip()


def test_the_second_one_fails_and_the_next_has_a_number_of_its_own(late: Transcript):
    late.end(late.idle, "a", 1, attempt=2, outcome=Outcome.EXIT_CODE)
    late.expect(f"""
        keep a/1 #2 exit_code
        save a/1 RUNNING #1 on {late.lagging}
        job a changed
    """)
    late.end(late.lagging, "a", 1, outcome=Outcome.EXIT_CODE)
    late.stay("slow", "fast", seconds=8)
    late.place()
    assert late.task("a", 1).attempt == 3
    late.skip()


def test_bad_inputs_are_an_end_for_both(late: Transcript):
    late.end(late.idle, "a", 1, attempt=2, outcome=Outcome.INPUTS, exit_code=1, error="1 of 20")
    late.expect(f"""
        {late.lagging} <- StopTask a/1 #1
        save a/1 FAILED #2 on {late.idle} inputs
        job a changed
        save job a started completed
        slow <- CloseJob a
        fast <- CloseJob a
        job a ended FAILED: 1 of 20
    """)


@pytest.mark.parametrize("gone", ["idle", "lagging"])
def test_a_node_of_the_two_goes_away(late: Transcript, gone: str):
    other = late.lagging if gone == "idle" else late.idle
    late.stay(other, seconds=18)
    task = late.task("a", 1)
    assert (task.twin_node, task.losses) == (None, 1)
    assert late.where() == {other: "a/1"}
    late.end(other, "a", 1, attempt=task.attempt)
    assert not late.state.jobs
    late.skip()


def test_a_restarted_agent_has_lost_its_one(late: Transcript):
    late.join(late.lagging, instance="i2")
    assert late.where() == {late.idle: "a/1"}
    late.skip()


def test_a_cancel_stops_both(late: Transcript):
    late.cancel("a")
    text = [str(effect) for effect in late.unseen]
    assert sum("StopTask" in line for line in text) == 2
    assert not late.where()
    late.skip()


def test_given_back_by_one_the_other_goes_on(late: Transcript):
    late.give_back(late.lagging, "a", 1)
    late.expect(f"""
        save a/1 RUNNING #2 on {late.idle}
        job a changed
    """)


@pytest.mark.parametrize(
    "changes", [{"at_most_once": True}, {"duplicates": False}], ids=["at most once", "not wished"]
)
def test_never_twice(mesh: Transcript, changes):
    mesh.join("slow")
    mesh.join("fast")
    mesh.submit("a", 2, **changes)
    mesh.place()
    for name in ("slow", "fast"):
        key = next(iter(mesh.node(name).held))
        mesh.start(name, "a", key[1])
    mesh.end("slow", "a", next(iter(mesh.node("slow").held))[1])
    mesh.stay("slow", "fast", seconds=60)
    assert all(task.twin_node is None for task in mesh.job("a").tasks.values())
    mesh.skip()


def test_not_while_others_wait(mesh: Transcript):
    mesh.join("slow")
    mesh.join("fast")
    mesh.submit("a", 2)
    mesh.place()
    key = next(iter(mesh.node("slow").held))
    mesh.start("slow", "a", key[1])
    mesh.end("fast", "a", next(iter(mesh.node("fast").held))[1])
    mesh.submit("b", 1, requests=builders.resources(1))
    mesh.stay("slow", "fast", seconds=60)
    assert mesh.task("a", key[1]).twin_node is None
    mesh.cancel("b")
    mesh.submit("c", 1, tags=("gpu",))
    mesh.stay("slow", "fast", seconds=2)
    assert mesh.task("a", key[1]).twin_node is not None, "what can run nowhere keeps no machine idle"
    mesh.skip()
