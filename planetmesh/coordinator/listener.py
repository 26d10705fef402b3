"""The one TLS port: bound first of all, served when everything behind it stands."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from contextlib import AsyncExitStack

from aiohttp import web

from planetmesh.coordinator.api.guard import guarded, new_runner
from planetmesh.errors import BadInput, Conflict
from planetmesh.trust.tls import HANDSHAKE_SECONDS

BACKLOG = 512
"""Connections waiting for accept: a whole mesh comes back at once after a restart."""


def bind_port(addresses: tuple[str, ...], port: int) -> list[socket.socket]:
    """Sockets on `port` (0: any free one) of each address; raise Conflict if it is taken."""
    found: list[socket.socket] = []
    try:
        for address in addresses or _everywhere():
            port = _bind(found, address, port)
    except OSError as error:
        for each in found:
            each.close()
        raise _explained(error, addresses, port) from error
    return found


def _everywhere() -> tuple[str, ...]:
    return ("0.0.0.0", "::") if socket.has_dualstack_ipv6() else ("0.0.0.0",)  # noqa: S104  a LAN service


def _bind(found: list[socket.socket], address: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    each = socket.create_server((address, port), family=family, backlog=BACKLOG)
    each.setblocking(False)
    found.append(each)
    return int(each.getsockname()[1])


def _explained(error: OSError, addresses: tuple[str, ...], port: int) -> Exception:
    if error.errno == errno.EADDRNOTAVAIL:
        return BadInput(
            f"This machine has none of the addresses {', '.join(addresses)}.",
            hint="`planetmesh doctor` lists its addresses.",
        )
    return Conflict(
        f"Port {port} cannot be opened: {error.strerror or error}.",
        hint=f"Another program uses it, or another planetmesh. Choose another: --port {port + 10}",
    )


async def serve(
    app: web.Application, context: ssl.SSLContext, sockets: list[socket.socket], stack: AsyncExitStack
) -> None:
    """Serve the app on the bound sockets until the stack unwinds.

    aiohttp's own sites cannot bound the time of a handshake, so the loop makes the servers.
    """
    runner = new_runner(app)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    protocols = guarded(runner)
    loop = asyncio.get_running_loop()
    for each in sockets:
        server = await loop.create_server(
            protocols,
            sock=each,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
        )
        stack.callback(server.close)
