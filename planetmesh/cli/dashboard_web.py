"""`planetmesh dashboard --web`: the dashboard in a browser on this machine."""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from planetmesh.cli.face import Face
from planetmesh.cli.failure import show_crash
from planetmesh.cli.interrupt import Interruption
from planetmesh.dashboard.web.server import Serving, serving
from planetmesh.dashboard.web.session import OpenApp
from planetmesh.paths import Home, write_private

LEADING_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>planetmesh</title>
<meta http-equiv="refresh" content="0; url={url}">
<a href="{url}">The dashboard</a>
"""


async def serve_web(face: Face, open_app: OpenApp, *, port: int, may_open: bool) -> None:
    """Serve it until a signal comes. Raises Conflict if the port cannot be had."""
    with Interruption() as interruption:
        await interruption.interruptible(_serve(face, open_app, port, may_open=may_open))
        if interruption.signal_number:
            face.printer.note("Stopped; the mesh goes on.")


async def _serve(face: Face, open_app: OpenApp, port: int, *, may_open: bool) -> None:
    async with serving(open_app, port=port, on_crash=partial(show_crash, face=face)) as served:
        _say(face, served)
        if may_open and not face.json and has_desktop(sys.platform, os.environ.get):
            with _leading_page(face.home, served) as page:
                await asyncio.to_thread(webbrowser.open, page.as_uri())
                await asyncio.Event().wait()
        await asyncio.Event().wait()


def _say(face: Face, served: Serving) -> None:
    """Stdout is the only place where the token is told."""
    if face.json:
        face.printer.event({"url": served.url})
    else:
        print(served.url, flush=True)
    face.printer.note(
        "For browsers on this machine. Whoever has this address may do what you may: show it to nobody. "
        "Ctrl-C ends it."
    )


def has_desktop(platform: str, variable: Callable[[str], str | None]) -> bool:
    """Whether a browser would come up in front of who has typed the command."""
    if variable("SSH_CONNECTION") or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return platform in {"win32", "darwin"} or bool(variable("DISPLAY") or variable("WAYLAND_DISPLAY"))


@contextmanager
def _leading_page(home: Home, served: Serving) -> Iterator[Path]:
    """This user's own page that leads to the dashboard: what a browser is started with, all users see."""
    page = home.leading_page(served.port)
    write_private(page, LEADING_PAGE.format(url=served.url).encode())
    try:
        yield page
    finally:
        page.unlink(missing_ok=True)
