"""The sockets of the pairing listener: bind, accept within limits, hand over TLS streams.

Connections are accepted by hand, so that the limits count from the first packet and not only after a
TLS handshake. What is said on a stream is `pairing_server`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from planetmesh.errors import Conflict
from planetmesh.trust.pairing import FRAME_MOST_BYTES
from planetmesh.trust.tls import HANDSHAKE_SECONDS, cut
from planetmesh.trust.windows import PairingLimits

logger = logging.getLogger(__name__)

BACKLOG = 32
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  LAN appliance: --bind narrows it
RANDOM_PORT_TRIES = 16
PORT_LARGEST = 65535
PAUSE_SECONDS = 1.0
"""After the system refused to accept (no file handles left, mostly)."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]
"""Called with a stream and the other side's address, once TLS stands."""
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class PairingListener:
    """Listens from construction to `close`; its tasks belong to whoever gave `spawn`."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        context: ssl.SSLContext,
        serve: Serve,
        limits: PairingLimits,
        spawn: Spawn,
    ) -> None:
        self._sockets = tuple(sockets)
        self._context = context
        self._serve = serve
        self._limits = limits
        self._spawn = spawn
        self._connected: Counter[str] = Counter()
        self._accepting = [spawn(self._accept(each)) for each in self._sockets]
        for task, listening in zip(self._accepting, self._sockets, strict=True):
            # Only then: the loop must have let go of a handle before its number is given out again.
            task.add_done_callback(partial(_close, listening))

    @property
    def port(self) -> int:
        port: int = self._sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Stop listening; exchanges under way come to their own end."""
        for task in self._accepting:
            task.cancel()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as error:
                logger.warning("pairing.cannot_accept", extra={"reason": str(error)})
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            peer = str(address[0])
            if self._is_full(peer):
                accepted.close()
                continue
            self._connected[peer] += 1
            self._spawn(self._attend(accepted, peer))

    def _is_full(self, peer: str) -> bool:
        limits = self._limits
        return (
            self._connected.total() >= limits.sockets_most
            or self._connected[peer] >= limits.sockets_each_most
        )

    async def _attend(self, accepted: socket.socket, peer: str) -> None:
        """One connection from accept to close, within the time that it may take in all."""
        try:
            async with asyncio.timeout(self._limits.exchange_seconds):
                await self._attend_tls(accepted, peer)
        except (OSError, TimeoutError) as error:
            logger.debug(
                "pairing.connection_ended", extra={"address": peer, "reason": str(error) or "too slow"}
            )
        finally:
            self._connected[peer] -= 1
            if not self._connected[peer]:
                del self._connected[peer]

    async def _attend_tls(self, accepted: socket.socket, peer: str) -> None:
        loop = asyncio.get_running_loop()
        accepted.setblocking(False)
        reader = asyncio.StreamReader(limit=FRAME_MOST_BYTES)
        # Made here, because uvloop returns its own TLS layer as the protocol.
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            accepted,
            ssl=self._context,
            ssl_handshake_timeout=min(HANDSHAKE_SECONDS, self._limits.exchange_seconds),
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await self._serve(reader, writer, peer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        finally:
            cut(transport)


def _close(listening: socket.socket, _: asyncio.Task[None]) -> None:
    listening.close()


def bind_listeners(hosts: Sequence[str], preferred_port: int) -> list[socket.socket]:
    """Bind one port on all hosts: the preferred one, else any; raise Conflict if there is no such port."""
    first = preferred_port if preferred_port <= PORT_LARGEST else 0
    for port in (first, *[0] * RANDOM_PORT_TRIES):
        bound = _bind_all(hosts or EVERYWHERE, port)
        if bound:
            return bound
    raise Conflict(
        "No port for pairing could be opened.", hint="Check --bind and the addresses of this machine."
    )


def _bind_all(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """Sockets on every host, or none; a system without IPv6 does without it."""
    bound: list[socket.socket] = []
    for host in hosts:
        try:
            bound.append(_bind(host, port))
        except OSError as error:
            if error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL} and host == "::":
                continue
            for each in bound:
                each.close()
            return []
        port = bound[0].getsockname()[1]
    return bound


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if sys.platform == "win32":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            # Connections of the last pairing that linger must not drive us from the port people expect.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
