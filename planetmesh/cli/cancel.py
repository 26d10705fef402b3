"""`planetmesh cancel`: stop jobs."""

from __future__ import annotations

import click

from planetmesh.cli.completing import complete_live_job
from planetmesh.cli.face import Face

_EXAMPLES = """
\b
Examples:
  planetmesh cancel last
  planetmesh cancel k3v 8xq --reason "wrong input"
"""


@click.command(epilog=_EXAMPLES)
@click.argument("job_ids", metavar="ID…", nargs=-1, required=True, shell_complete=complete_live_job)
@click.option("--reason", default="", metavar="TEXT", help="Kept with the job.")
@click.pass_obj
def cancel(face: Face, job_ids: tuple[str, ...], reason: str) -> None:
    """Stop what runs of the jobs and drop what waits."""
    face.run(_cancel(face, job_ids, reason))


async def _cancel(face: Face, job_ids: tuple[str, ...], reason: str) -> None:
    async with face.mesh() as mesh:
        # All must exist before the first is touched.
        views = [await mesh.job(job_id) for job_id in job_ids]
        for view in views:
            cancelled = await mesh.cancel(view.id, reason)
            face.printer.done(f"Job {view.id} is cancelled.", cancelled)
