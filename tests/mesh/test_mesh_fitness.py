"""Why not here: each objection alone, their order, and that a task only goes where none is raised."""

from __future__ import annotations

import builders
import msgspec
import pytest

from planetmesh.mesh import fitness
from planetmesh.mesh.live_job import LiveJob, Signature
from planetmesh.mesh.live_node import LiveNode
from planetmesh.model.node import Node, NodeState


def live(**changes) -> LiveNode:
    info = builders.info(2, **changes.pop("info", {}))
    fields = {"info": info, "state": NodeState.HEALTHY} | changes
    found = LiveNode(msgspec.structs.replace(builders.node("desk"), **fields), 0.0)
    found.session = 1
    return found


def signature(**changes) -> Signature:
    return LiveJob(builders.job("a", 1, **changes)).signature


@pytest.mark.parametrize(
    ("node", "job", "code", "lasting", "words"),
    [
        ({}, {"node": builders.node_id("nas")}, "other_node", True, "another node"),
        ({}, {"tags": ("gpu", "fast")}, "tags", True, "lacks the tag gpu, fast"),
        ({"info": {"tags": ("gpu",)}}, {"tags": ("gpu", "fast")}, "tags", True, "lacks the tag fast"),
        ({}, {"tags": ("python3.99",)}, "tags", True, "the job needs 3.99"),
        ({}, {"tags": ("dask2026.8.0",)}, "tags", True, "it has no Dask (planetmesh[dask])"),
        ({"info": {"tags": ("dask1.0",)}}, {"tags": ("dask2.0",)}, "tags", True, "has Dask 1.0, and the"),
        ({}, {"type": "embedding"}, "job_type", True, "jobs of type embedding"),
        ({}, {"type": "image_batch"}, "job_type", True, "no Pillow"),
        ({}, {"tags": ("image:heic",)}, "tags", True, "cannot read or write HEIC"),
        ({"info": {"refuses": "no sandbox"}}, {}, "refuses", True, "no sandbox"),
        ({}, {"requests": builders.resources(3)}, "too_small", True, "offers only 2 CPUs, 1.0 GiB"),
        (
            {}, {"requests": builders.resources(1, 2 * builders.GIB)},
            "too_small", True, "2.0 GiB",
        ),
        ({}, {"requests": builders.resources(1, 0, 1)}, "too_small", True, "1 GPU"),
        ({"draining": True}, {}, "draining", False, "draining"),
        ({"state": NodeState.OFFLINE}, {}, "offline", False, "not connected"),
        ({"state": NodeState.SUSPECT}, {}, "suspect", False, "silent"),
    ],
)  # fmt: skip
def test_each_objection(node, job, code, lasting, words):
    reason = fitness.objection(signature(**job), live(**node))
    assert reason is not None
    assert (reason.code, reason.lasting) == (code, lasting)
    assert words in reason.sentence


def test_none_where_all_is_well():
    wanted = signature(tags=("gpu", "fast"), node=builders.node_id("desk"))
    assert fitness.objection(wanted, live(tags=("fast",), info={"tags": ("gpu",)})) is None


def test_a_lasting_objection_comes_before_a_passing_one():
    reason = fitness.objection(signature(tags=("gpu",)), live(state=NodeState.OFFLINE, draining=True))
    assert reason is not None
    assert reason.code == "tags"


def test_a_node_without_a_link_or_a_hello_gets_nothing():
    silent = live()
    silent.session = None
    reason = fitness.objection(signature(), silent)
    assert reason is not None
    assert reason.code == "offline"
    fresh = LiveNode(Node(id=builders.node_id("x"), name="x"), 0.0)
    reason = fitness.objection(signature(), fresh)
    assert reason is not None


def test_a_passing_reason_is_in_words():
    reason = fitness.full(live())
    assert reason.sentence
    assert not reason.lasting


def test_a_free_slot_counts_every_resource_and_a_rest():
    node = live()
    node.used = builders.resources(1.5)
    assert fitness.has_slot(node, builders.resources(0.5), 10.0)
    assert not fitness.has_slot(node, builders.resources(0.6), 10.0)
    node.resting_until = 10.5
    assert not fitness.has_slot(node, builders.resources(0.5), 10.0)
    assert fitness.has_slot(node, builders.resources(0.5), 10.5)
