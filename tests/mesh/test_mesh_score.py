"""The seed's formula: every term is 0..1, rises with what it measures, and the weights do the rest."""

from __future__ import annotations

import builders
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.mesh import score
from planetmesh.mesh.live_node import LiveNode
from planetmesh.model.node import NodeLoad
from planetmesh.settings import Weights

AMOUNT = st.floats(0, 1e6)
SHARE = st.floats(0, 1)


def live(rtt=None, cpu=0.0, used=0, offer=1000, reliability=1.0) -> LiveNode:
    node = builders.node("desk", info=builders.info(offer / 1000), reliability=reliability)
    found = LiveNode(node, 0.0)
    found.rtt_seconds = rtt
    found.load = NodeLoad(cpu=cpu)
    found.used = builders.resources(used / 1000)
    return found


FINITE = st.floats(allow_nan=False)


@given(
    st.none() | AMOUNT, st.floats(), st.integers(0, 10**9), st.integers(0, 10**6), SHARE,
    st.tuples(AMOUNT, AMOUNT, AMOUNT, AMOUNT, AMOUNT), st.integers(0, 2**60),
)  # fmt: skip
def test_every_term_is_from_zero_to_one_and_the_cost_is_their_weighted_sum(
    rtt, cpu, used, offer, reliability, weights, missing
):
    """Also for a load that a liar reports: not a number, infinite, below zero."""
    node = live(rtt, cpu, used, offer, reliability)
    terms = score.terms(node, Weights(*weights), missing)
    parts = (terms.rtt, terms.load, terms.queue, terms.unreliability, terms.missing_input)
    assert all(0.0 <= part <= 1.0 for part in parts), parts
    assert terms.cost == pytest.approx(sum(w * part for w, part in zip(weights, parts, strict=True)))


@given(AMOUNT, AMOUNT)
def test_farther_is_dearer(one, other):
    near, far = sorted((one, other))
    assert score.rtt(live(near)) <= score.rtt(live(far))


@given(FINITE, FINITE)
def test_busier_is_dearer(one, other):
    idle, busy = sorted((one, other))
    assert score.load(live(cpu=idle)) <= score.load(live(cpu=busy))


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(1, 10**5))
def test_more_in_hand_is_dearer(one, other, offer):
    less, more = sorted((one, other))
    assert score.queue(live(used=less, offer=offer)) <= score.queue(live(used=more, offer=offer))


@given(SHARE, SHARE)
def test_less_reliable_is_dearer(one, other):
    worse, better = sorted((one, other))
    assert score.unreliability(live(reliability=worse)) >= score.unreliability(live(reliability=better))


@given(st.integers(0, 2**60), st.integers(0, 2**60))
def test_more_to_fetch_is_dearer(one, other):
    less, more = sorted((one, other))
    assert score.missing_input(less) <= score.missing_input(more)


def test_marks():
    assert score.rtt(live(None)) == 0.0
    assert score.rtt(live(score.RTT_HALF_SECONDS)) == 0.5
    assert score.queue(live(used=1000)) == 0.5
    assert score.missing_input(score.MISSING_HALF_BYTES) == 0.5
    assert score.queue(live(used=0, offer=0)) == 0.5
    assert msgspec.structs.asdict(score.terms(live(), Weights())) == {
        "rtt": 0.0, "load": 0.0, "queue": 0.0, "unreliability": 0.0, "cost": 0.0, "missing_input": 0.0,
    }  # fmt: skip
