"""Renewal: when it is due, that only the key changes, that the old counts until the new is used."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from identities import echo_server, say

from planetmesh.errors import BadInput, CopiedIdentity, NotAllowed
from planetmesh.model.identity import CertificateState, Principal, Role
from planetmesh.trust import tls
from planetmesh.trust.authority import PROFILES
from planetmesh.trust.identity import Identity
from planetmesh.trust.renewal import RENEW_BEFORE, accept, alone, due, make_csr, renew
from planetmesh.trust.serials import OVERLAP_SECONDS, ActiveSerials

DAY = 86400.0


@pytest.fixture
def serials():
    return ActiveSerials()


def enrolled(mesh, serials, role=Role.AGENT) -> Identity:
    member_id = "ab" * 16
    identity, leaf = mesh.authority.issue_local(mesh.folder / "own", mesh.membership(role, member_id))
    serials.allow(leaf.record(CertificateState.ACTIVE), time.time())
    return identity


@pytest.mark.parametrize("role", list(Role))
def test_renewal_is_due_once_its_share_of_life_is_over(role):
    ends = 1e9
    who = Principal(mesh_id="", role=role, id="", serial="", not_after=ends)
    left = RENEW_BEFORE[role].total_seconds()
    assert 0 < left < PROFILES[role].valid.total_seconds()
    assert not due(who, ends - left - 1)
    assert due(who, ends - left)
    assert due(who, ends + DAY)


async def test_a_renewal_from_request_to_first_use(mesh, serials):
    identity = enrolled(mesh, serials)
    old = identity.principal
    key_pem, csr = make_csr()
    leaf, rows = renew(mesh.authority, serials, old, csr)
    assert {row.serial for row in rows} == {old.serial, leaf.serial}
    now = time.time()
    assert serials.check(old, now) == ()
    accept(identity, leaf.cert_pem, key_pem)
    assert Identity.load(identity.folder).principal.serial == leaf.serial
    async with echo_server(tls.serve_context(mesh.coordinator)) as (port, came):
        await say(port, tls.client_context(identity))
    assert {row.state for row in serials.check(came[0], now)} == {
        CertificateState.ACTIVE,
        CertificateState.RETIRED,
    }
    with pytest.raises(CopiedIdentity):
        serials.check(old, now + OVERLAP_SECONDS)


def test_name_and_role_stay_whatever_is_asked(mesh, serials):
    identity = enrolled(mesh, serials)
    leaf, _ = renew(mesh.authority, serials, identity.principal, make_csr()[1])
    assert (leaf.role, leaf.id) == (Role.AGENT, identity.principal.id)
    assert leaf.serial != identity.principal.serial


def test_the_same_key_again_is_no_renewal(mesh, serials):
    identity = enrolled(mesh, serials)
    key = load_pem_private_key(identity.key_path.read_bytes(), password=None)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    with pytest.raises(BadInput):
        renew(mesh.authority, serials, identity.principal, request.public_bytes(Encoding.DER))
    assert serials.check(identity.principal, time.time()) == ()


def test_an_answer_for_somebody_else_is_not_taken(mesh, serials, tmp_path):
    from identities import Mesh

    identity = enrolled(mesh, serials)
    key_pem, csr = make_csr()
    foreign = Mesh(tmp_path / "foreign", mesh_id=mesh.mesh_id)
    for leaf in (
        mesh.authority.issue_from_csr(Role.AGENT, "cd" * 16, csr),
        mesh.authority.issue_from_csr(Role.OPERATOR, identity.principal.id, csr),
        mesh.authority.issue_from_csr(Role.AGENT, identity.principal.id, make_csr()[1]),
        foreign.authority.issue_from_csr(Role.AGENT, identity.principal.id, csr),
    ):
        with pytest.raises(NotAllowed):
            accept(identity, leaf.cert_pem, key_pem)
    with pytest.raises(NotAllowed):
        accept(identity, b"junk", key_pem)
    assert Identity.load(identity.folder).principal == identity.principal


def test_only_one_process_renews_and_the_others_take_over(mesh, serials):
    ours = enrolled(mesh, serials)
    theirs = Identity.load(ours.folder)
    with alone(ours) as first:
        assert first
        with alone(theirs) as second:
            assert not second
        mesh.authority.renew_local(ours)
    with alone(theirs) as again:
        assert not again
    assert theirs.principal == ours.principal
    with alone(theirs) as now:
        assert now


def test_reading_and_renewing_at_once_never_shows_half_an_identity(mesh, serials):
    """Threads stand for processes: each has its own handle on the lock."""
    identity = enrolled(mesh, serials)
    stop = threading.Event()

    def read() -> int:
        count = 0
        while not stop.is_set():
            Identity.load(identity.folder)
            Identity.load(identity.folder).remember_endpoint(f"10.0.0.{count % 9}:7433")
            count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for _ in range(20):
            mesh.authority.renew_local(identity)
        stop.set()
        assert all(each.result(10) > 0 for each in readers)
    assert Identity.load(identity.folder).principal == identity.principal
