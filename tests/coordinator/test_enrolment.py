"""Enrolment: where a newcomer is told to find the coordinator."""

from __future__ import annotations

import pytest

from planetmesh.coordinator.enrolment import endpoints_for

KNOWN = ("192.168.1.20:7433", "[fe80::1%eth0]:7433", "127.0.0.1:7433")


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.0.0.9", "::1", "::ffff:127.0.0.1"])
def test_a_newcomer_on_this_machine_may_use_loopback(peer: str) -> None:
    assert endpoints_for(peer, KNOWN) == KNOWN


@pytest.mark.parametrize("peer", ["192.168.1.21", "fe80::2%eth0", "::ffff:192.168.1.21", "somewhere"])
def test_elsewhere_loopback_is_another_machine(peer: str) -> None:
    assert endpoints_for(peer, KNOWN) == KNOWN[:2]


def test_the_only_address_is_kept() -> None:
    assert endpoints_for("192.168.1.21", KNOWN[2:]) == KNOWN[2:]
