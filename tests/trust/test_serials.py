"""The allow list: what counts, what a renewal changes, how a copy shows."""

from __future__ import annotations

import pytest

from planetmesh.errors import CertificateRefused, CopiedIdentity, NotFound
from planetmesh.model.identity import CertificateRecord, CertificateState, Principal, Role
from planetmesh.trust.serials import OVERLAP_SECONDS, UNUSED_SECONDS, ActiveSerials

MESH, NODE = "ab" * 16, "cd" * 16
ACTIVE, PENDING = CertificateState.ACTIVE, CertificateState.PENDING
RETIRED, REVOKED = CertificateState.RETIRED, CertificateState.REVOKED


def record(serial="1a", state=PENDING, successor="", role=Role.AGENT, not_after=1e6, member=NODE):
    return CertificateRecord(
        serial=serial,
        role=role,
        id=member,
        spki_hash=serial * 2,
        not_after=not_after,
        state=state,
        successor=successor,
    )


def principal(serial="1a", role=Role.AGENT, member=NODE, not_after=1e6):
    return Principal(mesh_id=MESH, role=role, id=member, serial=serial, not_after=not_after)


def reason(serials, who, now=10.0, **more):
    with pytest.raises(CertificateRefused) as caught:
        serials.check(who, now, **more)
    return caught.value.reason


def states(rows):
    return {row.serial: row.state for row in rows}


def test_whose_certificates_count_is_told_once_each():
    anna, ben, carl, dora = ("a" * 32, "b" * 32, "c" * 32, "d" * 32)
    serials = ActiveSerials(
        [
            record("1a", ACTIVE, role=Role.OPERATOR, member=anna, successor="1b", not_after=50),
            record("1b", PENDING, role=Role.OPERATOR, member=anna, not_after=90),
            record("2a", REVOKED, role=Role.OPERATOR, member=ben),
            record("3a", ACTIVE, role=Role.VIEWER, member=carl, not_after=10),
            record("4a", ACTIVE, role=Role.AGENT, member=dora),
        ]
    )
    people = frozenset({Role.OPERATOR, Role.VIEWER})
    assert [each.serial for each in serials.living(people, 5.0)] == ["3a", "1b"]
    assert [each.serial for each in serials.living(people, 10.0)] == ["1b"]
    serials.revoke(anna)
    assert serials.living(people, 10.0) == []


def test_an_unknown_serial_is_refused_even_if_our_authority_signed_it():
    assert reason(ActiveSerials(), principal()) == "unknown"


@pytest.mark.parametrize("who", [principal(role=Role.OPERATOR), principal(member="ef" * 16)])
def test_role_and_id_must_be_those_of_the_record(who):
    assert reason(ActiveSerials([record(state=ACTIVE)]), who) == "unknown"


def test_first_use_makes_it_active_and_later_use_changes_nothing():
    serials = ActiveSerials()
    assert states(serials.allow(record(), now=0)) == {"1a": PENDING}
    assert states(serials.check(principal(), 5)) == {"1a": ACTIVE}
    assert serials.check(principal(), 6) == ()


def test_expiry_counts_by_record_and_by_certificate():
    serials = ActiveSerials([record(state=ACTIVE, not_after=100)])
    assert reason(serials, principal(not_after=1e6), now=100) == "expired"
    serials = ActiveSerials([record(state=ACTIVE)])
    assert reason(serials, principal(not_after=100), now=100) == "expired"


def test_a_pairing_that_nobody_uses_is_revoked():
    serials = ActiveSerials()
    serials.allow(record(), now=0)
    assert serials.sweep(UNUSED_SECONDS - 1) == ()
    assert reason(serials, principal(), now=UNUSED_SECONDS) == "unused"
    assert states(serials.sweep(UNUSED_SECONDS)) == {"1a": REVOKED}
    assert serials.sweep(UNUSED_SECONDS) == ()
    assert reason(serials, principal()) == "revoked"


def test_after_a_restart_a_pending_pairing_gets_its_time_again_and_no_more():
    serials = ActiveSerials([record()], now=1000)
    assert serials.sweep(1000 + UNUSED_SECONDS - 1) == ()
    assert states(serials.sweep(1000 + UNUSED_SECONDS)) == {"1a": REVOKED}


def test_first_use_of_the_new_retires_the_old():
    serials = ActiveSerials([record(state=ACTIVE)])
    rows = serials.rotate("1a", record("2b"))
    assert states(rows) == {"2b": PENDING, "1a": ACTIVE}
    assert rows[1].successor == "2b"
    assert serials.check(principal("1a"), 5) == ()
    assert states(serials.check(principal("2b"), 10)) == {"2b": ACTIVE, "1a": RETIRED}
    assert serials.check(principal("2b"), 11) == ()


def test_a_retired_serial_is_a_copy_on_a_new_connection_and_out_of_date_on_an_old_one():
    serials = ActiveSerials([record(state=ACTIVE)])
    serials.rotate("1a", record("2b"))
    serials.check(principal("2b"), 10)
    assert serials.check(principal("1a"), 10 + OVERLAP_SECONDS - 1) == ()
    late = 10 + OVERLAP_SECONDS
    assert reason(serials, principal("1a"), late, established=True) == "superseded"
    with pytest.raises(CopiedIdentity) as caught:
        serials.check(principal("1a"), late)
    assert "revoke" in caught.value.hint


def test_a_retired_serial_from_before_a_restart_is_a_copy_at_once():
    serials = ActiveSerials([record(state=RETIRED, successor="2b"), record("2b", state=ACTIVE)])
    with pytest.raises(CopiedIdentity):
        serials.check(principal("1a"), 1)


def test_a_machine_that_slept_after_its_renewal_still_gets_in():
    serials = ActiveSerials([record(state=ACTIVE)])
    serials.rotate("1a", record("2b"))
    assert serials.sweep(1e5) == ()
    assert states(serials.check(principal("2b"), 1e5)) == {"2b": ACTIVE, "1a": RETIRED}
    rows = [record(state=ACTIVE, successor="2b"), record("2b")]
    assert ActiveSerials(rows, now=0).sweep(1e5) == ()


def test_a_renewal_whose_answer_was_lost_leaves_no_loose_key():
    serials = ActiveSerials([record(state=ACTIVE)])
    serials.rotate("1a", record("2b"))
    assert states(serials.rotate("1a", record("3c"))) == {"2b": REVOKED, "3c": PENDING, "1a": ACTIVE}
    assert reason(serials, principal("2b")) == "revoked"
    assert states(serials.check(principal("3c"), 5)) == {"3c": ACTIVE, "1a": RETIRED}


def test_revoking_a_member_takes_all_its_certificates_and_nobody_elses():
    other = record("9f", state=ACTIVE, member="ef" * 16)
    serials = ActiveSerials([record(state=ACTIVE), other])
    serials.rotate("1a", record("2b"))
    assert states(serials.revoke(NODE)) == {"1a": REVOKED, "2b": REVOKED}
    assert reason(serials, principal("1a")) == "revoked"
    assert reason(serials, principal("2b"), established=True) == "revoked"
    assert serials.check(principal("9f", member="ef" * 16), 1) == ()
    assert serials.revoke(NODE) == ()


def test_revoking_one_serial_and_an_unknown_one():
    serials = ActiveSerials([record(state=ACTIVE), record("2b", state=ACTIVE)])
    assert states(serials.revoke("1a")) == {"1a": REVOKED}
    assert serials.check(principal("2b"), 1) == ()
    with pytest.raises(NotFound):
        serials.revoke("77")
    with pytest.raises(NotFound):
        serials.rotate("77", record("3c"))


def test_what_has_expired_is_forgotten():
    serials = ActiveSerials([record(state=REVOKED, not_after=50), record("2b", state=ACTIVE)])
    assert serials.forget_expired(60) == ("1a",)
    assert len(serials) == 1
    assert reason(serials, principal("1a", not_after=50), now=60) == "unknown"
