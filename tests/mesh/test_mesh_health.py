"""Silence and reliability."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.mesh.health import reliability_after, state_after
from planetmesh.model.node import NodeState
from planetmesh.settings import Settings

SETTINGS = Settings()


@pytest.mark.parametrize(
    ("silence", "state"),
    [(-5, "HEALTHY"), (0, "HEALTHY"), (5.99, "HEALTHY"), (6, "SUSPECT"), (14.99, "SUSPECT"), (15, "OFFLINE"),
     (1e9, "OFFLINE")],
)  # fmt: skip
def test_silence(silence: float, state: str):
    assert state_after(silence, SETTINGS) is NodeState(state)


@given(st.lists(st.booleans(), max_size=200))
def test_reliability_stays_a_share_and_follows_the_ends(ends: list[bool]):
    reliability = 1.0
    for good in ends:
        after = reliability_after(reliability, SETTINGS, good=good)
        assert 0.0 <= after <= 1.0
        assert after >= reliability if good else after < reliability
        reliability = after


def test_old_sins_are_forgotten():
    reliability = 0.0
    for _ in range(100):
        reliability = reliability_after(reliability, SETTINGS, good=True)
    assert reliability > 0.99
