"""Identity folders, and which certificates count as one of ours."""

from __future__ import annotations

import errno
import stat
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st
from identities import Mesh

from planetmesh import paths
from planetmesh.errors import Conflict, NotAllowed, StorageFailed, UnsafeHome
from planetmesh.model.identity import Role
from planetmesh.trust.identity import ENDPOINTS_MOST, Identity, key_to_pem, parse_principal

MESH, ID = "ab" * 16, "cd" * 16
GOOD = f"spiffe://{MESH}/agent/{ID}"
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate_with(*names: x509.GeneralName, extra: bytes = b"") -> bytes:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    if extra:
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, extra), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


uri = x509.UniformResourceIdentifier
WELL_FORMED = certificate_with(uri(GOOD))


def test_exactly_one_name_of_ours_is_read():
    said = parse_principal(certificate_with(uri(GOOD)))
    assert (said.mesh_id, said.role, said.id, said.serial) == (MESH, Role.AGENT, ID, "7")


BAD_NAMES = [
    [],
    [uri(GOOD), uri(GOOD)],
    [uri(GOOD), uri(GOOD.replace("agent", "operator"))],
    [uri(GOOD), x509.DNSName("box.local")],
    [x509.DNSName("box.local"), uri(GOOD)],
    [x509.DNSName(GOOD)],
    [x509.RFC822Name("a@b.example")],
    [uri(GOOD + "\x00")],
    [uri(GOOD + "\n")],
    [uri(GOOD + "/")],
    [uri(GOOD + "?role=operator")],
    [uri(GOOD.upper())],
    [uri(GOOD.replace("spiffe", "https"))],
    [uri(GOOD.replace("agent", "root"))],
    [uri(GOOD.replace("agent", "agent%2f..%2foperator"))],
    [uri(GOOD.replace("/agent/", "/agent/../operator/"))],
    [uri(GOOD.replace("/agent/", "/%61gent/"))],
    [uri(" " + GOOD)],
    [uri("x" + GOOD)],
    [uri("")],
]


@pytest.mark.parametrize("names", BAD_NAMES)
def test_anything_else_is_refused(names):
    with pytest.raises(NotAllowed):
        parse_principal(certificate_with(*names))


@given(st.text(st.characters(max_codepoint=127), max_size=120))
def test_no_other_text_is_a_name(text):
    with pytest.raises(NotAllowed):
        parse_principal(certificate_with(uri(text)))


@given(st.binary(max_size=300))
def test_junk_is_no_certificate(junk):
    with pytest.raises(NotAllowed):
        parse_principal(junk)


@given(st.data())
def test_a_mangled_certificate_never_breaks_the_reader(data):
    good = bytearray(WELL_FORMED)
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_principal(bytes(good))
    except NotAllowed:
        return


def test_a_huge_certificate_is_refused_unread():
    with pytest.raises(NotAllowed):
        parse_principal(certificate_with(uri(GOOD), extra=bytes(2 << 20)))


def test_what_is_saved_is_loaded(mesh):
    saved = mesh.member(Role.AGENT, folder="agent")
    loaded = Identity.load(saved.folder)
    assert loaded.membership == saved.membership
    assert loaded.principal == saved.principal
    assert loaded.fingerprint == mesh.authority.fingerprint
    assert loaded.short_fingerprint.replace(" ", "") == loaded.fingerprint[:16]
    assert stat.S_IMODE(saved.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(saved.key_path.stat().st_mode) == 0o600


def test_a_missing_identity_says_how_to_get_one(tmp_path):
    with pytest.raises(NotAllowed) as caught:
        Identity.load(tmp_path / "agent")
    assert "planetmesh up" in caught.value.hint


def test_an_identity_is_never_written_over(mesh):
    mesh.member(Role.AGENT, folder="agent")
    with pytest.raises(Conflict):
        mesh.member(Role.AGENT, folder="agent")


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
@pytest.mark.parametrize("name", ["key.pem", "."])
def test_a_key_that_others_can_read_is_refused(mesh, name):
    folder = mesh.member(Role.AGENT, folder="agent").folder
    (folder / name).chmod(0o750)
    with pytest.raises(UnsafeHome):
        Identity.load(folder)


@pytest.mark.parametrize("name", ["key.pem", "cert.pem", "ca.pem", "mesh.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, b"x" * 70_000])
def test_damage_is_named_and_never_a_traceback(mesh, name, content):
    folder = mesh.member(Role.AGENT, folder="agent").folder
    (folder / name).write_bytes(content)
    with pytest.raises(UnsafeHome) as caught:
        Identity.load(folder)
    assert "planetmesh" in caught.value.hint


def test_a_missing_part_is_damage(mesh):
    folder = mesh.member(Role.AGENT, folder="agent").folder
    (folder / "cert.pem").unlink()
    with pytest.raises(UnsafeHome):
        Identity.load(folder)


@pytest.mark.parametrize("name", ["key.pem", "cert.pem", "ca.pem", "mesh.json"])
def test_parts_of_two_identities_do_not_mix(mesh, tmp_path, name):
    mine = mesh.member(Role.AGENT, folder="agent").folder
    other = Mesh(tmp_path / "other").member(Role.AGENT, folder="agent").folder
    (mine / name).write_bytes((other / name).read_bytes())
    with pytest.raises(UnsafeHome):
        Identity.load(mine)


def test_an_expired_identity_says_so_but_the_coordinator_may_load_its_own(tmp_path):
    old = Mesh(tmp_path / "old", clock=lambda: time.time() - 8 * 86400)
    folder = old.member(Role.OPERATOR, folder="operator").folder
    with pytest.raises(NotAllowed) as caught:
        Identity.load(folder)
    assert "expired" in caught.value.message
    assert Identity.load(folder, accept_expired=True).principal.role is Role.OPERATOR


def test_a_renewed_certificate_replaces_both_files(mesh):
    identity = mesh.member(Role.AGENT, folder="agent")
    before = identity.key_path.read_bytes()
    leaf = mesh.authority.renew_local(identity)
    assert identity.principal.serial == leaf.serial
    assert identity.key_path.read_bytes() != before
    assert Identity.load(identity.folder).principal.serial == leaf.serial


@pytest.mark.parametrize("writes", range(5))
def test_a_power_cut_in_a_renewal_leaves_a_whole_identity(mesh, monkeypatch, writes):
    identity = mesh.member(Role.AGENT, folder="agent")
    old = identity.principal.serial
    real, count = paths.write_private, 0

    def cut(path, content):
        nonlocal count
        count += 1
        if count > writes:
            raise KeyboardInterrupt
        real(path, content)

    with monkeypatch.context() as patched:
        patched.setattr("planetmesh.trust.identity.write_private", cut)
        try:
            mesh.authority.renew_local(identity)
        except KeyboardInterrupt:
            assert writes < 3
    loaded = Identity.load(identity.folder)
    assert (loaded.principal.serial == old) == (writes == 0)


def test_a_full_disk_is_said_so_and_changes_nothing(mesh, monkeypatch):
    identity = mesh.member(Role.AGENT, folder="agent")
    before = identity.principal

    def full(_path, _content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("planetmesh.trust.identity.write_private", full)
        with pytest.raises(StorageFailed):
            mesh.authority.renew_local(identity)
        with pytest.raises(StorageFailed):
            mesh.member(Role.AGENT, folder="other")
    assert identity.principal == before == Identity.load(identity.folder).principal


def test_a_certificate_for_another_key_is_not_taken(mesh):
    identity = mesh.member(Role.AGENT, folder="agent")
    before = identity.key_path.read_bytes(), identity.certificate_path.read_bytes()
    leaf = mesh.authority.issue(Role.AGENT, identity.principal.id, KEY.public_key())
    other = key_to_pem(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(UnsafeHome):
        identity.replace_certificate(leaf.cert_pem, other)
    assert (identity.key_path.read_bytes(), identity.certificate_path.read_bytes()) == before


def test_the_last_good_endpoint_comes_first_and_the_list_is_bounded(mesh):
    identity = mesh.member(Role.AGENT, folder="agent")
    for number in range(20):
        identity.remember_endpoint(f"10.0.0.{number}:7433")
    identity.remember_endpoint("10.0.0.15:7433")
    endpoints = Identity.load(identity.folder).membership.endpoints
    assert endpoints[:2] == ("10.0.0.15:7433", "10.0.0.19:7433")
    assert len(endpoints) == ENDPOINTS_MOST == len(set(endpoints))


def test_private_keys_are_not_in_the_repr(mesh):
    identity = mesh.member(Role.AGENT)
    assert "PRIVATE" not in repr(identity) + repr(vars(identity))
