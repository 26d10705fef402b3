"""The way to the coordinator: identity, addresses, one kept TLS connection.

Addresses are tried in order, the last good one first; when none answers, the injected finder (mDNS) is
asked once. Who answers is decided by TLS alone. One request goes out at most once from here: repeating
is `calls`' business. Called by `calls`, `streams` and `input_line` only.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache

import aiohttp
from yarl import URL

from planetmesh import __version__
from planetmesh.client.failures import is_hang_up, lost_connection, nobody_answered
from planetmesh.errors import BadInput, MeshError, NotAllowed
from planetmesh.model.endpoint import parse_endpoint
from planetmesh.paths import Home
from planetmesh.trust.identity import Identity
from planetmesh.trust.tls import client_context, cut

CONNECT_SECONDS = 3.0
"""TCP and TLS to one address: long for a LAN, short enough to try the next one."""
ANSWER_SECONDS = 30.0
"""To the first byte of an ordinary answer, beyond what a long poll asked for."""
FIND_SECONDS = 4.0
"""A coordinator answers mDNS within a second; the finder itself may give up earlier."""
CONNECTIONS_MOST = 16
"""A few streams and one for questions; the coordinator allows a certificate not many more."""
KEEP_ALIVE_SECONDS = 60.0
"""The coordinator keeps idle connections a little longer, so that we close first."""
CLOSING_SECONDS = 0.2
"""TLS says goodbye in one round trip; a loop that ends before that complains."""
CLOSING_STEP_SECONDS = 0.001
SOCKET_MOST_BYTES = 64 * 1024
"""Of one message on a WebSocket."""

Finder = Callable[[str], Awaitable[Sequence[str]]]
"""Takes a mesh id, gives `HOST:PORT` texts of coordinators that say they belong to it."""


@dataclass(frozen=True)
class Call:
    """One request, as the API knows it."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    repeatable: bool = True
    """Doing it twice is the same as doing it once."""
    wait_seconds: float = 0.0
    """How long the coordinator may take on purpose (long poll, many files to be written)."""
    headers: dict[str, str] = field(default_factory=dict)
    stream: Callable[[], AsyncIterator[bytes]] | None = None
    """In place of `body`: makes a long one anew for each try. `headers` say how long it is."""


def load_identity(home: Home) -> Identity:
    """This user's operator or viewer identity; raise NotAllowed with the way to one."""
    if Identity.exists(home.operator):
        return Identity.load(home.operator)
    if Identity.exists(home.agent):
        raise NotAllowed(
            "This machine runs tasks for a mesh, but nobody here may give it orders yet.",
            hint="Get a code with `planetmesh code --role operator` there, then `planetmesh login` here.",
        )
    raise NotAllowed(
        f"There is no mesh in {home.root}.",
        hint="Start or join one with `planetmesh up`, or log in to one with `planetmesh login`.",
    )


class Link:
    """One identity's connection to its coordinator. Use from one event loop."""

    def __init__(self, identity: Identity, finder: Finder | None = None) -> None:
        self.identity = identity
        self.was_reached = False
        """A coordinator answered at least once: silence now is a restart rather than a wrong address."""
        self._finder = finder
        self._endpoints = list(identity.membership.endpoints)
        self._session: aiohttp.ClientSession | None = None
        self._sockets: list[socket.socket] = []

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        await session.close()
        if not await self._all_closed():
            # Nobody answers our goodbye. A loop that ends over an open socket leaves it to the next one.
            for each in self._open_sockets():
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            await self._all_closed()

    async def _all_closed(self) -> bool:
        """Whether every socket was closed within CLOSING_SECONDS."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_SECONDS):
                while self._open_sockets():  # noqa: ASYNC110  the loop tells nobody when a socket is closed
                    await asyncio.sleep(CLOSING_STEP_SECONDS)
        return not self._open_sockets()

    async def take_newer_certificate(self) -> bool:
        """Go on with the certificate on disk, if another process of this user has renewed it meanwhile."""
        newer = Identity.load(self.identity.folder)
        if newer.principal.serial == self.identity.principal.serial:
            return False
        self.identity = newer
        await self.close()
        return True

    @asynccontextmanager
    async def send(
        self, call: Call, *, read_seconds: float = ANSWER_SECONDS
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer's head; its body is the caller's to read. Raises Unreachable and NotAllowed."""
        response = await self._send_to_any(call, call.wait_seconds + read_seconds)
        try:
            yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise lost_connection(error) from error
        finally:
            if not response.content.at_eof():
                _cut_off(response)

    async def open_socket(self, path: str) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket at the address that answered last; raises OSError, TimeoutError, ClientError."""
        async with asyncio.timeout(CONNECT_SECONDS):
            return await self._open().ws_connect(
                _base_url(self._endpoints[0]).with_path(path),
                max_msg_size=SOCKET_MOST_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSING_SECONDS),
            )

    async def _send_to_any(self, call: Call, read_seconds: float) -> aiohttp.ClientResponse:
        failures: dict[str, Exception] = {}
        for endpoint in tuple(self._endpoints):
            response = await self._try(endpoint, call, read_seconds, failures)
            if response is not None:
                return response
        for endpoint in await self._find(known=failures):
            response = await self._try(endpoint, call, read_seconds, failures)
            if response is not None:
                return response
        raise nobody_answered(self.identity.membership.mesh_name, failures, was_reached=self.was_reached)

    async def _try(
        self, endpoint: str, call: Call, read_seconds: float, failures: dict[str, Exception]
    ) -> aiohttp.ClientResponse | None:
        """The answer, or nothing if this address leads nowhere."""
        try:
            response = await self._request(endpoint, call, read_seconds)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, BadInput) as error:
            failures[endpoint] = error
            return None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if self.was_reached or not call.repeatable or not is_hang_up(error):
                raise lost_connection(error) from error
            failures[endpoint] = error
            return None
        self._reached(endpoint)
        return response

    async def _request(self, endpoint: str, call: Call, read_seconds: float) -> aiohttp.ClientResponse:
        # A name in the path was quoted by who made it: it must not be quoted again.
        url = _base_url(endpoint).with_path(call.path, encoded=True)
        if call.query:
            url = url.with_query(call.query)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=read_seconds)
        headers = {"Content-Type": "application/json"} if call.body is not None else {}
        data = call.body if call.stream is None else call.stream()
        return await self._open().request(
            call.method, url, data=data, headers=headers | call.headers, timeout=timeout
        )

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                ssl=client_context(self.identity),
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                limit=CONNECTIONS_MOST,
                socket_factory=self._new_socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"planetmesh/{__version__}", "Accept-Encoding": "identity"},
                trust_env=False,
            )
        return self._session

    def _new_socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        self._sockets = self._open_sockets()
        made = socket.socket(*address[:3])
        self._sockets.append(made)
        return made

    def _open_sockets(self) -> list[socket.socket]:
        return [each for each in self._sockets if each.fileno() != -1]

    def _reached(self, endpoint: str) -> None:
        self.was_reached = True
        if self._endpoints[:1] == [endpoint]:
            return
        self._endpoints = [endpoint, *(each for each in self._endpoints if each != endpoint)]
        self.identity.remember_endpoint(endpoint)

    async def _find(self, known: dict[str, Exception]) -> list[str]:
        if self._finder is None:
            return []
        try:
            async with asyncio.timeout(FIND_SECONDS):
                found = await self._finder(self.identity.membership.mesh_id)
        except (TimeoutError, OSError, MeshError) as error:
            known["mDNS"] = error
            return []
        return [endpoint for endpoint in found if endpoint not in known]


@lru_cache(maxsize=64)
def _base_url(endpoint: str) -> URL:
    """Raises BadInput for what is no address."""
    host, port = parse_endpoint(endpoint)
    return URL.build(scheme="https", host=host, port=port)


def _cut_off(response: aiohttp.ClientResponse) -> None:
    """Leave an answer unread: without a goodbye, since more of it may come for ever."""
    if response.connection is not None:
        cut(response.connection.transport)
    response.close()
