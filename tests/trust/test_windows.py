"""The table of pairing windows."""

from __future__ import annotations

import pytest

from planetmesh.errors import BadInput, Conflict, NotFound, PairingFailed
from planetmesh.model.identity import Role
from planetmesh.trust.codes import Code, new_code, new_long_code
from planetmesh.trust.windows import ATTEMPTS, WINDOWS_MOST, Windows


@pytest.fixture
def windows():
    return Windows()


def test_five_attempts_and_no_more(windows):
    window = windows.open(new_code(1), Role.AGENT, 600, now=0)
    for _ in range(ATTEMPTS):
        windows.spend(window, now=1)
    with pytest.raises(PairingFailed):
        windows.spend(window, now=1)
    with pytest.raises(PairingFailed):
        windows.find(1, now=1)


def test_the_last_attempt_may_still_succeed_while_others_fail(windows):
    window = windows.open(new_code(1), Role.AGENT, 600, now=0)
    for _ in range(ATTEMPTS):
        windows.spend(window, now=1)
    for _ in range(ATTEMPTS - 1):
        windows.settle(window)
    assert windows.sweep(now=2) == ()
    windows.burn(window, now=2)
    windows.settle(window)
    assert windows.sweep(now=2) == (window,)


def test_a_spent_window_closes_with_its_last_exchange(windows):
    window = windows.open(new_code(1), Role.AGENT, 600, now=0)
    for _ in range(ATTEMPTS):
        windows.spend(window, now=1)
        windows.settle(window)
    assert windows.sweep(now=1) == (window,)
    assert len(windows) == 0


def test_an_expired_window_neither_begins_nor_ends_anything(windows):
    window = windows.open(new_code(1), Role.AGENT, 600, now=0)
    windows.spend(window, now=599)
    for call in (windows.spend, windows.burn):
        with pytest.raises(PairingFailed):
            call(window, now=600)
    with pytest.raises(PairingFailed):
        windows.find(1, now=600)
    assert windows.sweep(now=600) == (window,)


def test_a_code_is_burned_once(windows):
    window = windows.open(new_code(1), Role.AGENT, 600, now=0)
    windows.spend(window, now=1)
    windows.spend(window, now=1)
    windows.burn(window, now=1)
    with pytest.raises(PairingFailed):
        windows.burn(window, now=1)
    with pytest.raises(PairingFailed):
        windows.find(1, now=1)


def test_closing_ends_exchanges_under_way(windows):
    window = windows.open(new_code(1), Role.AGENT, 600, now=0)
    windows.spend(window, now=1)
    windows.close(1)
    with pytest.raises(PairingFailed):
        windows.burn(window, now=1)
    with pytest.raises(NotFound):
        windows.close(1)


def test_a_long_code_has_no_attempts_to_burn(windows):
    window = windows.open(new_long_code(1, "ab" * 32), Role.AGENT, 24 * 3600, now=0)
    for _ in range(100):
        windows.spend(window, now=1)
    assert window.is_open(now=1)


@pytest.mark.parametrize("role", [Role.COORDINATOR, Role.PEER])
def test_nobody_pairs_as_coordinator_or_peer(windows, role):
    with pytest.raises(BadInput):
        windows.open(new_code(1), role, 600, now=0)


@pytest.mark.parametrize("ttl", [-1, 0, 9.9, 3601, float("nan"), float("inf")])
def test_a_short_code_lives_for_minutes(windows, ttl):
    with pytest.raises(BadInput):
        windows.open(new_code(1), Role.AGENT, ttl, now=0)


def test_the_table_is_bounded_and_slots_are_not_shared(windows):
    for slot in range(1, WINDOWS_MOST + 1):
        windows.open(Code(slot, "A" * 8), Role.AGENT, 600, now=0)
    for slot in (1, 99):
        with pytest.raises(Conflict):
            windows.open(new_code(slot), Role.AGENT, 600, now=0)


def test_short_slots_first_and_none_that_was_just_used(windows):
    assert windows.free_slots() == tuple(range(1, 10))
    assert 4 not in windows.free_slots(frozenset({4}))
    assert windows.free_slots(frozenset(range(1, 10)))[0] == 10
