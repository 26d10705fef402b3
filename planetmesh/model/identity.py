"""Who somebody is in a mesh: roles, what a certificate says, and what the coordinator remembers of it.

Plain values only. Certificates are read and made in `trust/`; the table of records lies in `store/`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Role(StrEnum):
    """What a certificate may be used for; it stands in the certificate's only name."""

    COORDINATOR = "coordinator"
    AGENT = "agent"
    PEER = "peer"
    OPERATOR = "operator"
    VIEWER = "viewer"


class Principal(msgspec.Struct, frozen=True):
    """What one certificate proves about its holder."""

    mesh_id: str
    role: Role
    id: str
    serial: str
    """Lower-case hex."""
    not_after: float
    """Seconds since the epoch."""


class CertificateState(StrEnum):
    """PENDING until first use; RETIRED once its successor was used; REVOKED for good."""

    PENDING = "pending"
    ACTIVE = "active"
    RETIRED = "retired"
    REVOKED = "revoked"


class CertificateRecord(msgspec.Struct, frozen=True):
    """One issued certificate, as the coordinator keeps it."""

    serial: str
    role: Role
    id: str
    spki_hash: str
    """SHA-256 of the public key (SubjectPublicKeyInfo), hex."""
    not_after: float
    state: CertificateState
    successor: str = ""
    """Serial of the certificate that was issued to replace this one."""
    name: str = ""
    """What the member was called when it came; for people only."""
