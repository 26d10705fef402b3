"""A real mesh for the tests of trust: an authority, its coordinator, members, a desk that enrols."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from planetmesh.model.identity import Role
from planetmesh.trust import tls
from planetmesh.trust.authority import Authority
from planetmesh.trust.identity import Identity, Membership
from planetmesh.trust.pairing import PairingLimits
from planetmesh.trust.pairing_server import Enrolled, EnrolRequest, PairingDesk

FAST = PairingLimits(
    exchange_seconds=3.0,
    step_seconds=1.0,
    between_seconds=0.0,
    running_most=500,
    sockets_most=500,
    sockets_each_most=500,
    reply_seconds=0.0,
)


class Mesh:
    """A mesh in a temporary folder."""

    def __init__(self, folder: Path, *, mesh_id: str = "", clock: Callable[[], float] | None = None) -> None:
        self.folder = folder
        self.mesh_id = mesh_id or secrets.token_hex(16)
        timed = {"clock": clock} if clock else {}
        self.authority = Authority.create(folder / "authority", self.mesh_id, **timed)
        self.coordinator_id = secrets.token_hex(16)
        self.coordinator = self.member(Role.COORDINATOR, member_id=self.coordinator_id)
        self.enrolled: list[EnrolRequest] = []
        self.failures: list[tuple[int, str, int]] = []
        self.listening: list[tuple[int | None, tuple[int, ...]]] = []

    def membership(self, role: Role, member_id: str, name: str = "box") -> Membership:
        return Membership(
            mesh_id=self.mesh_id,
            mesh_name="home",
            role=role,
            id=member_id,
            name=name,
            coordinator_id=self.coordinator_id,
            endpoints=("192.0.2.1:7433",),
        )

    def member(self, role: Role, *, member_id: str = "", folder: str = "") -> Identity:
        member_id = member_id or secrets.token_hex(16)
        place = self.folder / (folder or f"{role}-{member_id[:6]}")
        return self.authority.issue_local(place, self.membership(role, member_id))[0]

    async def enrol(self, request: EnrolRequest) -> Enrolled:
        self.enrolled.append(request)
        member_id = secrets.token_hex(16)
        leaf = self.authority.issue_from_csr(request.role, member_id, request.csr_der)
        return Enrolled(leaf, self.membership(request.role, member_id, request.display_name))

    def desk(self, limits: PairingLimits = FAST, **more) -> PairingDesk:
        return PairingDesk(
            self.authority,
            self.coordinator,
            on_enrol=more.pop("on_enrol", self.enrol),
            on_listening=lambda port, slots: self.listening.append((port, slots)),
            on_attempt_failed=lambda *what: self.failures.append(what),
            hosts=["127.0.0.1"],
            limits=limits,
            **more,
        )


@asynccontextmanager
async def echo_server(context: ssl.SSLContext) -> AsyncIterator[tuple[int, list]]:
    """A TLS server that notes who came and echoes one line; nothing is noted of a refused handshake."""
    came: list = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("ssl_object")
        try:
            came.append(tls.principal_of(connection))
            writer.write(await reader.readline())
            await writer.drain()
        except Exception as error:
            came.append(error)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context, ssl_handshake_timeout=2)
    async with server:
        yield server.sockets[0].getsockname()[1], came


async def say(port: int, context: ssl.SSLContext, name: str = "x", line: bytes = b"hello\n") -> bytes:
    """Send one line and return the echo; raises whatever TLS or the network says."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        try:
            writer.write(line)
            await writer.drain()
            answer = await reader.readline()
            if not answer:
                raise ConnectionResetError("closed without an answer")
            return answer
        finally:
            writer.transport.abort()
