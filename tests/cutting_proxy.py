"""Stands between a program and a port, and breaks connections off at any byte that a test names.

async with CuttingProxy(port) as proxy:
    proxy.cuts = [("up", 1000), ("down", 0)]    # for the next two connections
    ... connect to proxy.port ...
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

PIECE_BYTES = 65536
UP, DOWN = "up", "down"


class CuttingProxy:
    """On loopback, in the test's own loop."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self.port = 0
        self.cuts: list[tuple[str, int]] = []
        """Each new connection takes the first: which way, after how many bytes both sides are cut off."""
        self.done = 0
        """Cuts that came to be."""
        self._writers: dict[asyncio.StreamWriter, None] = {}
        """Of both sides, the oldest connection's first."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        self.drop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def drop(self, *, but_first: int = 0) -> None:
        """Cut off all connections there are, but for the oldest ones."""
        for writer in list(self._writers)[2 * but_first :]:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        way, after = self.cuts.pop(0) if self.cuts else ("", 0)
        try:
            behind_reader, behind = await asyncio.open_connection("127.0.0.1", self._behind)
        except OSError:
            writer.transport.abort()
            return
        both = (writer, behind)
        self._writers.update(dict.fromkeys(both))
        try:
            await asyncio.gather(
                self._pass(reader, behind, both, after if way == UP else None),
                self._pass(behind_reader, writer, both, after if way == DOWN else None),
            )
        finally:
            for each in both:
                each.transport.abort()
                self._writers.pop(each, None)

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        both: tuple[asyncio.StreamWriter, ...],
        left: int | None,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(PIECE_BYTES):
                if left is not None and left < len(data):
                    writer.write(data[:left])
                    await writer.drain()
                    self.done += 1
                    for each in both:
                        each.close() if left % 2 else each.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
                left = None if left is None else left - len(data)
        for each in both:
            each.close()
