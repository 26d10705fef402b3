"""Connections before and between requests: who is it, is there room, does it keep us waiting.

aiohttp has no timer before the first request and none for slow headers, so each connection has a
watchdog here. `guarded` gives the protocol factory for `loop.create_server`; nothing of HTTP is read
from a peer whose TLS handshake did not prove a certificate of this mesh.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from planetmesh import __version__
from planetmesh.coordinator.access import Connection, Connections
from planetmesh.errors import BadInput, MeshError
from planetmesh.trust.tls import cut, principal_of
from planetmesh.wire.api import ApiError, ErrorAnswer
from planetmesh.wire.codec import to_json

log = logging.getLogger(__name__)

HEAD_SECONDS = 10.0
"""From the end of the handshake, or the first byte of a later request, to the end of its headers."""
IDLE_SECONDS = 75.0
"""Kept open between two requests; longer than clients keep theirs (60 s), so that they close first."""
LINGER_SECONDS = 2.0
"""For the rest of a body that nobody wanted."""
SHUTDOWN_SECONDS = 2.0
"""For answers under way when the coordinator ends."""
HEADER_MOST_BYTES = 8190
HEADERS_MOST = 64
SERVER = f"planetmesh/{__version__}"
"""In every answer, instead of the versions of what it is made with."""
CONNECTIONS = web.AppKey("connections", Connections)
"""Where the application keeps the register that its connections enter themselves in."""


_OPTIONS: dict[str, Any] = {
    "access_log": None,
    "keepalive_timeout": IDLE_SECONDS,
    "lingering_time": LINGER_SECONDS,
    "max_line_size": HEADER_MOST_BYTES,
    "max_field_size": HEADER_MOST_BYTES,
    "max_headers": HEADERS_MOST,
    # A compressed body is a bomb in a small parcel.
    "auto_decompress": False,
}


def new_runner(app: web.Application) -> web.AppRunner:
    """The application's runner; serve it by `guarded` alone. A handler ends when its caller is gone."""
    return web.AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS, **_OPTIONS)


def guarded(runner: web.AppRunner, *, head_seconds: float = HEAD_SECONDS) -> Callable[[], asyncio.Protocol]:
    """The protocol factory of the main port, for `loop.create_server`. `runner` is set up already."""
    server: Any = runner.server
    if server is None:
        raise RuntimeError("The runner must be set up before it can serve.")
    connections = runner.app[CONNECTIONS]

    def make() -> asyncio.Protocol:
        loop = asyncio.get_running_loop()
        return GuardedHandler(server, connections, head_seconds, loop=loop, **_OPTIONS)

    return make


class GuardedHandler(RequestHandler):
    """aiohttp's handler of one connection, with an identity and a watchdog."""

    __slots__ = ("_connections", "_head_handle", "_head_seconds", "_requests_seen", "connection")

    def __init__(self, server: Any, connections: Connections, head_seconds: float, **options: Any) -> None:
        super().__init__(server, **options)
        self._connections = connections
        self._head_seconds = head_seconds
        self._head_handle: asyncio.TimerHandle | None = None
        self._requests_seen = 0
        self.connection: Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # By behaviour only: uvloop's TLS transport is not a subclass.
        transport = cast(asyncio.Transport, transport)
        try:
            principal = principal_of(transport.get_extra_info("ssl_object"))
        except MeshError as error:
            log.warning("api.peer_refused", extra={"reason": error.message})
        else:
            connection = Connection(principal, transport)
            if self._connections.add(connection):
                self.connection = connection
        super().connection_made(transport)
        if self.connection is None:
            cut(transport)
        else:
            self._watch_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_watching()
        if self.connection is not None:
            self._connections.remove(self.connection)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.connection is None:
            return
        super().data_received(data)
        if self._request_count > self._requests_seen:
            self._requests_seen = self._request_count
            self._stop_watching()
        elif self._head_handle is None and self._between_requests:
            self._watch_head()

    @property
    def _between_requests(self) -> bool:
        return not self._messages and not self._request_in_progress and not self._upgraded

    def _watch_head(self) -> None:
        self._head_handle = self._loop.call_later(self._head_seconds, self._head_is_late)

    def _stop_watching(self) -> None:
        if self._head_handle is not None:
            self._head_handle.cancel()
            self._head_handle = None

    def _head_is_late(self) -> None:
        self._head_handle = None
        if self.connection is not None and self._between_requests:
            self.connection.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What cannot be parsed as HTTP; the library's own page would tell more than a peer needs."""
        log.info("api.not_http", extra={"reason": str(message or exc or status)[:200]})
        if request.writer.output_size > 0:
            raise ConnectionError("The answer had begun already.")
        error = ApiError(BadInput.code, "This is not a request that can be understood.")
        body = to_json(ErrorAnswer(error))
        response = web.Response(body=body, status=status, content_type="application/json")
        response.headers["Server"] = SERVER
        response.force_close()
        return response
