"""Who may do what: the one table of routes and roles, and the check that stands before every request.

Default deny: a route without a row, a role that is not in its row, a certificate that is not in the
table of active serials, a connection without a certificate: refused. Nothing that a peer writes
(headers, bodies) says who it is; only its TLS connection does. `api.guard` makes the connections.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from types import MappingProxyType

from aiohttp import web

from planetmesh.coordinator.engine import Engine, Happening
from planetmesh.errors import CopiedIdentity, NotAllowed
from planetmesh.mesh import effects as fx
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment
from planetmesh.model.identity import CertificateRecord, Principal, Role
from planetmesh.store.changes import AuditRow, Changes
from planetmesh.trust.serials import ActiveSerials
from planetmesh.trust.tls import cut

log = logging.getLogger(__name__)

CONNECTIONS_EACH_MOST = 64
"""Of one certificate holder: a dashboard, some `logs -f` and a script with a pool of connections."""
CONNECTIONS_MOST = 2048
PARTING_SECONDS = 0.25
"""Between a revocation and the abort of the connections: time for one word of goodbye, no more."""
ALARMS_MOST = 1024
"""Copied certificates that are remembered as told, so that a copy cannot fill the audit trail."""

AGENT = frozenset({Role.AGENT})
READERS = frozenset({Role.OPERATOR, Role.VIEWER})
OPERATORS = frozenset({Role.OPERATOR})
SENDERS = frozenset({Role.AGENT, Role.OPERATOR})
MEMBERS = frozenset({Role.AGENT, Role.OPERATOR, Role.VIEWER})

RULES: MappingProxyType[tuple[str, str], frozenset[Role]] = MappingProxyType(
    {
        ("GET", "/v1/agent"): AGENT,
        ("POST", "/v1/certs/renew"): MEMBERS,
        ("POST", "/v1/certs/peer"): AGENT,
        ("POST", "/v1/certs/cluster"): OPERATORS,
        ("POST", "/v1/blobs/{digest}/sources"): AGENT,
        ("GET", "/v1/people"): OPERATORS,
        ("DELETE", "/v1/members/{member}"): OPERATORS,
        ("GET", "/v1/status"): READERS,
        ("GET", "/v1/self"): MEMBERS,
        ("DELETE", "/v1/self"): MEMBERS,
        ("GET", "/metrics"): READERS,
        ("GET", "/v1/feed"): READERS,
        ("GET", "/v1/values"): OPERATORS,
        ("GET", "/v1/inputs"): OPERATORS,
        ("GET", "/v1/openapi.json"): READERS,
        ("GET", "/v1/audit"): OPERATORS,
        ("GET", "/v1/settings"): READERS,
        ("PATCH", "/v1/settings"): OPERATORS,
        ("GET", "/v1/jobs"): READERS,
        ("POST", "/v1/jobs"): OPERATORS,
        ("GET", "/v1/jobs/{job}"): READERS,
        ("PATCH", "/v1/jobs/{job}"): OPERATORS,
        ("POST", "/v1/jobs/{job}/inputs"): OPERATORS,
        ("POST", "/v1/jobs/{job}/cancel"): OPERATORS,
        ("POST", "/v1/jobs/{job}/retry"): OPERATORS,
        ("GET", "/v1/jobs/{job}/explain"): READERS,
        ("GET", "/v1/jobs/{job}/tasks/{index}/explain"): READERS,
        ("GET", "/v1/nodes/{node}/explain"): READERS,
        ("GET", "/v1/jobs/{job}/tasks"): READERS,
        ("GET", "/v1/jobs/{job}/tasks/{index}"): READERS,
        ("POST", "/v1/jobs/{job}/tasks/{index}/cancel"): OPERATORS,
        ("GET", "/v1/jobs/{job}/output"): READERS,
        ("GET", "/v1/jobs/{job}/logs"): READERS,
        ("GET", "/v1/jobs/{job}/results"): READERS,
        ("GET", "/v1/jobs/{job}/files"): READERS,
        ("POST", "/v1/blobs/missing"): SENDERS,
        ("POST", "/v1/blobs"): SENDERS,
        ("PUT", "/v1/blobs/{digest}"): SENDERS,
        ("GET", "/v1/blobs/{digest}"): MEMBERS,
        ("POST", "/v1/blobs/read"): MEMBERS,
        ("GET", "/v1/nodes"): READERS,
        ("GET", "/v1/nodes/{node}"): READERS,
        ("PATCH", "/v1/nodes/{node}"): OPERATORS,
        ("DELETE", "/v1/nodes/{node}"): OPERATORS,
        ("POST", "/v1/nodes/{node}/revoke"): OPERATORS,
        ("GET", "/v1/pair"): OPERATORS,
        ("POST", "/v1/pair"): OPERATORS,
        ("DELETE", "/v1/pair/{slot}"): OPERATORS,
    }
)
"""Every route there is. `api.routes` says what each does; a test compares the two with the server's own."""


class Connection:
    """One TLS connection and whom its certificate names."""

    def __init__(self, principal: Principal, transport: asyncio.Transport) -> None:
        self.principal = principal
        self.transport = transport
        self.admitted = False
        """Its certificate was accepted once: from then on a replaced one is out of date, not a copy."""

    @property
    def address(self) -> str:
        """Where it comes from; empty if the system does not say."""
        peer = self.transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) and peer else ""

    def abort(self) -> None:
        """Cut it now, whatever is on its way."""
        cut(self.transport)


class Connections:
    """All open connections, by member."""

    def __init__(self, *, each_most: int = CONNECTIONS_EACH_MOST, total_most: int = CONNECTIONS_MOST) -> None:
        self._each_most = each_most
        self._total_most = total_most
        self._by_member: dict[str, set[Connection]] = {}
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def __iter__(self) -> Iterator[Connection]:
        for connections in self._by_member.values():
            yield from connections

    def of(self, member_id: str) -> frozenset[Connection]:
        return frozenset(self._by_member.get(member_id, ()))

    def add(self, connection: Connection) -> bool:
        """Whether there is room for it; the caller drops it if not."""
        member = self._by_member.setdefault(connection.principal.id, set())
        if len(member) >= self._each_most or self._total >= self._total_most:
            log.warning("api.too_many_connections", extra={"member": connection.principal.id})
            return False
        member.add(connection)
        self._total += 1
        return True

    def remove(self, connection: Connection) -> None:
        member = self._by_member.get(connection.principal.id, set())
        if connection not in member:
            return
        member.discard(connection)
        self._total -= 1
        if not member:
            del self._by_member[connection.principal.id]

    def abort(self, member_id: str) -> None:
        for connection in self.of(member_id):
            connection.abort()


def connection_of(request: web.Request) -> Connection:
    """The connection that a request came by; raises NotAllowed if the guard did not make it."""
    connection = getattr(request.protocol, "connection", None)
    if not isinstance(connection, Connection):
        raise NotAllowed("This connection shows no certificate.")
    return connection


class Access:
    """Asked before every request, and again and again while an answer without an end is given."""

    def __init__(
        self, engine: Engine, serials: ActiveSerials, *, connections: Connections | None = None
    ) -> None:
        self.serials = serials
        self.connections = Connections() if connections is None else connections
        self._engine = engine
        self._unsaved: set[str] = set()
        """Serials whose rows count in memory already while the disk may not have them."""
        self._alarms: dict[str, None] = {}

    def principal(self, request: web.Request) -> Principal:
        """Who asks: what its TLS connection proved, never what the request says."""
        return connection_of(request).principal

    def check(self, request: web.Request) -> None:
        """Raise NotAllowed once the certificate behind an admitted request counts no more."""
        self.still_allowed(connection_of(request))

    async def admit(self, connection: Connection) -> None:
        """Raise NotAllowed unless this connection's certificate counts at this moment."""
        principal, now = connection.principal, self._engine.read_clock().wall
        try:
            rows = self.serials.check(principal, now, established=connection.admitted)
        except CopiedIdentity:
            await self._alarm(principal, now, connection.address)
            raise
        connection.admitted = True
        if rows:
            await self.change(_nothing, self.certificate_changes(rows))

    def still_allowed(self, connection: Connection) -> None:
        """Raise NotAllowed if the certificate of a connection that was admitted counts no more."""
        self.serials.check(connection.principal, self._engine.read_clock().wall, established=True)

    def allow(self, principal: Principal, method: str, path: str | None) -> None:
        """Raise NotAllowed unless the table has this route for this role. `path` is the route's pattern."""
        roles = RULES.get((method, path)) if path is not None else None
        if roles is None or principal.role not in roles:
            raise NotAllowed(
                f"A certificate with the role {principal.role} may not do this.",
                hint=_hint(roles),
            )

    def certificate_changes(self, rows: tuple[CertificateRecord, ...]) -> Changes:
        """Changes that hold these rows, and any that could not be written before; for `change`."""
        self._unsaved.update(row.serial for row in rows)
        present = [self.serials.get(serial) for serial in sorted(self._unsaved)]
        return Changes(certificates=[record for record in present if record is not None])

    async def change(self, happening: Happening, changes: Changes) -> None:
        """Let something happen together with rows of certificates, in one transaction."""
        await self._engine.do(happening, changes)
        for row in changes.certificates:
            if self.serials.get(row.serial) == row:
                self._unsaved.discard(row.serial)

    def revoke(self, member_or_serial: str) -> Changes:
        """Refuse a member from this moment on and cut its connections; return the rows to store.

        It counts before it is on disk: a full disk must not keep a thief connected.
        """
        known = self.serials.get(member_or_serial)
        member = known.id if known else member_or_serial
        changes = self.certificate_changes(self.serials.revoke(member_or_serial))
        asyncio.get_running_loop().call_later(PARTING_SECONDS, self._cut, member)
        return changes

    def _cut(self, member: str) -> None:
        for connection in self.connections.of(member):
            try:
                self.still_allowed(connection)
            except NotAllowed:
                connection.abort()

    async def _alarm(self, principal: Principal, now: float, address: str) -> None:
        """A replaced certificate came back: somebody has a copy of the key. Say it once for each."""
        if principal.serial in self._alarms or len(self._alarms) >= ALARMS_MOST:
            return
        self._alarms[principal.serial] = None
        log.warning(
            "access.copied_identity",
            extra={"member": principal.id, "role": principal.role.value, "address": address},
        )
        detail = f"role {principal.role}"
        row = AuditRow(now, principal.id, "copied_identity", principal.serial, detail, address=address)
        await self._engine.do(_nothing, Changes(audit=[row]))


def _nothing(_state: MeshState, _now: Moment) -> fx.Effects:
    return []


def _hint(roles: frozenset[Role] | None) -> str:
    if roles is None or Role.OPERATOR not in roles:
        return ""
    return "Ask an operator for a code: `planetmesh code --role operator`, then `planetmesh login` here."
