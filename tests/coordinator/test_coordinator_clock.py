"""Steady time goes on over a restart, whatever the machine's clocks do meanwhile."""

from __future__ import annotations

import time

import pytest

from planetmesh.coordinator.clock import KEEP_LATEST_SECONDS, META_NAME, Clock


def test_it_goes_on_from_where_it_was_kept() -> None:
    clock = Clock()
    clock.go_on_from({META_NAME: "123.456"})
    assert 123.456 <= clock.steady() < 130
    assert clock.read().wall == pytest.approx(time.time(), abs=60)
    clock.go_on_from({META_NAME: "5"})
    assert clock.steady() >= 123.456, "it runs already"


@pytest.mark.parametrize("kept", ["", "soon", "nan", "-1", "1e300", "inf"])
def test_what_makes_no_sense_is_passed_over(kept: str) -> None:
    clock = Clock()
    before = time.monotonic()
    clock.go_on_from({META_NAME: kept})
    assert before <= clock.steady() < before + 60


def test_it_is_kept_now_and_then() -> None:
    clock = Clock()
    assert clock.is_overdue(100.0)
    assert clock.kept(100.0) == {META_NAME: "100.000"}
    assert clock.kept(100.5) == {}
    assert clock.kept(101.0) == {META_NAME: "101.000"}
    assert not clock.is_overdue(101.0 + KEEP_LATEST_SECONDS / 2)
    assert clock.is_overdue(101.0 + KEEP_LATEST_SECONDS)
