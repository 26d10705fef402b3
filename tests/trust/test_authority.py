"""The mini CA: its profiles, what it refuses, where its key lies."""

from __future__ import annotations

import ssl
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from identities import echo_server, say

from planetmesh.errors import BadInput, Conflict, NotAllowed, UnsafeHome
from planetmesh.model.identity import Role
from planetmesh.trust import tls
from planetmesh.trust.authority import BUILD_DATE, PROFILES, Authority, new_serial
from planetmesh.trust.identity import parse_principal, pem_to_der
from planetmesh.trust.renewal import make_csr

ID = "ab" * 16


def leaf_of(mesh, role):
    key = ec.generate_private_key(ec.SECP256R1())
    return mesh.authority.issue(role, ID, key.public_key())


@pytest.mark.parametrize("role", list(Role))
def test_every_leaf_has_its_profile(mesh, role):
    leaf = leaf_of(mesh, role)
    certificate = x509.load_pem_x509_certificate(leaf.cert_pem)
    authority = x509.load_pem_x509_certificate(mesh.authority.ca_pem)
    get = certificate.extensions.get_extension_for_class
    assert get(x509.BasicConstraints).value.ca is False
    assert get(x509.BasicConstraints).critical
    assert get(x509.KeyUsage).value.digital_signature
    assert not get(x509.KeyUsage).value.key_cert_sign
    assert list(get(x509.ExtendedKeyUsage).value) == [PROFILES[role].usage]
    assert [each.value for each in get(x509.SubjectAlternativeName).value] == [
        f"spiffe://{mesh.mesh_id}/{role}/{ID}"
    ]
    assert get(x509.AuthorityKeyIdentifier).value.key_identifier == (
        authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    )
    assert get(x509.SubjectKeyIdentifier)
    assert certificate.not_valid_before_utc == authority.not_valid_before_utc
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    assert abs(left - PROFILES[role].valid) < timedelta(minutes=1)
    said = parse_principal(pem_to_der(leaf.cert_pem))
    assert (said.mesh_id, said.role, said.id) == (mesh.mesh_id, role, ID)
    assert (said.serial, said.not_after) == (leaf.serial, leaf.not_after)


def test_only_two_roles_may_serve():
    serving = {role for role, each in PROFILES.items() if each.usage == ExtendedKeyUsageOID.SERVER_AUTH}
    assert serving == {Role.COORDINATOR, Role.PEER}


def test_the_authority_cannot_make_authorities(mesh):
    certificate = x509.load_pem_x509_certificate(mesh.authority.ca_pem)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    age = datetime.now(UTC) - certificate.not_valid_before_utc
    assert timedelta(days=1) <= age < timedelta(days=1, minutes=1)


async def test_the_profiles_pass_the_strict_checks_of_both_sides(mesh):
    context = tls.client_context(mesh.member(Role.AGENT))
    server = tls.serve_context(mesh.coordinator)
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert server.verify_flags & ssl.VERIFY_X509_STRICT
    async with echo_server(server) as (port, came):
        assert await say(port, context) == b"hello\n"
    assert came[0].role is Role.AGENT


def test_only_the_key_is_taken_from_a_request(mesh):
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "coordinator")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=3), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("evil.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    for encoding in (Encoding.DER, Encoding.PEM):
        leaf = mesh.authority.issue_from_csr(Role.AGENT, ID, request.public_bytes(encoding))
        certificate = x509.load_pem_x509_certificate(leaf.cert_pem)
        assert certificate.public_key() == key.public_key()
        assert list(certificate.subject) == []
        assert parse_principal(pem_to_der(leaf.cert_pem)).role is Role.AGENT
        assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


def test_a_request_must_prove_possession(mesh):
    _, csr = make_csr()
    forged = bytearray(csr)
    forged[-1] ^= 1
    with pytest.raises(BadInput):
        mesh.authority.issue_from_csr(Role.AGENT, ID, bytes(forged))


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()]
)
def test_only_p256_keys(mesh, key):
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, algorithm)
    with pytest.raises(BadInput):
        mesh.authority.issue_from_csr(Role.AGENT, ID, request.public_bytes(Encoding.DER))


@pytest.mark.parametrize("junk", [b"", b"\x30", b"-----BEGIN nothing", b"\xff" * 100, b"\x00" * 5000])
def test_junk_is_refused_as_bad_input(mesh, junk):
    with pytest.raises(BadInput):
        mesh.authority.issue_from_csr(Role.AGENT, ID, junk)


@pytest.mark.parametrize("bad", ["", "AB" * 16, "../" + "a" * 29, ID + "\n", ID[:-1]])
def test_ids_are_hex(mesh, bad):
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(BadInput):
        mesh.authority.issue(Role.AGENT, bad, key.public_key())


def test_the_key_is_private_and_made_once(mesh):
    folder = mesh.folder / "authority"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    with pytest.raises(Conflict):
        Authority.create(folder, mesh.mesh_id)
    assert Authority.open(folder).fingerprint == mesh.authority.fingerprint
    assert Authority.open(folder).mesh_id == mesh.mesh_id


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
@pytest.mark.parametrize("name", ["key.pem", "."])
def test_a_key_that_others_can_read_is_refused(mesh, name):
    path = mesh.folder / "authority" / name
    path.chmod(0o744 if name == "." else 0o644)
    with pytest.raises(UnsafeHome) as caught:
        Authority.open(mesh.folder / "authority")
    assert "chmod" in caught.value.hint


def test_a_damaged_or_missing_authority_says_what_to_do(mesh, tmp_path):
    folder = mesh.folder / "authority"
    (folder / "ca.pem").write_bytes(b"nothing")
    with pytest.raises(UnsafeHome) as caught:
        Authority.open(folder)
    assert "backup" in caught.value.hint
    with pytest.raises(NotAllowed):
        Authority.open(tmp_path / "none")


def test_a_key_of_another_authority_is_noticed(mesh, tmp_path):
    other = tmp_path / "other"
    Authority.create(other, mesh.mesh_id)
    (mesh.folder / "authority" / "ca.pem").write_bytes((other / "ca.pem").read_bytes())
    with pytest.raises(UnsafeHome):
        Authority.open(mesh.folder / "authority")


def test_a_creation_that_was_cut_short_leaves_nothing_in_the_way(tmp_path, mesh):
    beside = tmp_path / ".authority.new"
    beside.mkdir()
    (beside / "key.pem").write_bytes(b"half")
    made = Authority.create(tmp_path / "authority", mesh.mesh_id)
    assert Authority.open(tmp_path / "authority").fingerprint == made.fingerprint


def test_no_authority_while_the_clock_cannot_be_right(tmp_path):
    with pytest.raises(UnsafeHome) as caught:
        Authority.create(tmp_path / "authority", ID, clock=lambda: BUILD_DATE.timestamp() - 1)
    assert "clock" in caught.value.message
    assert not (tmp_path / "authority").exists()


def test_a_clock_that_jumps_back_still_makes_certificates_that_are_valid(mesh):
    mesh.authority._clock = lambda: 0.0
    leaf = leaf_of(mesh, Role.AGENT)
    certificate = x509.load_pem_x509_certificate(leaf.cert_pem)
    assert certificate.not_valid_before_utc < certificate.not_valid_after_utc


def test_serials_are_random_positive_and_fit():
    serials = {new_serial() for _ in range(100)}
    assert len(serials) == 100
    assert all(0 < each < 1 << 159 for each in serials)


def test_openssl_itself_finds_nothing_wrong(mesh, tmp_path):
    leaf = leaf_of(mesh, Role.AGENT)
    (tmp_path / "ca.pem").write_bytes(mesh.authority.ca_pem)
    (tmp_path / "leaf.pem").write_bytes(leaf.cert_pem)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "ca.pem", "leaf.pem"]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no openssl program")
    assert done.returncode == 0, done.stderr
