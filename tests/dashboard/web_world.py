"""A browser's side of `dashboard --web` without the browser: its requests, and what is drawn for it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
from watch_world import PATIENCE_SECONDS, World, watcher_of

from planetmesh.cli.draft_order import order_of
from planetmesh.dashboard.app import Dashboard
from planetmesh.dashboard.web.door import PROTOCOL
from planetmesh.dashboard.web.driver import BrowserDriver
from planetmesh.dashboard.web.server import Serving, serving
from planetmesh.model.identity import Role

SEQUENCE = re.compile(r"\x1b\[[0-9;?<>$]*[A-Za-z]")
"""Where to draw, and how; what is left is what is drawn."""


async def until(true: Callable[[], object]) -> None:
    """Wait for something that will become so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not true():  # noqa: ASYNC110  apps do not tell
            await asyncio.sleep(0.02)


class Tab:
    """One open session."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.drawn = ""
        """Since the last look."""

    async def sees(self, *texts: str) -> None:
        """Wait until all of these have been drawn since the last look."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not all(text in SEQUENCE.sub("", self.drawn) for text in texts):
                    message = await self.socket.receive()
                    assert message.type is aiohttp.WSMsgType.BINARY, (message, self.socket.close_code)
                    self.drawn += message.data.decode()
        except TimeoutError:
            raise AssertionError(f"not drawn: {texts}\n{SEQUENCE.sub('', self.drawn)}") from None
        self.drawn = ""

    async def press(self, keys: str) -> None:
        await self.socket.send_bytes(keys.encode())

    async def resize(self, columns: int, rows: int) -> None:
        await self.socket.send_str(json.dumps({"columns": columns, "rows": rows}))

    async def ends(self) -> int | None:
        """Wait until the server has ended it; how."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for _message in self.socket:
                pass
        return self.socket.close_code


class Web:
    """The server, and who asks it."""

    def __init__(self, serving: Serving, session: aiohttp.ClientSession) -> None:
        self.serving = serving
        self.session = session
        self.apps: list[Dashboard] = []
        self.crashes: list[BaseException] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.serving.port}"

    async def open(
        self,
        token: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        protocols: tuple[str, ...] | None = None,
        query: str = "?columns=100&rows=30",
    ) -> Tab:
        """As the page does, if nothing else is said. Raises aiohttp's WSServerHandshakeError if refused."""
        if protocols is None:
            protocols = (PROTOCOL, self.serving.token if token is None else token)
        socket = await self.session.ws_connect(
            f"{self.address}/session{query}",
            protocols=protocols,
            headers={"Origin": self.address} if headers is None else headers,
            timeout=aiohttp.ClientWSTimeout(ws_close=5.0),
        )
        return Tab(socket)

    async def refusal(self, *, token: str | None = None, **options) -> int:
        """The status with which a session is refused."""
        try:
            tab = await self.open(token, **options)
        except aiohttp.WSServerHandshakeError as error:
            return error.status
        raise AssertionError(f"let in: {await tab.socket.receive()}")


@asynccontextmanager
async def web_of(world: World, *, role: Role = Role.OPERATOR, port: int = 0) -> AsyncIterator[Web]:
    """The dashboard of this world, served."""
    watchers = [await watcher_of(world, role) for _ in range(12)]

    def open_app(driver: type[BrowserDriver]) -> Dashboard:
        app = Dashboard(watchers.pop(), order_of, driver=driver)
        web.apps.append(app)
        return app

    def on_crash(error: BaseException) -> None:
        web.crashes.append(error)

    async with aiohttp.ClientSession() as session:
        async with serving(open_app, port=port, on_crash=on_crash) as served:
            web = Web(served, session)
            yield web
        assert all(not app.is_running for app in web.apps)
