"""The dashboard's web server, on 127.0.0.1 alone: a page for anybody, sessions for the token's holder."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import web
from aiohttp.typedefs import Handler

from planetmesh.dashboard.web.connections import Connections, guarded, new_runner
from planetmesh.dashboard.web.door import PROTOCOL, Door
from planetmesh.dashboard.web.session import End, OpenApp, Session, farewell, size_asked
from planetmesh.errors import Conflict
from planetmesh.groups import TaskGroup

LOOPBACK = "127.0.0.1"
BACKLOG = 32
SESSIONS_MOST = 8
"""Each is a dashboard of its own, with a connection to the coordinator."""
HEARTBEAT_SECONDS = 15.0
"""A browser that does not answer for so long is gone: a laptop asleep, an ssh connection cut."""
MESSAGE_MOST_BYTES = 256 * 1024
"""What is pasted comes as one message."""
REFUSAL = "Not served to you. Open the address that `planetmesh dashboard --web` printed.\n"
TYPES = {".html": "text/html", ".css": "text/css", ".mjs": "text/javascript"}
HEADERS = {
    "Server": "planetmesh",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
POLICY = (
    # xterm.js makes style elements for its colours; nothing here makes HTML of anybody's text.
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; "
    "connect-src 'self' ws://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

OnCrash = Callable[[BaseException], object]


@dataclass(frozen=True)
class Serving:
    """What is served where. The address holds the token: to be shown to this user only."""

    port: int
    token: str

    @property
    def url(self) -> str:
        """The token stands behind the #, which browsers keep to themselves."""
        return f"http://{LOOPBACK}:{self.port}/#{self.token}"


@asynccontextmanager
async def serving(open_app: OpenApp, *, port: int = 0, on_crash: OnCrash) -> AsyncIterator[Serving]:
    """Serve dashboards until the block ends; then no session is left.

    `port` 0 is any free one; raises Conflict if it cannot be had. `on_crash` is told of a session that
    ended by a mistake of ours, with stdout and stderr as they were outside.
    """
    listening = _bind(port)
    server = _Server(open_app, on_crash)
    runner = new_runner(server.application())
    await runner.setup()
    accepting = await asyncio.get_running_loop().create_server(
        guarded(runner, server.connections), sock=listening
    )
    try:
        yield Serving(listening.getsockname()[1], server.door.token)
    finally:
        accepting.close()
        await server.stop()
        await runner.cleanup()


def _bind(port: int) -> socket.socket:
    try:
        return socket.create_server((LOOPBACK, port), backlog=BACKLOG)
    except OSError as error:
        raise Conflict(
            f"Port {port} cannot be opened: {os.strerror(error.errno) if error.errno else error}.",
            hint="Without --web-port a free one is taken.",
        ) from error


class _Server:
    def __init__(self, open_app: OpenApp, on_crash: OnCrash) -> None:
        self.door = Door()
        self.connections = Connections()
        self._open_app = open_app
        self._on_crash = on_crash
        self._files = _page()
        self._sessions: set[Session] = set()
        self._all_ended = asyncio.Event()
        self._all_ended.set()
        self._is_stopping = False
        self._streams = sys.stdout, sys.stderr

    def application(self) -> web.Application:
        application = web.Application(middlewares=[self._keep_the_door])
        application.router.add_get("/session", self._session, allow_head=False)
        application.router.add_get("/{name:[a-z0-9.-]*}", self._file, allow_head=False)
        return application

    async def stop(self) -> None:
        """Say goodbye to all, and wait until they are gone."""
        self._is_stopping = True
        async with TaskGroup() as group:
            for session in self._sessions:
                group.create_task(session.stop())
        await self._all_ended.wait()

    @web.middleware
    async def _keep_the_door(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        host = LOOPBACK
        try:
            if not self.door.lets_look(request.headers):
                raise web.HTTPForbidden
            host = request.headers["Host"]
            response = await handler(request)
        except web.HTTPException as error:
            response = web.Response(text=REFUSAL, status=error.status)
            response.force_close()
        if not response.prepared:
            response.headers.update(HEADERS)
            response.headers["Content-Security-Policy"] = POLICY.format(host=host)
        return response

    async def _file(self, request: web.Request) -> web.StreamResponse:
        """The page and its files; the same bytes for everybody."""
        found = self._files.get(request.match_info["name"] or "index.html")
        if found is None:
            raise web.HTTPNotFound
        body, kind = found
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def _session(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        if transport is None or not self.door.lets_in(request.headers):
            raise web.HTTPForbidden
        webs = web.WebSocketResponse(
            protocols=(PROTOCOL,),
            heartbeat=HEARTBEAT_SECONDS,
            compress=False,
            max_msg_size=MESSAGE_MOST_BYTES,
        )
        webs.headers.update(HEADERS)
        if self._is_stopping or not webs.can_prepare(request):
            raise web.HTTPForbidden
        await webs.prepare(request)
        self.connections.let_go(transport)
        if len(self._sessions) >= SESSIONS_MOST:
            await farewell(webs, transport, End.FULL)
            return webs
        await self._keep(
            Session(webs, transport, self._open_app),
            size_asked(request.query.get("columns", ""), request.query.get("rows", "")),
        )
        return webs

    async def _keep(self, session: Session, size: tuple[int, int]) -> None:
        """One session to its end."""
        self._sessions.add(session)
        self._all_ended.clear()
        crash: BaseException | None = None
        try:
            crash = await session.run(size)
        except Exception as error:
            crash = error
        finally:
            self._sessions.discard(session)
            if not self._sessions:
                # Each app redirects them while it runs, and they do not end in the order of their begin.
                sys.stdout, sys.stderr = self._streams
                self._all_ended.set()
        if crash is not None:
            with redirect_stdout(self._streams[0]), redirect_stderr(self._streams[1]):
                self._on_crash(crash)


def _page() -> dict[str, tuple[bytes, str]]:
    """Each file's bytes and type, by its name."""
    folder = files("planetmesh.dashboard.web").joinpath("page")
    return {
        each.name: (each.read_bytes(), kind)
        for each in folder.iterdir()
        for suffix, kind in TYPES.items()
        if each.name.endswith(suffix)
    }
