"""One browser tab in front of the dashboard: its own app, from the tab's coming until one of both leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import IntEnum

import msgspec
from aiohttp import WSMsgType, web

from planetmesh.dashboard.app import Dashboard
from planetmesh.dashboard.web.driver import BrowserDriver, Line, driver_on
from planetmesh.groups import TaskGroup

LEAVE_SECONDS = 10.0
"""For an app to end by itself when its tab is gone."""
CLOSE_SECONDS = 2.0
"""For a browser to answer a goodbye."""
COLUMNS, ROWS = (20, 500), (5, 300)
"""Least and most."""
USUAL_SIZE = (80, 24)

OpenApp = Callable[[type[BrowserDriver]], Dashboard]
"""Makes one dashboard that draws with this driver."""


class End(IntEnum):
    """Why a session ended, as the page is told."""

    STOPPED = 1001
    NONSENSE = 1008
    LEFT = 4000
    FULL = 4001
    MISTAKE = 4002


class Resized(msgspec.Struct, forbid_unknown_fields=True):
    """The only text that a page sends: how large its terminal is now."""

    columns: int
    rows: int

    @property
    def size(self) -> tuple[int, int]:
        """Within bounds: a screen of a million lines would be drawn otherwise."""
        return _within(self.columns, COLUMNS), _within(self.rows, ROWS)


def size_asked(columns: str, rows: str) -> tuple[int, int]:
    """What stands in the address of a session, or the usual size."""
    if not (columns.isdecimal() and rows.isdecimal() and len(columns + rows) < 12):
        return USUAL_SIZE
    return Resized(int(columns), int(rows)).size


def _within(value: int, bounds: tuple[int, int]) -> int:
    return min(max(value, bounds[0]), bounds[1])


class Session:
    """One WebSocket and one app. `run` returns when both have ended, and nothing of either is left."""

    def __init__(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport, open_app: OpenApp
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._line = Line()
        self._line.on_full = transport.abort
        self._app = open_app(driver_on(self._line))

    async def run(self, size: tuple[int, int]) -> BaseException | None:
        """Gives a mistake of ours that ended the app."""
        async with TaskGroup() as group:
            running = group.create_task(self._run_app(size))
            group.create_task(self._send())
            await self._receive()
            if not running.done():
                self._app.exit()
                await asyncio.wait({running}, timeout=LEAVE_SECONDS)
            running.cancel()
        return self._app.crash

    async def stop(self) -> None:
        """The server ends."""
        await self._close(End.STOPPED)

    async def _run_app(self, size: tuple[int, int]) -> None:
        try:
            await self._app.run_async(size=size)
        finally:
            self._line.close()
            self._app.watcher.stop()
        await self._close(End.MISTAKE if self._app.crash is not None else End.LEFT)

    async def _send(self) -> None:
        while drawn := await self._line.take():
            try:
                await self._socket.send_bytes(drawn)
            except ConnectionError:
                return  # the receiving end notices too

    async def _receive(self) -> None:
        """Until the browser leaves or talks nonsense, or the app ends."""
        async for message in self._socket:
            driver = self._line.driver
            if message.type is WSMsgType.BINARY and driver is not None:
                try:
                    driver.feed(message.data)
                except Exception as error:
                    self._app.crash = error
                    await self._close(End.MISTAKE)
            elif message.type is WSMsgType.TEXT:
                try:
                    resized = msgspec.json.decode(message.data, type=Resized)
                except (msgspec.DecodeError, ValueError):
                    await self._close(End.NONSENSE)
                    continue
                if driver is not None:
                    driver.resize(*resized.size)

    async def _close(self, end: End) -> None:
        await farewell(self._socket, self._transport, end)


async def farewell(socket: web.WebSocketResponse, transport: asyncio.Transport, end: End) -> None:
    """Say goodbye; hang up if that is not answered."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await socket.close(code=end)
    except TimeoutError:
        transport.abort()


__all__ = ["End", "OpenApp", "Session", "farewell", "size_asked"]
