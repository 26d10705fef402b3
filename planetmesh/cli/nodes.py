"""`planetmesh nodes`: the machines of the mesh."""

from __future__ import annotations

import click

from planetmesh.cli.face import Face

_EXAMPLES = """
\b
Examples:
  planetmesh nodes
  planetmesh nodes --json | jq '.[] | {name, state, running}'
"""


@click.command(epilog=_EXAMPLES)
@click.pass_obj
def nodes(face: Face) -> None:
    """List the machines of the mesh."""
    from planetmesh.cli.shapes import NODES

    face.printer.rows(face.with_mesh(lambda mesh: mesh.nodes()), NODES)
