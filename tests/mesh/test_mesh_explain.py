"""What `explain` says comes from the tables that the scheduler goes by."""

from __future__ import annotations

import builders
from transcript import Transcript

from planetmesh.mesh import explain, nodes
from planetmesh.model.job import After, Outcome


def said(mesh: Transcript, name: str = "a") -> str:
    found = explain.job(mesh.state, mesh.job(name), mesh.now)
    return "\n".join(f"{each.about}: {each.sentence} {each.hint}".strip(": ") for each in found)


def test_each_thing_that_holds_a_job_back(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("b")
    mesh.submit("a", after=(After(builders.job_id("b")),))
    assert "It runs once job b000000000 has succeeded. planetmesh explain b000000000" in said(mesh)
    mesh.pause("a")
    assert "It is paused. planetmesh resume a000000000" in said(mesh)
    mesh.skip()


def test_its_own_limit(mesh: Transcript):
    mesh.join("desk", 4)
    mesh.submit("a", 5, max_running=1)
    mesh.place()
    assert "Not more than 1 of its tasks run at a time" in said(mesh)
    mesh.skip()


def test_each_machine_has_its_reason(mesh: Transcript):
    mesh.join("desk")
    mesh.join("nas", 8)
    mesh.join("pi", 0.5)
    mesh.drain("nas")
    mesh.submit("b")
    mesh.place()
    mesh.submit("a")
    text = said(mesh)
    assert "desk: All it offers is taken (1 task in hand). planetmesh explain desk" in text
    assert "nas: It is draining. planetmesh node resume nas" in text
    assert "pi: It offers only 0.5 CPUs" in text
    mesh.skip()


def test_who_comes_first(mesh: Transcript):
    mesh.submit("b", priority=3)
    mesh.submit("c", submitter="other")
    mesh.submit("a")
    assert "1 job of a higher priority waits too" in said(mesh)
    assert "Jobs of 1 other submitter of the same priority wait" in said(mesh)
    mesh.skip()


def test_a_task_in_each_state(mesh: Transcript):
    mesh.join("desk")
    mesh.submit("a")
    task = lambda: " ".join(  # noqa: E731
        each.sentence for each in explain.task(mesh.state, mesh.job("a"), mesh.task("a"), mesh.now)
    )
    assert "It has room" in task()
    mesh.place()
    assert "Attempt 1 was given to it 0 s ago" in task()
    mesh.start("desk", "a")
    mesh.stay("desk", seconds=4)
    assert "Attempt 1 has run here for 4 s" in task()
    assert "It was the cheapest: cost 0.00" in task()
    mesh.end("desk", "a", outcome=Outcome.EXIT_CODE, error="Exit status 1.")
    assert task().startswith("Exit status 1. It is tried again in 1 s")
    mesh.skip()


def test_a_node_in_quarantine_and_one_that_is_away(mesh: Transcript):
    mesh.join("bad")
    mesh.join("good")
    for name in "abc":
        mesh.submit(name, 2, kind="command ffmpeg")
        mesh.place()
        for index in (0, 1):
            node = mesh.state.nodes[mesh.task(name, index).node_id].node.name
            bad = node == "bad"
            mesh.end(node, name, index, outcome=Outcome.EXIT_CODE if bad else Outcome.OK, error="No codec.")
    lines = [each.sentence for each in explain.node(mesh.state, mesh.node("bad"), mesh.now)]
    assert any(line.startswith("It is in quarantine for 'command ffmpeg'") for line in lines)
    mesh.take(nodes.on_node_revoked(mesh.state, mesh.node("bad").node.id, mesh.now))
    (out,) = explain.node(mesh.state, mesh.node("bad"), mesh.now)
    assert out.sentence.startswith("It belongs to the mesh no more")
    assert "planetmesh node forget bad" in out.hint
    mesh.cut("good")
    lines = [each.sentence for each in explain.node(mesh.state, mesh.node("good"), mesh.now)]
    assert "It is not connected." in lines
    mesh.skip()
