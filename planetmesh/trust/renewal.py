"""Renewing a certificate before it expires: when, what is asked, what is answered.

Client side: `due` (check at wake, at connect and hourly), `make_csr`, then `accept`. Coordinator side:
`renew`. Both travel over the member's own authenticated connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from planetmesh.errors import BadInput, NotAllowed
from planetmesh.model.identity import Principal, Role
from planetmesh.trust.authority import Authority, Leaf
from planetmesh.trust.folder_lock import RENEWAL, holding
from planetmesh.trust.identity import Identity, key_to_pem, verify_leaf
from planetmesh.trust.serials import ActiveSerials, Rows

RENEW_BEFORE = {
    Role.COORDINATOR: timedelta(days=15),
    Role.AGENT: timedelta(days=60),
    Role.PEER: timedelta(days=60),
    Role.OPERATOR: timedelta(days=3.5),
    Role.VIEWER: timedelta(days=15),
}
"""Time left at which to begin trying: half of the life, for agents two thirds (they may be off for weeks)."""
RETRY_AGENT_SECONDS = 86400.0
"""An agent tries daily from then on."""


def due(principal: Principal, now: float) -> bool:
    """Whether it is time to renew. Ask with wall time, again after each sleep: timers do not wake laptops."""
    return principal.not_after - now <= RENEW_BEFORE[principal.role].total_seconds()


def make_csr() -> tuple[bytes, bytes]:
    """A new key (PEM) and a request that proves we hold it (DER)."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return key_to_pem(key), request.public_bytes(Encoding.DER)


@contextmanager
def alone(identity: Identity) -> Iterator[bool]:
    """Renew within this, if it gives True. Commands run side by side share one identity folder, and two
    renewals at once would revoke each other's certificate; after False the identity is what is on disk.
    """
    with holding(identity.folder, RENEWAL) as held:
        yield held and not identity.read_again()


def renew(
    authority: Authority, serials: ActiveSerials, principal: Principal, csr: bytes
) -> tuple[Leaf, Rows]:
    """Coordinator side: a successor with the same name and role. Store the rows before answering.

    The caller has checked the principal just now. The old certificate counts until the first use of the new.
    """
    leaf = authority.issue_from_csr(principal.role, principal.id, csr)
    old = serials.get(principal.serial)
    if old is not None and old.spki_hash == leaf.spki_hash:
        raise BadInput("A renewal needs a new key.")
    return leaf, serials.rotate(principal.serial, leaf.record())


def accept(identity: Identity, cert_pem: bytes, key_pem: bytes) -> None:
    """Member's side: take over the answer, if it is for our name and our new key; raise NotAllowed if not."""
    said = verify_leaf(cert_pem, identity.ca_pem, key_pem)
    own = identity.principal
    if (said.mesh_id, said.role, said.id) != (own.mesh_id, own.role, own.id):
        raise NotAllowed("The renewed certificate is for somebody else.")
    identity.replace_certificate(cert_pem, key_pem)
