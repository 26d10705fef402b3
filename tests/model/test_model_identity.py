"""Who somebody is: words that stand in certificates and rows may not change by accident."""

from __future__ import annotations

from planetmesh.model.identity import CertificateRecord, CertificateState, Role


def test_roles_and_states_are_spelled_as_they_are_stored():
    assert [role.value for role in Role] == ["coordinator", "agent", "peer", "operator", "viewer"]
    assert [state.value for state in CertificateState] == ["pending", "active", "retired", "revoked"]


def test_a_record_has_no_successor_at_first():
    record = CertificateRecord("1f", Role.AGENT, "x", "aa", 1.0, CertificateState.PENDING)
    assert record.successor == ""
