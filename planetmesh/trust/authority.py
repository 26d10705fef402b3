"""The mini CA of a mesh: makes every certificate, by one table of profiles.

Lives on the coordinator only. Who may have a certificate is decided elsewhere (`pairing_server`,
`renewal`); which ones are accepted is `serials`. Nothing but the public key is taken from a request.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from planetmesh.errors import BadInput, Conflict, NotAllowed, StorageFailed, UnsafeHome
from planetmesh.model.identity import CertificateRecord, CertificateState, Role
from planetmesh.paths import read_private, refuse_if_shared
from planetmesh.trust.identity import Identity, Membership, fingerprint_of, host_name, key_to_pem, shorten

KEY = "key.pem"
CERTIFICATE = "ca.pem"

BUILD_DATE = datetime(2026, 11, 1, tzinfo=UTC)
"""No true clock shows an earlier time than this release; a board without a battery does."""
BACKDATE = timedelta(days=1)
"""Every certificate is valid since a day before the mesh was made: clock jumps lock nobody out."""
AUTHORITY_VALID = timedelta(days=20 * 365 + 5)
SERIAL_BITS = 159
"""The most that RFC 5280's 20 octets hold without a sign bit."""
CSR_MOST_BYTES = 4096
PEM_START = b"-----BEGIN "

_HEX32 = re.compile(r"[0-9a-f]{32}")


class Profile(msgspec.Struct, frozen=True):
    """What a certificate of one role may be used for, and how long."""

    usage: x509.ObjectIdentifier
    valid: timedelta
    usage_too: x509.ObjectIdentifier | None = None


PROFILES = {
    Role.COORDINATOR: Profile(ExtendedKeyUsageOID.SERVER_AUTH, timedelta(days=30)),
    Role.AGENT: Profile(ExtendedKeyUsageOID.CLIENT_AUTH, timedelta(days=90)),
    Role.PEER: Profile(ExtendedKeyUsageOID.SERVER_AUTH, timedelta(days=90)),
    Role.OPERATOR: Profile(ExtendedKeyUsageOID.CLIENT_AUTH, timedelta(days=7)),
    Role.VIEWER: Profile(ExtendedKeyUsageOID.CLIENT_AUTH, timedelta(days=30)),
}

CLUSTER = Profile(ExtendedKeyUsageOID.SERVER_AUTH, timedelta(days=4), ExtendedKeyUsageOID.CLIENT_AUTH)
"""For a Dask cluster of an operator's. Its name is that of no member, so no door of the mesh knows it."""


class Leaf(msgspec.Struct, frozen=True):
    """A certificate that was just made. It counts for nothing until its record is in the table."""

    role: Role
    id: str
    cert_pem: bytes
    serial: str
    not_after: float
    spki_hash: str

    def record(self, state: CertificateState = CertificateState.PENDING, name: str = "") -> CertificateRecord:
        """The row to store before the certificate is handed out."""
        return CertificateRecord(
            serial=self.serial,
            role=self.role,
            id=self.id,
            spki_hash=self.spki_hash,
            not_after=self.not_after,
            state=state,
            name=name,
        )


class Authority:
    """The CA key and certificate of one mesh, opened."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        certificate: x509.Certificate,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._certificate = certificate
        self._clock = clock
        self.mesh_id = _mesh_id_of(certificate)
        self.ca_pem = certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the CA certificate, in hex."""
        return fingerprint_of(self.ca_pem)

    @property
    def short_fingerprint(self) -> str:
        return shorten(self.fingerprint)

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Whether `folder` holds an authority, sound or not."""
        return (folder / KEY).exists()

    @classmethod
    def create(cls, folder: Path, mesh_id: str, *, clock: Callable[[], float] = time.time) -> Authority:
        """Make the CA of a new mesh; all or nothing.

        Raise Conflict if there is one already, UnsafeHome if the clock cannot be right.
        """
        if _HEX32.fullmatch(mesh_id) is None:
            raise BadInput("A mesh id is 32 hex digits.")
        _refuse_early_clock(clock())
        if folder.exists():
            raise Conflict(
                f"There is an authority in {folder} already.", hint="Start it with `planetmesh up`."
            )
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _self_signed(key, mesh_id, clock())
        _write_folder(folder, key_to_pem(key), certificate.public_bytes(Encoding.PEM))
        return cls(key, certificate, clock)

    @classmethod
    def open(cls, folder: Path, *, clock: Callable[[], float] = time.time) -> Authority:
        """Read the CA; raise NotAllowed if there is none, UnsafeHome if damaged or readable by others."""
        if not cls.exists(folder):
            raise NotAllowed(
                f"There is no authority in {folder}.", hint="Make a mesh with `planetmesh up --new`."
            )
        refuse_if_shared(folder)
        key_pem = read_private(folder / KEY)
        damaged = UnsafeHome(
            f"The authority in {folder} is damaged.",
            hint="Bring that folder back from a backup of this home.",
        )
        try:
            key = load_pem_private_key(key_pem, password=None)
            certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
        except (ValueError, TypeError, UnsupportedAlgorithm, OSError) as error:
            raise damaged from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise damaged
        return cls(key, certificate, clock)

    @classmethod
    def bring_back(cls, folder: Path, key_pem: bytes, cert_pem: bytes) -> Authority:
        """Put a CA from a backup in its place; all or nothing. Raise Conflict if there is one already."""
        if folder.exists():
            raise Conflict(f"There is an authority in {folder} already.", hint="Choose another --home DIR.")
        _write_folder(folder, key_pem, cert_pem)
        return cls.open(folder)

    @staticmethod
    def as_stored(folder: Path) -> tuple[bytes, bytes]:
        """Key and certificate (PEM), for a backup; raise UnsafeHome if others can read the key."""
        return read_private(folder / KEY), (folder / CERTIFICATE).read_bytes()

    def issue(self, role: Role, id: str, public_key: ec.EllipticCurvePublicKey) -> Leaf:  # noqa: A002  the word everywhere
        """Make a certificate for a public key; who may have one is the caller's decision."""
        if _HEX32.fullmatch(id) is None:
            raise BadInput("An identity's id is 32 hex digits.")
        if not isinstance(public_key.curve, ec.SECP256R1):
            raise BadInput("Only P-256 keys are accepted.")
        name = x509.UniformResourceIdentifier(f"spiffe://{self.mesh_id}/{role}/{id}")
        certificate = self._leaf(PROFILES[role], name, public_key)
        spki = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return Leaf(
            role=role,
            id=id,
            cert_pem=certificate.public_bytes(Encoding.PEM),
            serial=format(certificate.serial_number, "x"),
            not_after=certificate.not_valid_after_utc.timestamp(),
            spki_hash=sha256(spki).hexdigest(),
        )

    def issue_from_csr(self, role: Role, id: str, csr: bytes) -> Leaf:  # noqa: A002  the word everywhere
        """Make a certificate for the key of a request that proves its possession; ignore all else in it."""
        return self.issue(role, id, public_key_of(csr))

    def issue_cluster(self, id: str, csr: bytes) -> tuple[bytes, str]:  # noqa: A002  the word everywhere
        """Make a certificate (PEM) by which the processes of one cluster know each other; and its serial.

        `trust.cluster` pins it. `identity.parse_principal` refuses its name, and so does every door.
        """
        name = x509.UniformResourceIdentifier(f"spiffe://{self.mesh_id}/cluster/{id}")
        certificate = self._leaf(CLUSTER, name, public_key_of(csr))
        return certificate.public_bytes(Encoding.PEM), format(certificate.serial_number, "x")

    def issue_local(self, folder: Path, membership: Membership) -> tuple[Identity, Leaf]:
        """Make an identity on this very machine (the coordinator's leaf, its local agent and operator)."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self.issue(membership.role, membership.id, key.public_key())
        identity = Identity.save(folder, key_to_pem(key), leaf.cert_pem, self.ca_pem, membership)
        return identity, leaf

    def renew_local(self, identity: Identity) -> Leaf:
        """Give an identity on this very machine a new key and certificate, in place."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self.issue(identity.principal.role, identity.principal.id, key.public_key())
        identity.replace_certificate(leaf.cert_pem, key_to_pem(key))
        return leaf

    def name_certificate(self, certificate_der: bytes) -> bytes:
        """Another certificate for the key of this one, with a host's name in place of who it is.

        Programs like Prometheus know servers by such names only. It is nobody's identity: no member takes it.
        """
        public_key = x509.load_der_x509_certificate(certificate_der).public_key()
        if not isinstance(public_key, ec.EllipticCurvePublicKey):
            raise BadInput("Only P-256 keys are accepted.")
        name = x509.DNSName(host_name(self.mesh_id))
        return self._leaf(PROFILES[Role.COORDINATOR], name, public_key).public_bytes(Encoding.PEM)

    def _leaf(
        self, profile: Profile, name: x509.GeneralName, public_key: ec.EllipticCurvePublicKey
    ) -> x509.Certificate:
        authority = self._certificate
        usages = [each for each in (profile.usage, profile.usage_too) if each is not None]
        # A clock that fell behind the mesh's own beginning is wrong; go on from there.
        now = max(datetime.fromtimestamp(self._clock(), UTC), authority.not_valid_before_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(authority.subject)
            .public_key(public_key)
            .serial_number(new_serial())
            .not_valid_before(authority.not_valid_before_utc)
            .not_valid_after(min(now + profile.valid, authority.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            # The subject is empty, so the standard wants the name that counts marked critical.
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(_authority_key(authority), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256())


def public_key_of(csr: bytes) -> ec.EllipticCurvePublicKey:
    """The P-256 key of a request (DER or PEM) whose sender proved to hold it; raise BadInput otherwise."""
    if len(csr) > CSR_MOST_BYTES:
        raise BadInput("The certificate request is too large.")
    try:
        request = x509.load_pem_x509_csr(csr) if csr.startswith(PEM_START) else x509.load_der_x509_csr(csr)
        proven = request.is_signature_valid
        public_key = request.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.InvalidVersion) as error:
        raise BadInput("The certificate request cannot be read.") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(
        public_key.curve, ec.SECP256R1
    ):
        raise BadInput("Only P-256 keys are accepted.")
    if not proven:
        raise BadInput("The certificate request does not prove that its sender holds the key.")
    return public_key


def new_serial() -> int:
    """Random and never zero."""
    return secrets.randbits(SERIAL_BITS) | 1 << (SERIAL_BITS - 1)


def _refuse_early_clock(now: float) -> None:
    if now < BUILD_DATE.timestamp():
        shown = datetime.fromtimestamp(max(now, 0.0), UTC).strftime("%Y-%m-%d %H:%M UTC")
        raise UnsafeHome(
            f"This machine's clock shows {shown}, which is before this program was made.",
            hint="Set the clock (for instance `timedatectl set-ntp true`) and start again.",
        )


def _self_signed(key: ec.EllipticCurvePrivateKey, mesh_id: str, now: float) -> x509.Certificate:
    created = datetime.fromtimestamp(now, UTC).replace(microsecond=0)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"planetmesh {mesh_id}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(new_serial())
        .not_valid_before(created - BACKDATE)
        .not_valid_after(created + AUTHORITY_VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _key_usage(*, digital_signature: bool = False, signs_certificates: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _mesh_id_of(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(names[0].value) if len(names) == 1 else ""
    mesh_id = text.removeprefix("planetmesh ")
    if _HEX32.fullmatch(mesh_id) is None:
        raise UnsafeHome("The authority's certificate does not name a mesh.")
    return mesh_id


def _write_folder(folder: Path, key_pem: bytes, cert_pem: bytes) -> None:
    """Fill a folder beside and move it into place: never a key without its certificate. Or StorageFailed."""
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(mode=0o700, parents=True)
        _create_private(beside / KEY, key_pem)
        _create_private(beside / CERTIFICATE, cert_pem)
        _sync(beside)
        beside.rename(folder)
        _sync(folder.parent)
    except OSError as error:
        raise StorageFailed(f"The authority in {folder} cannot be written: {error.strerror}.") from error


def _create_private(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """See that the names in a folder are on disk as well (POSIX)."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
