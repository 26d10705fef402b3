"""The joining side of a pairing: from an address and a typed code to an identity on disk.

Side A of `pairing`. The code goes to one candidate only: once a desk has greeted us, no other address is
tried with it. After a wrong proof nothing more is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import platform
import secrets
import ssl
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import msgspec

from planetmesh.errors import Conflict, MeshError, PairingFailed, Unreachable
from planetmesh.model.identity import Role
from planetmesh.trust.codes import Code
from planetmesh.trust.frames import read_frame, write_frames
from planetmesh.trust.identity import (
    ENDPOINTS_MOST,
    Identity,
    fingerprint_of,
    is_issued_by,
    parse_principal,
    verify_leaf,
)
from planetmesh.trust.pairing import (
    FRAME_MOST_BYTES,
    NAME_MOST,
    NONCE_BYTES,
    Busy,
    Granted,
    JoinerExchange,
    Request,
    Welcome,
    decode,
)
from planetmesh.trust.renewal import make_csr
from planetmesh.trust.tls import HANDSHAKE_SECONDS, cut, pairing_client_context

CONNECT_SECONDS = 5.0
EXCHANGE_SECONDS = 15.0
"""Longer than the desk's own limit, so that it is the desk who ends a slow exchange."""
BUSY_PATIENCE_SECONDS = 30.0
"""How long to keep trying while the desk says that it is busy with others."""
CLOCK_FAR_OFF_SECONDS = 300.0

SERVER_NAME = "planetmesh"
"""Sent in the clear, so it says nothing; certificates here do not carry host names."""

_NEW_CODE = "Type it again, or make a new one with `planetmesh code` on the coordinator."


class _DeskBusyError(Exception):
    def __init__(self, retry_seconds: float) -> None:
        super().__init__()
        self.retry_seconds = retry_seconds


class _NoDeskError(Exception):
    """This port is not a pairing listener's, or the listener has no window for us."""

    def __init__(self, error: MeshError, rank: int) -> None:
        super().__init__()
        self.error = error
        self.rank = rank
        """The higher, the more it says about what is wrong."""


def candidate_ports(port: int) -> tuple[int, ...]:
    """Where the pairing listener may be if somebody gave us `port`: there, or next to the main port."""
    return (port, port + 1) if port < 65535 else (port,)


async def enroll(host: str, port: int, code: Code, *, role: Role, name: str, folder: Path) -> Identity:
    """Join the mesh whose coordinator pairs at this address; return the identity, already on disk.

    Raise Unreachable (nothing listens), PairingFailed (wrong code, closed window, somebody in between) or
    Conflict (this machine has an identity). `clock_offset_seconds` of the result is set if clocks differ.
    """
    if Identity.exists(folder):
        raise Conflict(
            f"{folder} already holds an identity.", hint="Give it up first with `planetmesh leave`."
        )
    joining = _Joining(code, role, name, folder)
    missed: list[_NoDeskError] = []
    for candidate in candidate_ports(port):
        try:
            return await joining.try_patiently(host, candidate)
        except _NoDeskError as error:
            missed.append(error)
    raise max(missed, key=lambda each: each.rank).error


class _Joining:
    """One typed code and what it is to be used for."""

    def __init__(self, code: Code, role: Role, name: str, folder: Path) -> None:
        self._code = code
        self._role = role
        self._name = name[:NAME_MOST]
        self._folder = folder

    async def try_patiently(self, host: str, port: int) -> Identity:
        """Try one port, again for a while if the desk there is busy."""
        until = time.monotonic() + BUSY_PATIENCE_SECONDS
        while True:
            try:
                async with asyncio.timeout(EXCHANGE_SECONDS):
                    return await self._try_once(host, port)
            except _DeskBusyError as busy:
                if time.monotonic() + busy.retry_seconds > until:
                    raise Unreachable(
                        "The coordinator is busy with other pairings.", hint="Try again in a minute."
                    ) from None
                # Spread: several machines that wait must not come back together.
                await asyncio.sleep(busy.retry_seconds * (1 + secrets.randbelow(500) / 1000))
            except TimeoutError:
                raise PairingFailed("The pairing took too long and was given up.", hint=_NEW_CODE) from None

    async def _try_once(self, host: str, port: int) -> Identity:
        reader, writer = await _connect(host, port)
        try:
            return await self._pair(reader, writer, host)
        finally:
            cut(writer.transport)

    async def _pair(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> Identity:
        shown = writer.get_extra_info("ssl_object").getpeercert(True)
        exchange = JoinerExchange(
            self._code, self._role, sha256(shown).digest(), secrets.token_bytes(NONCE_BYTES)
        )
        greeting = await _greet(reader, writer, exchange)
        await _prove(reader, writer, exchange, greeting)
        with _ends("The coordinator broke the pairing off after the code was accepted; its log says why."):
            welcome = exchange.welcome(await read_frame(reader))
            _check_coordinator(exchange, welcome, shown)
            key_pem, csr_der = make_csr()
            asked = Request(csr_der=csr_der, display_name=self._name, os=platform.system())
            await write_frames(writer, exchange.request(asked))
            granted = exchange.granted(await read_frame(reader))
        return self._keep(welcome, granted, key_pem, host)

    def _keep(self, welcome: Welcome, granted: Granted, key_pem: bytes, host: str) -> Identity:
        """Check that we were given what we asked for, then write it down."""
        said = verify_leaf(granted.cert_pem, welcome.ca_pem, key_pem)
        given = granted.membership
        expected = (welcome.mesh_id, self._role, given.id)
        if (said.mesh_id, said.role, said.id) != expected or (
            (given.mesh_id, given.role, given.coordinator_id)
            != (welcome.mesh_id, self._role, welcome.coordinator_id)
        ):
            raise PairingFailed("The coordinator gave a certificate that does not fit.", hint=_NEW_CODE)
        membership = msgspec.structs.replace(given, endpoints=_with_reached(given.endpoints, host))
        identity = Identity.save(self._folder, key_pem, granted.cert_pem, welcome.ca_pem, membership)
        offset = welcome.server_time - time.time()
        if abs(offset) > CLOCK_FAR_OFF_SECONDS:
            identity.clock_offset_seconds = offset
        return identity


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncio.open_connection(
                host,
                port,
                ssl=pairing_client_context(),
                server_hostname=SERVER_NAME,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                limit=FRAME_MOST_BYTES,
            )
    except (OSError, TimeoutError, ValueError) as error:  # ValueError: a host that no resolver takes
        unreachable = Unreachable(
            f"Nothing pairs at {host}:{port}.",
            hint="Check the address and the firewall, and run `planetmesh code` there again.",
        )
        raise _NoDeskError(unreachable, rank=0) from error


async def _greet(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, exchange: JoinerExchange
) -> bytes:
    """Say HELLO and return the desk's; find out here whether there is a desk at all."""
    try:
        await write_frames(writer, exchange.hello())
        greeting = await read_frame(reader)
    except ssl.SSLError as error:
        no_window = PairingFailed(
            "The coordinator answers there, but no pairing window is open next to it.",
            hint="Run `planetmesh code` on the coordinator and use the address that it shows.",
        )
        raise _NoDeskError(no_window, rank=1) from error
    except PairingFailed as error:
        foreign = PairingFailed(
            "What answers there does not pair as this program does.", hint="Check the address and the port."
        )
        raise _NoDeskError(foreign, rank=1) from error
    except (asyncio.IncompleteReadError, OSError) as error:
        closed = PairingFailed(
            "The coordinator has no open window for this code: it was used, has expired, or was closed.",
            hint=f"{_NEW_CODE} Use the address that it shows.",
        )
        raise _NoDeskError(closed, rank=2) from error
    with contextlib.suppress(PairingFailed):
        raise _DeskBusyError(decode(greeting, Busy).retry_seconds)
    return greeting


async def _prove(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, exchange: JoinerExchange, greeting: bytes
) -> None:
    """PAKE and both proofs. The mathematics takes milliseconds, on a small board a tenth of a second."""
    with _ends("What answers there does not pair as this program does, or is not the mesh of this code."):
        opening = await asyncio.to_thread(exchange.pake, greeting)
    with _ends("The window was closed meanwhile: too many wrong codes, or its time is over."):
        await write_frames(writer, opening)
        answer = await read_frame(reader)
    with _ends(
        "The code did not match. It was mistyped, is for another role, "
        "or another machine stands between here and the coordinator."
    ):
        await write_frames(writer, await asyncio.to_thread(exchange.confirm, answer))
        exchange.confirmed(await read_frame(reader))


@contextlib.contextmanager
def _ends(meaning: str) -> Iterator[None]:
    """Say what it means when the exchange ends here; the wire itself never tells."""
    try:
        yield
    except (PairingFailed, asyncio.IncompleteReadError, OSError) as error:
        if isinstance(error, TimeoutError):
            raise
        raise PairingFailed(meaning, hint=_NEW_CODE) from error


def _check_coordinator(exchange: JoinerExchange, welcome: Welcome, shown: bytes) -> None:
    """The CA is the one greeted with, and it vouches for the certificate that TLS showed."""
    foreign = PairingFailed("The coordinator does not belong to the mesh that it names.", hint=_NEW_CODE)
    if fingerprint_of(welcome.ca_pem) != exchange.authority.hex() or not is_issued_by(shown, welcome.ca_pem):
        raise foreign
    said = parse_principal(shown)
    if (said.mesh_id, said.role, said.id) != (welcome.mesh_id, Role.COORDINATOR, welcome.coordinator_id):
        raise foreign


def _with_reached(endpoints: tuple[str, ...], host: str) -> tuple[str, ...]:
    """Put the address that we reached first: of those that the coordinator knows it may not be one."""
    if not endpoints:
        return ()
    port = endpoints[0].rpartition(":")[2]
    reached = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return tuple(dict.fromkeys((reached, *endpoints)))[:ENDPOINTS_MOST]
