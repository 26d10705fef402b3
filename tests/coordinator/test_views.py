"""Views by themselves: keys, masks, and why something waits."""

from __future__ import annotations

import msgspec
import pytest
from builders import hello, items, job, node, node_id, resources, spec

from planetmesh.coordinator.api.checks import check_job, check_node_name, check_tags
from planetmesh.coordinator.views import (
    MASKED,
    find_node,
    live_job_view,
    never_runnable,
    node_view,
    task_view,
    waiting_sentence,
    with_spec,
)
from planetmesh.errors import BadInput
from planetmesh.mesh import jobs, nodes
from planetmesh.mesh.live_node import LiveNode
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.job import Task, TaskState
from planetmesh.model.node import Confined, NodeLoad
from planetmesh.settings import Settings

NOW = Moment(10.0, 1_700_000_000.5)


@pytest.fixture
def state() -> MeshState:
    return MeshState(Settings(), lambda: 0.5)


def add(state: MeshState, name: str, *, cpus: float = 1, join: bool = True, **info: object) -> LiveNode:
    nodes.on_node_enrolled(state, node(name), NOW)
    if join:
        joining = nodes.Joining(node_id(name), len(state.nodes), hello(cpus=cpus, **info))
        nodes.on_node_joined(state, joining, "home", NOW)
    return state.nodes[node_id(name)]


def waiting(state: MeshState, **wanted: object) -> str:
    record = job("a", **wanted)
    jobs.on_job_submitted(state, record)
    return waiting_sentence(state, state.jobs[record.id], {})


class TestWaiting:
    def test_no_machine_at_all(self, state: MeshState):
        assert "planetmesh code" in waiting(state)

    def test_it_is_about_to_start(self, state: MeshState):
        add(state, "desk")
        assert waiting(state) == ""

    def test_every_machine_objects(self, state: MeshState):
        add(state, "desk")
        add(state, "nas", join=False)
        sentence = waiting(state, tags=("gpu",))
        assert sentence.startswith("No machine can run it now. desk: it lacks the tag gpu")
        assert "`planetmesh node tag desk gpu`" in sentence

    def test_many_machines_are_not_all_named(self, state: MeshState):
        for number in range(9):
            add(state, f"n{number}")
        sentence = waiting(state, requests=resources(16))
        assert sentence.count("offers only") == 2
        assert "and 7 more (`planetmesh nodes`)" in sentence
        assert len(sentence) < 300

    def test_only_the_node_that_was_asked_for_is_named(self, state: MeshState):
        for name in ("desk", "attic", "nas"):
            add(state, name)
        sentence = waiting(state, node=node_id("nas"), requests=resources(16))
        assert sentence.startswith("No machine can run it now. nas: it offers only 1 CPU")
        assert "another node" not in sentence
        live = next(iter(state.jobs.values()))
        assert "desk" not in never_runnable(state, live)

    def test_something_that_passes_comes_first(self, state: MeshState):
        add(state, "desk", cpus=1)
        live = add(state, "nas", cpus=16)
        live.session = None
        assert "nas: it is not connected (start `planetmesh up` there)" in waiting(
            state, requests=resources(8)
        )

    def test_all_are_busy(self, state: MeshState):
        live = add(state, "desk")
        live.hold(("b000000000", 0), "command", resources(1), 0.0)
        assert waiting(state) == "All machines that can run it are busy."

    def test_a_pause_after_a_failure(self, state: MeshState):
        record = job("a")
        jobs.on_job_submitted(state, record)
        live = state.jobs[record.id]
        live.counts.move(TaskState.QUEUED, TaskState.RETRYING)
        assert "after a failure" in waiting_sentence(state, live, {})

    def test_not_while_something_runs(self, state: MeshState):
        record = job("a", 2)
        jobs.on_job_submitted(state, record)
        state.jobs[record.id].counts.move(TaskState.QUEUED, TaskState.RUNNING)
        assert waiting_sentence(state, state.jobs[record.id], {}) == ""

    def test_one_signature_is_looked_at_once(self, state: MeshState):
        made: dict = {}
        for name in "ab":
            jobs.on_job_submitted(state, job(name))
        for live in state.jobs.values():
            live_job_view(state, live, made)
        assert len(made) == 1


def test_never_runnable_only_if_waiting_cannot_help(state: MeshState):
    record = job("a", requests=resources(8))
    jobs.on_job_submitted(state, record)
    live = state.jobs[record.id]
    add(state, "desk", cpus=1)
    assert "can ever run it" in never_runnable(state, live)
    other = add(state, "nas", cpus=16)
    assert never_runnable(state, live) == ""
    other.session = None
    assert never_runnable(state, live) == "", "it may come back"


def test_task_view(state: MeshState):
    add(state, "desk")
    spec_ = spec(items("x.png", "y.png"))
    fresh = task_view(state, Task(job("a").id, 1), spec_)
    assert (fresh.status, fresh.payload, fresh.node, fresh.attempts, fresh.last_error) == (
        TaskState.QUEUED, "y.png", None, 0, None,
    )  # fmt: skip
    done = Task(
        job("a").id, 0, TaskState.COMPLETED, 2, node_id("desk"), started_at=1.5, finished_at=2.5, exit_code=0
    )
    view = task_view(state, done, spec_)
    assert (view.id, view.node, view.node_id) == ("a000000000/0", "desk", node_id("desk"))
    assert (view.started_at, view.finished_at) == ("1970-01-01T00:00:01.500Z", "1970-01-01T00:00:02.500Z")
    gone = msgspec.structs.replace(done, node_id=node_id("gone"))
    assert task_view(state, gone, spec_).node == node_id("gone"), "a forgotten node has no name any more"


def test_node_view(state: MeshState):
    live = add(state, "desk", cpus=2)
    live.load = NodeLoad(cpu=0.25)
    live.rtt_seconds = 0.0012345
    record = job("a", 3)
    jobs.on_job_submitted(state, record)
    for index in range(2):
        task = Task(record.id, index, TaskState.ASSIGNED if index else TaskState.RUNNING, 1, live.node.id)
        state.jobs[record.id].put(task)
        state.hold(state.jobs[record.id], live, index, 0.0)
    view = node_view(state, live)
    assert (view.running, view.backlog, view.load, view.rtt_ms, view.note) == (1, 1, 0.25, 1.234, "")
    never = node_view(state, add(state, "new", join=False))
    assert (never.cpus, never.load, never.last_heartbeat_at) == (0, None, None)
    assert "planetmesh up" in never.note


def test_masks_and_long_specs(state: MeshState):
    record = job("a", items(*map(str, range(2000))), env={"A": "secret"})
    jobs.on_job_submitted(state, record)
    view = live_job_view(state, state.jobs[record.id])
    assert view.spec is None
    assert with_spec(view, record.spec, masked=True, whole=False).spec is None
    shown = with_spec(view, record.spec, masked=True, whole=True)
    assert shown.spec is not None
    assert shown.spec.env == {"A": MASKED}
    assert record.spec.env == {"A": "secret"}
    wide = spec(100_000)
    assert with_spec(view, wide, masked=False, whole=False).spec == wide, (
        "a range is short however many it is"
    )


def test_find_node(state: MeshState):
    for name in ("desk", "desktop", "Büro"):
        add(state, name)
    assert find_node(state, "DESK") == [node_id("desk")]
    assert len(find_node(state, "des")) == 2
    assert find_node(state, "büro") == [node_id("Büro")]
    assert find_node(state, node_id("desktop")) == [node_id("desktop")]
    assert find_node(state, "x") == []


@pytest.mark.parametrize("name", ["desk", "Büro 2", "a.b-c_d", "x" * 64, "机器"])
def test_names_that_are_fine(name: str):
    assert check_node_name(f" {name} ") == name


@pytest.mark.parametrize(
    "name", ["", " ", ".", "-x", "x-", "a/b", "a\nb", "a\u200bb", "x" * 65, "[red]", "$(x)", "a\tb"]
)
def test_names_that_are_not(name: str):
    with pytest.raises(BadInput):
        check_node_name(name)


def test_names_that_look_the_same_are_the_same():
    assert check_node_name("ｄｅｓｋ") == "desk"


def test_tags_once_each():
    assert check_tags(("b", "a", "b")) == ("b", "a")


def test_a_deep_payload_is_refused_quickly():
    value: object = "x"
    for _ in range(200):
        value = [value]
    with pytest.raises(BadInput):
        check_job(spec(payload={"argv": ["a"], "x": value}), Settings())


def test_a_node_in_quarantine_says_for_what(state: MeshState):
    live = add(state, "my nas")
    confined = tuple(Confined(kind, "No codec.", 60.0) for kind in ("command ffmpeg", "script a.py", "x"))
    live.node = msgspec.structs.replace(live.node, confined=confined)
    assert node_view(state, live).note == (
        "It is in quarantine for 'command ffmpeg', 'script a.py' and 1 more (`planetmesh explain 'my nas'`)."
    )
