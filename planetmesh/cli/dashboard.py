"""`planetmesh dashboard`: the mesh on this terminal or in a browser, to look at and to act on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from planetmesh.cli.face import Face
from planetmesh.errors import BadInput

if TYPE_CHECKING:
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.dashboard.app import Dashboard
    from planetmesh.dashboard.web.driver import BrowserDriver

_EXAMPLES = """
\b
Examples:
  planetmesh dashboard
  planetmesh dashboard --light
  planetmesh dashboard --web                            in a browser
  planetmesh dashboard --web --web-port 8433 --no-open  for one elsewhere; there:
      ssh -L 8433:127.0.0.1:8433 THIS-MACHINE           then the address printed

Keys: ? shows all of them, q leaves; the mesh goes on. Viewers see the same and may not act.
"""


@click.command(epilog=_EXAMPLES)
@click.option("--light", is_flag=True, help="Dark letters on a light ground (T turns it later).")
@click.option(
    "--web", is_flag=True, help="Serve it to browsers on this machine; prints an address to keep secret."
)
@click.option(
    "--web-port", type=click.IntRange(0, 65535), metavar="N", help="On this port of 127.0.0.1. [a free one]"
)
@click.option("--no-open", is_flag=True, help="Start no browser.")
@click.pass_obj
def dashboard(face: Face, *, light: bool, web: bool, web_port: int | None, no_open: bool) -> int:
    """Nodes, jobs and tasks of the mesh as they change, with all that may be done about them."""
    if web:
        return _in_browsers(face, web_port or 0, light=light, may_open=not no_open)
    if no_open or web_port is not None:
        raise BadInput("--web-port and --no-open say how to serve browsers.", hint="Add --web.")
    if face.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput(
            "The dashboard needs a terminal.",
            hint="In a browser: --web. For programs: `planetmesh status --json`, or GET /v1/feed.",
        )
    from planetmesh.client.connect import load_identity

    load_identity(face.home)  # said here in words if there is none
    app = _make(face, light=light)
    app.run()
    if app.crash is not None:
        raise app.crash
    return 0


def _in_browsers(face: Face, port: int, *, light: bool, may_open: bool) -> int:
    # What this terminal can show says nothing about browsers; read when textual is imported.
    os.environ["TEXTUAL_COLOR_SYSTEM"] = "truecolor"
    from planetmesh.cli.dashboard_web import serve_web
    from planetmesh.client.connect import load_identity

    load_identity(face.home)

    def open_app(driver: type[BrowserDriver]) -> Dashboard:
        return _make(face, light=light, driver=driver)

    face.run(serve_web(face, open_app, port=port, may_open=may_open))
    return 0


def _make(face: Face, *, light: bool, driver: type[BrowserDriver] | None = None) -> Dashboard:
    from planetmesh.cli.draft_order import order_of
    from planetmesh.dashboard.app import DARK, LIGHT, Dashboard
    from planetmesh.dashboard.feed import Watcher
    from planetmesh.dashboard.sparing import SSH_LETTERS_A_SECOND, Allowance

    def open_mesh() -> AsyncMesh:
        return face.mesh(patience_seconds=0.0, on_wait=None)

    is_far = driver is None and any(os.environ.get(each) for each in ("SSH_CONNECTION", "SSH_TTY"))
    return Dashboard(
        Watcher(open_mesh),
        order_of,
        theme=LIGHT if light else DARK,
        driver=driver,
        allowance=Allowance(SSH_LETTERS_A_SECOND) if is_far else None,
        is_there=sys.stdin.isatty if driver is None else None,
    )
