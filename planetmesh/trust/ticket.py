"""Tickets: the coordinator's word that one node may read one blob from one other, for a while.

Made from the coordinator's own certificate and key, so that a node can check one without asking anybody:
it knows the mesh's CA and who its coordinator is. A ticket is no secret by itself: the reader must prove
by its own certificate that it is the one who is named.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Meta

from planetmesh.errors import NotAllowed
from planetmesh.model.blob import Digest
from planetmesh.model.identity import Role
from planetmesh.model.ids import NodeId
from planetmesh.paths import read_private
from planetmesh.trust.identity import Identity, Membership, is_issued_by, parse_principal

TICKET_MOST_BYTES = 4096
"""Of its text: it travels in one header."""
_SIGN = ec.ECDSA(hashes.SHA256())
_PURPOSE = b"planetmesh blob ticket 1\0"
"""Signed before the grant: nothing else that this key signs can be taken for a ticket."""


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """What a ticket says."""

    digest: Digest
    holder: NodeId
    """The node that may hand the blob out."""
    reader: NodeId
    expires_at: float
    """Epoch seconds by the coordinator's clock."""


class _Ticket(msgspec.Struct, frozen=True, array_like=True):
    grant: Annotated[bytes, Meta(max_length=512)]
    signature: Annotated[bytes, Meta(max_length=128)]
    certificate: Annotated[bytes, Meta(max_length=2048)]
    """The coordinator's, DER: it may have been renewed since the holder's link was made."""


class TicketOffice:
    """Makes tickets; the coordinator's. Make it anew when its certificate was renewed."""

    def __init__(self, identity: Identity) -> None:
        """Read the key; raise NotAllowed if this is no coordinator's identity."""
        key = load_pem_private_key(read_private(identity.key_path), password=None)
        if identity.principal.role is not Role.COORDINATOR or not isinstance(key, ec.EllipticCurvePrivateKey):
            raise NotAllowed("Only a coordinator makes tickets.")
        self._key = key
        self._certificate = identity.certificate_der
        self.serial = identity.principal.serial

    def make(self, grant: Grant) -> str:
        said = msgspec.msgpack.encode(grant)
        ticket = _Ticket(said, self._key.sign(_PURPOSE + said, _SIGN), self._certificate)
        return urlsafe_b64encode(msgspec.msgpack.encode(ticket)).decode()


def read_ticket(text: str, ca_pem: bytes, membership: Membership, now: float) -> Grant:
    """What our mesh's coordinator granted; raise NotAllowed for what it did not sign, and for what is over.

    `now` is by the coordinator's clock, epoch seconds: a node's own may be years off.
    """
    refused = NotAllowed("The ticket is not one of this mesh's coordinator.")
    if len(text) > TICKET_MOST_BYTES:
        raise refused
    try:
        ticket = msgspec.msgpack.decode(urlsafe_b64decode(text), type=_Ticket)
        key = x509.load_der_x509_certificate(ticket.certificate).public_key()
        signer = parse_principal(ticket.certificate)
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError) as error:
        raise refused from error
    ours = (membership.mesh_id, Role.COORDINATOR, membership.coordinator_id)
    if (signer.mesh_id, signer.role, signer.id) != ours or not isinstance(key, ec.EllipticCurvePublicKey):
        raise refused
    if not is_issued_by(ticket.certificate, ca_pem):
        raise refused
    try:
        key.verify(ticket.signature, _PURPOSE + ticket.grant, _SIGN)
        grant = msgspec.msgpack.decode(ticket.grant, type=Grant)
    except (InvalidSignature, msgspec.MsgspecError) as error:
        raise refused from error
    if now >= min(grant.expires_at, signer.not_after):
        raise NotAllowed("The ticket is over.")
    return grant
