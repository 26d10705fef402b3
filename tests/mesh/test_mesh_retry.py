"""Again or give up: who counts what, and how long a back-off is."""

from __future__ import annotations

import builders
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.mesh.retry import Again, GiveUp, back_off, decide
from planetmesh.model.job import Outcome, Task
from planetmesh.settings import Settings

SETTINGS = Settings()


def verdict(outcome: Outcome, failures: int = 0, losses: int = 0, **changes):
    task = Task(builders.job_id("a"), 0, failures=failures, losses=losses)
    return decide(task, builders.spec(1, **changes), outcome, SETTINGS, lambda: 0.5)


@pytest.mark.parametrize("outcome", [Outcome.EXIT_CODE, Outcome.TIMED_OUT, Outcome.STAGING, Outcome.SIGNAL])
def test_failures_use_up_attempts(outcome: Outcome):
    assert verdict(outcome, failures=1) == Again(1.0)
    assert verdict(outcome, failures=2, losses=2) == Again(2.0)
    assert verdict(outcome, failures=3) == GiveUp("no attempts left of 3")
    assert verdict(outcome, failures=1, max_attempts=1) == GiveUp("")


def test_losses_are_counted_apart():
    assert verdict(Outcome.LOST, failures=2, losses=1) == Again(1.0)
    assert verdict(Outcome.LOST, losses=2, max_attempts=1) == Again(2.0)
    assert verdict(Outcome.LOST, losses=3) == GiveUp("what it ran on went away 3 times")


def test_bad_inputs_are_no_better_elsewhere():
    assert verdict(Outcome.INPUTS, failures=1, max_attempts=9) == GiveUp("")
    assert verdict(Outcome.INPUTS, failures=1, at_most_once=True) == GiveUp("")


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.EXIT_CODE])
def test_at_most_once_gives_up_at_once(outcome: Outcome):
    assert isinstance(verdict(outcome, failures=1, losses=1, at_most_once=True), GiveUp)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_back_offs_double_are_capped_and_spread(times: int, drawn: float):
    plain = back_off(times, SETTINGS, 0.5)
    assert plain == min(2.0 ** (times - 1) if times < 40 else 1e9, SETTINGS.retry_longest_seconds)
    assert back_off(times, SETTINGS, drawn) == pytest.approx(plain, rel=SETTINGS.retry_spread + 1e-9)
    assert back_off(times, SETTINGS, 0.0) < back_off(times, SETTINGS, 1.0)
