"""`planetmesh dashboard`: the mesh on this terminal, to look at and to act on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from planetmesh.cli.face import Face
from planetmesh.errors import BadInput

if TYPE_CHECKING:
    from planetmesh.client.async_client import AsyncMesh

_EXAMPLES = """
\b
Examples:
  planetmesh dashboard
  planetmesh dashboard --light

Keys: ? shows all of them, q leaves; the mesh goes on. Viewers see the same and may not act.
"""


@click.command(epilog=_EXAMPLES)
@click.option("--light", is_flag=True, help="Dark letters on a light ground (T turns it later).")
@click.pass_obj
def dashboard(face: Face, *, light: bool) -> int:
    """Nodes, jobs and tasks of the mesh as they change, with all that may be done about them."""
    if face.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput(
            "The dashboard needs a terminal.", hint="For programs: planetmesh status --json, or GET /v1/feed."
        )
    from planetmesh.cli.draft_order import order_of
    from planetmesh.client.connect import load_identity
    from planetmesh.dashboard.app import DARK, LIGHT, Dashboard
    from planetmesh.dashboard.feed import Watcher

    load_identity(face.home)  # said here in words if there is none

    def open_mesh() -> AsyncMesh:
        return face.mesh(patience_seconds=0.0, on_wait=None)

    app = Dashboard(Watcher(open_mesh), order_of, theme=LIGHT if light else DARK)
    app.run()
    if app.crash is not None:
        raise app.crash
    return 0
