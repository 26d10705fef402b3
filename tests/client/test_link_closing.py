"""Closing a link leaves no socket to its loop, also when the coordinator says no goodbye."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from api_double import shared_keys

from planetmesh.client.connect import Call, Link
from planetmesh.model.identity import Role
from planetmesh.trust.identity import Identity
from planetmesh.trust.tls import serve_context

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%s\r\n{}"
SILENT_FROM = {
    "the start": None,
    "an answer": ANSWER % b"",
    # We say goodbye here, and wait for theirs.
    "a last answer": ANSWER % b"Connection: close\r\n",
}
"""What the coordinator still said, by when it fell silent."""


@contextmanager
def mute_coordinator(answer: bytes | None) -> Iterator[tuple[str, threading.Event]]:
    """Answers one request, or does not even shake hands, and then nothing: its host has gone to sleep.

    The event: somebody has called.
    """
    context = serve_context(Identity.load(shared_keys() / Role.COORDINATOR.value))
    called, ends = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            # The client may cut us off while we still shake hands or write.
            with suppress(OSError, ssl.SSLError):
                plain, _ = listener.accept()
                called.set()
                if answer is None:
                    with plain:
                        ends.wait(30)
                    return
                with context.wrap_socket(plain, server_side=True) as stream:
                    stream.recv(65536)
                    stream.sendall(answer)
                    ends.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            host, port = listener.getsockname()
            yield f"{host}:{port}", called
        finally:
            ends.set()
            thread.join()


@pytest.mark.parametrize("loops", ["asyncio", "uvloop"])
@pytest.mark.parametrize("answer", SILENT_FROM.values(), ids=SILENT_FROM)
def test_a_coordinator_that_has_fallen_silent_keeps_no_socket_open(loops: str, answer: bytes | None):
    factory = asyncio.new_event_loop if loops == "asyncio" else pytest.importorskip("uvloop").new_event_loop
    with mute_coordinator(answer) as (endpoint, called):
        identity = Identity.load(shared_keys() / Role.OPERATOR.value)
        identity.remember_endpoint(endpoint)
        link = Link(Identity.load(identity.folder))

        async def ask() -> None:
            async with link.send(Call("GET", "/v1/status")) as response:
                assert response.status == 200
                await response.read()

        async def ask_and_close() -> list[socket.socket]:
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(ask())
                if answer:
                    await asking
                async with asyncio.timeout(30):
                    while not (called.is_set() and link._open_sockets()):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                sockets = link._open_sockets()
                asking.cancel()
            await link.close()
            return sockets

        with asyncio.Runner(loop_factory=factory) as runner:
            sockets = runner.run(ask_and_close())
        assert sockets
        assert all(each.fileno() == -1 for each in sockets)
