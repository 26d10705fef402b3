"""`planetmesh pause` and `planetmesh resume`: hold jobs back for a while, and go on."""

from __future__ import annotations

import click

from planetmesh.cli.completing import complete_live_job
from planetmesh.cli.face import Face
from planetmesh.errors import NotFound

_PAUSE = """
\b
Examples:
  planetmesh pause last
  planetmesh pause k3v 8xq
"""
_RESUME = """
\b
Examples:
  planetmesh resume last
  planetmesh resume k3v 8xq
"""


@click.command(epilog=_PAUSE)
@click.argument("job_ids", metavar="ID…", nargs=-1, required=True, shell_complete=complete_live_job)
@click.pass_obj
def pause(face: Face, job_ids: tuple[str, ...]) -> None:
    """Start nothing more of the jobs; what runs goes on to its end."""
    face.run(_set_paused(face, job_ids, paused=True))


@click.command(epilog=_RESUME)
@click.argument("job_ids", metavar="ID…", nargs=-1, required=True, shell_complete=complete_live_job)
@click.pass_obj
def resume(face: Face, job_ids: tuple[str, ...]) -> None:
    """Go on with paused jobs."""
    face.run(_set_paused(face, job_ids, paused=False))


async def _set_paused(face: Face, job_ids: tuple[str, ...], *, paused: bool) -> None:
    from planetmesh.wire.api import ChangeJob

    async with face.mesh() as mesh:
        # All must exist before the first is touched.
        try:
            views = [await mesh.job(job_id) for job_id in job_ids]
        except NotFound as error:
            if paused:
                raise
            raise NotFound(error.message, hint="For a machine: planetmesh node resume NAME") from error
        for view in views:
            changed = await mesh.change_job(view.id, ChangeJob(paused=paused))
            word = "is paused" if paused else "goes on"
            running = changed.tasks.running
            also = f"; {running} of its tasks still run" if paused and running else ""
            face.printer.done(f"Job {view.id} {word}{also}.", changed, word=view.id)
