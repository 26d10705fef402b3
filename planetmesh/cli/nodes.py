"""`planetmesh nodes`: the machines of the mesh."""

from __future__ import annotations

import click

from planetmesh.cli.face import Face
from planetmesh.cli.redraw import watch_option

_EXAMPLES = """
\b
Examples:
  planetmesh nodes
  planetmesh nodes --watch                    drawn in place, until Ctrl-C
  planetmesh nodes --json | jq '.[] | {name, state, running}'
"""


@click.command(epilog=_EXAMPLES)
@watch_option
@click.pass_obj
def nodes(face: Face, *, watch: bool) -> int:
    """List the machines of the mesh."""
    from planetmesh.cli.shapes import NODES

    if watch:
        from planetmesh.cli.redraw import Watched, table_of
        from planetmesh.cli.redraw import watch as keep_watching

        return keep_watching(face, Watched(lambda mesh: mesh.nodes(), table_of(NODES)))
    face.printer.rows(face.with_mesh(lambda mesh: mesh.nodes()), NODES)
    return 0
