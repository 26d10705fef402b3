"""`planetmesh jobs`: the newest jobs."""

from __future__ import annotations

import click

from planetmesh.cli.face import Face

_EXAMPLES = """
\b
Examples:
  planetmesh jobs
  planetmesh jobs --mine --limit 5
  planetmesh jobs --json | jq '.[].status'
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "-n", "--limit", type=click.IntRange(1, 10_000), default=30, show_default=True, help="How many."
)
@click.option("--mine", is_flag=True, help="Only those of this user.")
@click.pass_obj
def jobs(face: Face, *, limit: int, mine: bool) -> None:
    """List the jobs, newest first."""
    from planetmesh.cli.shapes import JOBS

    face.printer.rows(face.with_mesh(lambda mesh: mesh.jobs(limit=limit, mine=mine)), JOBS)
