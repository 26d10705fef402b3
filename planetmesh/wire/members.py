"""Client↔coordinator: who asks, and who did what. As `api`, part of the JSON of `/v1`."""

from __future__ import annotations

import msgspec

from planetmesh.model.node import NodeState


class SelfView(msgspec.Struct, frozen=True):
    """GET /v1/self: what the coordinator knows of who is asking."""

    id: str
    role: str
    name: str
    mesh: str
    version: str
    """The coordinator's."""
    now: str
    """The coordinator's clock."""
    address: str
    """Where the asker's connection comes from."""
    state: NodeState | None = None
    """Agents: how this node stands."""
    connected: bool = False
    """Agents: it has a link."""
    machine: str = ""
    """Agents: what told its machine from others when that link was made."""
    node_version: str = ""
    """Agents: what ran there then."""


class PersonView(msgspec.Struct, frozen=True):
    """An operator or viewer: somebody who may give orders, or look, from wherever the key lies."""

    id: str
    name: str
    role: str
    expires_at: str
    """Unless it is renewed before; using it does that."""


class AuditView(msgspec.Struct, frozen=True):
    """One line of the audit trail."""

    number: int
    """A row that came later has a higher one."""
    at: str
    actor: str
    """A member's id, or `pairing` for who came with a code."""
    who: str
    """What that member is called, if that is known."""
    action: str
    object: str
    detail: str = ""
    address: str = ""
    """Where that member called from."""
