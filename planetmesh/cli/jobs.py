"""`planetmesh jobs`: the newest jobs."""

from __future__ import annotations

import click

from planetmesh.cli.face import Face
from planetmesh.cli.redraw import watch_option

_EXAMPLES = """
\b
Examples:
  planetmesh jobs
  planetmesh jobs --mine --limit 5
  planetmesh jobs --watch                     drawn in place, until Ctrl-C
  planetmesh jobs --json | jq '.[].status'
  planetmesh jobs --watch --json              an array a line, each time something changes
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, 10_000),
    default=30,
    show_default=True,
    metavar="N",
    help="How many.",
)
@click.option("--mine", is_flag=True, help="Only those of this user.")
@watch_option
@click.pass_obj
def jobs(face: Face, *, limit: int, mine: bool, watch: bool) -> int:
    """List the jobs, newest first."""
    from planetmesh.cli.shapes import JOBS

    if watch:
        from planetmesh.cli.redraw import Watched, table_of
        from planetmesh.cli.redraw import watch as keep_watching

        return keep_watching(face, Watched(lambda mesh: mesh.jobs(limit=limit, mine=mine), table_of(JOBS)))
    face.printer.rows(face.with_mesh(lambda mesh: mesh.jobs(limit=limit, mine=mine)), JOBS)
    return 0
