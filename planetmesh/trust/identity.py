"""One identity: a 0700 folder with key.pem (0600), cert.pem, ca.pem and mesh.json.

Agents, operators, viewers and the coordinator's own leaf all use this shape. Here a certificate is
read and an identity is kept on disk; certificates are made in `authority`, contexts in `tls`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from planetmesh.errors import Conflict, NotAllowed, StorageFailed, UnsafeHome
from planetmesh.model.identity import Principal, Role
from planetmesh.paths import read_private, refuse_if_shared, write_private
from planetmesh.trust.folder_lock import FILES, WAIT_SECONDS, holding

__all__ = [
    "Identity",
    "Membership",
    "Principal",
    "Role",
    "fingerprint_of",
    "parse_principal",
    "verify_leaf",
]

KEY = "key.pem"
CERTIFICATE = "cert.pem"
AUTHORITIES = "ca.pem"
MEMBERSHIP = "mesh.json"
RENEWED = "renewed.pem"
"""Key and certificate in one file: the commit point of a change of both, see `Identity.load`."""

ENDPOINTS_MOST = 8
"""More addresses than this say nothing new and only make reconnecting slower."""
FILE_MOST_BYTES = 64 * 1024
"""None of the four files is ever near this; anything larger is not ours."""
CERTIFICATE_MOST_BYTES = 8 * 1024

_NAME = re.compile(r"spiffe://([0-9a-f]{32})/(coordinator|agent|peer|operator|viewer)/([0-9a-f]{32})")
_PAIR_AGAIN = (
    "Pair again: `planetmesh code` on the coordinator, then `planetmesh leave` and `planetmesh up` here."
)


_UNREADABLE = (
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def host_name(mesh_id: str) -> str:
    """What the coordinator is called by programs that know servers by host names. No resolver knows it."""
    return f"{mesh_id}.planetmesh"


class Membership(msgspec.Struct, frozen=True):
    """What a member knows about its mesh (mesh.json)."""

    mesh_id: str
    mesh_name: str
    role: Role
    id: str
    name: str
    coordinator_id: str
    endpoints: tuple[str, ...] = ()
    """Addresses of the main port as `host:port`, last good one first."""


class Identity:
    """An identity folder that was read and checked; the private key itself stays on disk."""

    def __init__(self, folder: Path, membership: Membership, certificate_pem: bytes, ca_pem: bytes) -> None:
        self.folder = folder
        self.membership = membership
        self.certificate_pem = certificate_pem
        self.ca_pem = ca_pem
        self.certificate_der = pem_to_der(certificate_pem)
        self.principal = parse_principal(self.certificate_der)
        self.clock_offset_seconds = 0.0
        """After `enroll`: the coordinator's clock minus ours, if they are far apart."""

    @property
    def key_path(self) -> Path:
        return self.folder / KEY

    @property
    def certificate_path(self) -> Path:
        return self.folder / CERTIFICATE

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the mesh's CA certificate, in hex."""
        return fingerprint_of(self.ca_pem)

    @property
    def short_fingerprint(self) -> str:
        """The first 8 bytes for people to compare: `ab12 cd34 ef56 0718`."""
        return shorten(self.fingerprint)

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Whether `folder` holds an identity, sound or not."""
        return (folder / KEY).exists() or (folder / RENEWED).exists()

    @classmethod
    def load(cls, folder: Path, *, accept_expired: bool = False) -> Identity:
        """Read and check an identity.

        Raise NotAllowed if there is none or it has expired (unless `accept_expired`: the coordinator
        renews its own), UnsafeHome if others can read the key or the files do not fit together.
        """
        if not cls.exists(folder):
            raise NotAllowed(
                f"This machine has no identity in {folder}.",
                hint="Join a mesh with `planetmesh up` (a machine) or `planetmesh login` (a person).",
            )
        refuse_if_shared(folder)
        with _writing(folder):
            _settle(folder)
            identity, key_pem = _read(folder)
        _check_sound(identity, key_pem)
        if not accept_expired:
            _refuse_expired(identity.principal)
        return identity

    @classmethod
    def save(
        cls, folder: Path, key_pem: bytes, cert_pem: bytes, ca_pem: bytes, membership: Membership
    ) -> Identity:
        """Write a new identity; all or nothing, also through a power cut. Raise Conflict if one is there."""
        if cls.exists(folder):
            raise Conflict(
                f"{folder} already holds an identity.", hint="Give it up first with `planetmesh leave`."
            )
        with _writing(folder):
            refuse_if_shared(folder)
            write_private(folder / AUTHORITIES, ca_pem)
            _write_membership(folder, membership)
            _commit(folder, key_pem, cert_pem)
        return cls.load(folder, accept_expired=True)

    def replace_certificate(self, cert_pem: bytes, key_pem: bytes) -> None:
        """Take over a renewed certificate and its key: both or neither, also through a power cut."""
        renewed = Identity(self.folder, self.membership, cert_pem, self.ca_pem)
        _check_sound(renewed, key_pem)
        with _writing(self.folder):
            _commit(self.folder, key_pem, cert_pem)
        self.certificate_pem = cert_pem
        self.certificate_der = renewed.certificate_der
        self.principal = renewed.principal

    def read_again(self) -> bool:
        """Take over what another process has renewed on disk; say whether there was anything."""
        found = Identity.load(self.folder, accept_expired=True)
        if found.principal.serial == self.principal.serial:
            return False
        self.certificate_pem = found.certificate_pem
        self.certificate_der = found.certificate_der
        self.principal = found.principal
        return True

    def remember_endpoint(self, endpoint: str) -> None:
        """Put the address that just worked first, for the next start."""
        known = self.membership.endpoints
        if known[:1] == (endpoint,):
            return
        others = tuple(each for each in known if each != endpoint)
        endpoints = (endpoint, *others)[:ENDPOINTS_MOST]
        self.membership = msgspec.structs.replace(self.membership, endpoints=endpoints)
        with _writing(self.folder):
            _write_membership(self.folder, self.membership)


def parse_principal(cert_der: bytes) -> Principal:
    """What a certificate says, if its only name is one of ours; raise NotAllowed for anything else."""
    refused = NotAllowed("The certificate does not carry a planetmesh identity.")
    if len(cert_der) > CERTIFICATE_MOST_BYTES:
        raise refused
    try:
        certificate = x509.load_der_x509_certificate(cert_der)
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = list(extension.value)
        expires_at = certificate.not_valid_after_utc.timestamp()
    except (ValueError, TypeError, *_UNREADABLE) as error:
        raise refused from error
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise refused
    match = _NAME.fullmatch(names[0].value)
    if match is None:
        raise refused
    return Principal(
        mesh_id=match[1],
        role=Role(match[2]),
        id=match[3],
        serial=format(certificate.serial_number, "x"),
        not_after=expires_at,
    )


def verify_leaf(cert_pem: bytes, ca_pem: bytes, key_pem: bytes) -> Principal:
    """Check that a CA of the bundle issued this certificate for this key; raise NotAllowed otherwise."""
    try:
        leaf = x509.load_pem_x509_certificate(cert_pem)
        if not any(_issued_by(leaf, authority) for authority in x509.load_pem_x509_certificates(ca_pem)):
            raise NotAllowed("The certificate was not issued by this mesh's authority.")
        own = load_pem_private_key(key_pem, password=None).public_key()
        if _spki(own) != _spki(leaf.public_key()):
            raise NotAllowed("The certificate is for another key than ours.")
    except (ValueError, TypeError) as error:
        raise NotAllowed("The certificate or its key cannot be read.") from error
    return parse_principal(leaf.public_bytes(Encoding.DER))


def is_issued_by(cert_der: bytes, ca_pem: bytes) -> bool:
    """Whether a CA of the bundle signed this certificate."""
    try:
        leaf = x509.load_der_x509_certificate(cert_der)
        return any(_issued_by(leaf, authority) for authority in x509.load_pem_x509_certificates(ca_pem))
    except ValueError:
        return False


def fingerprint_of(ca_pem: bytes) -> str:
    """SHA-256 of the first certificate of a bundle, in hex."""
    return sha256(pem_to_der(ca_pem)).hexdigest()


def shorten(fingerprint: str) -> str:
    """The form that people compare: four groups of four."""
    return " ".join(fingerprint[start : start + 4] for start in range(0, 16, 4))


def pem_to_der(pem: bytes) -> bytes:
    """The first certificate of `pem`; raise NotAllowed if there is none."""
    try:
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    except ValueError as error:
        raise NotAllowed("A certificate cannot be read.") from error


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _issued_by(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _spki(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise NotAllowed("The certificate's key is not of the kind that planetmesh uses.")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(folder: Path) -> tuple[Identity, bytes]:
    try:
        key_pem = read_private(folder / KEY)
        cert_pem = _read_small(folder / CERTIFICATE)
        ca_pem = _read_small(folder / AUTHORITIES)
        membership = msgspec.json.decode(_read_small(folder / MEMBERSHIP), type=Membership)
        return Identity(folder, membership, cert_pem, ca_pem), key_pem
    except (OSError, msgspec.MsgspecError, NotAllowed) as error:
        raise UnsafeHome(f"The identity in {folder} is damaged: {error}", hint=_PAIR_AGAIN) from error


def _read_small(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(FILE_MOST_BYTES + 1)
    if len(content) > FILE_MOST_BYTES:
        raise OSError(f"{path.name} is far too large")
    return content


def _check_sound(identity: Identity, key_pem: bytes) -> None:
    try:
        said = verify_leaf(identity.certificate_pem, identity.ca_pem, key_pem)
    except NotAllowed as error:
        raise UnsafeHome(
            f"The identity in {identity.folder} is damaged: {error.message}", hint=_PAIR_AGAIN
        ) from error
    known = identity.membership
    if (said.mesh_id, said.role, said.id) != (known.mesh_id, known.role, known.id):
        raise UnsafeHome(
            f"The certificate in {identity.folder} belongs to another identity than its {MEMBERSHIP}.",
            hint=_PAIR_AGAIN,
        )


def _refuse_expired(principal: Principal) -> None:
    if time.time() < principal.not_after:
        return
    day = datetime.fromtimestamp(principal.not_after, UTC).strftime("%Y-%m-%d %H:%M UTC")
    raise NotAllowed(f"This machine's certificate expired on {day}.", hint=_PAIR_AGAIN)


def _write_membership(folder: Path, membership: Membership) -> None:
    write_private(folder / MEMBERSHIP, msgspec.json.format(msgspec.json.encode(membership)))


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Change or read the files as one, also among processes; raise StorageFailed if the disk refuses."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with holding(folder, FILES, wait_seconds=WAIT_SECONDS):
            yield
    except OSError as error:
        raise StorageFailed(
            f"The identity in {folder} cannot be written: {error.strerror}.",
            hint="Make room on the disk or mend the folder's owner, then try again.",
        ) from error


def _commit(folder: Path, key_pem: bytes, cert_pem: bytes) -> None:
    """Two files cannot change in one step, one can: write both as one, then spread it out."""
    write_private(folder / RENEWED, key_pem.strip() + b"\n" + cert_pem)
    _settle(folder)


def _settle(folder: Path) -> None:
    """Finish a change of key and certificate that was committed (perhaps before a power cut)."""
    renewed = folder / RENEWED
    if not renewed.exists():
        return
    both = read_private(renewed)
    start = both.index(b"-----BEGIN CERTIFICATE-----")
    write_private(folder / KEY, both[:start])
    write_private(folder / CERTIFICATE, both[start:])
    renewed.unlink()
