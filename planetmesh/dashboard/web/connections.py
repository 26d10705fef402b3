"""Connections that are no session: few, and none for long. Whoever is on this machine can open them.

aiohttp has no timer before the first request and none for slow headers, so each connection has one here, from
its first moment until it has become a session. Files come within it, or on a new connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

CONNECTION_SECONDS = 20.0
"""Longer than the page and its 400 kB take on a slow ssh connection."""
CONNECTIONS_MOST = 64
SHUTDOWN_SECONDS = 2.0
HEADER_MOST_BYTES = 8190
HEADERS_MOST = 64
_OPTIONS: dict[str, Any] = {
    "access_log": None,
    "lingering_time": 0.0,
    "max_line_size": HEADER_MOST_BYTES,
    "max_field_size": HEADER_MOST_BYTES,
    "max_headers": HEADERS_MOST,
    "auto_decompress": False,
}


class Connections:
    """Those that are open and no session yet, each with its timer."""

    def __init__(self, *, seconds: float = CONNECTION_SECONDS, most: int = CONNECTIONS_MOST) -> None:
        self._seconds = seconds
        self._most = most
        self._timers: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def add(self, transport: asyncio.Transport) -> None:
        if len(self._timers) >= self._most:
            transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._timers[transport] = loop.call_later(self._seconds, transport.abort)

    def let_go(self, transport: asyncio.Transport) -> None:
        """It has become a session, or has ended."""
        timer = self._timers.pop(transport, None)
        if timer is not None:
            timer.cancel()


def new_runner(app: web.Application) -> web.AppRunner:
    return web.AppRunner(app, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS, **_OPTIONS)


def guarded(runner: web.AppRunner, connections: Connections) -> Callable[[], asyncio.Protocol]:
    """The protocol factory for `loop.create_server`. `runner` is set up already."""
    server: Any = runner.server
    if server is None:
        raise RuntimeError("The runner must be set up before it can serve.")

    def make() -> asyncio.Protocol:
        return _Handler(server, connections, loop=asyncio.get_running_loop(), **_OPTIONS)

    return make


class _Handler(RequestHandler):
    """aiohttp's handler of one connection, counted and timed."""

    __slots__ = ("_connection", "_connections")

    def __init__(self, server: Any, connections: Connections, **options: Any) -> None:
        super().__init__(server, **options)
        self._connections = connections
        self._connection: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection = cast(asyncio.Transport, transport)
        super().connection_made(transport)
        self._connections.add(self._connection)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._connection is not None:
            self._connections.let_go(self._connection)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002  told to nobody
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """What cannot be parsed as HTTP; the library's own page would tell more than anybody needs."""
        if request.writer.output_size > 0:
            raise ConnectionError("The answer had begun already.")
        response = web.Response(text="Refused.\n", status=status)
        response.force_close()
        return response
