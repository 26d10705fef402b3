"""`planetmesh wait`: until jobs have ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from planetmesh.cli.completing import complete_job
from planetmesh.cli.face import Face

if TYPE_CHECKING:
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.wire.api import JobView

_EXAMPLES = """
\b
Examples:
  planetmesh wait last
  id=$(planetmesh run --detach make) && planetmesh wait "$id" --timeout 10m

Exit status: 0 if all of them completed, 1 if not, or if the time was up before.
"""


@click.command(epilog=_EXAMPLES)
@click.argument("job_ids", metavar="ID…", nargs=-1, required=True, shell_complete=complete_job)
@click.option("--timeout", metavar="TIME", help="Give up after this long, like 90s or 10m.")
@click.pass_obj
def wait(face: Face, job_ids: tuple[str, ...], timeout: str | None) -> int:
    """Wait until the jobs have ended."""
    from planetmesh.cli.shapes import JOBS
    from planetmesh.errors import MeshError
    from planetmesh.model.job import JobState
    from planetmesh.model.resources import parse_duration

    seconds = parse_duration(timeout) if timeout is not None else None
    try:
        ended = face.run(_wait(face, job_ids, seconds))
    except TimeoutError as error:
        raise MeshError(
            f"Not all of these jobs ended within {timeout}.", hint="They go on; wait again, or cancel them."
        ) from error
    face.printer.rows(ended, JOBS)
    return 0 if all(job.status == JobState.COMPLETED for job in ended) else 1


async def _wait(face: Face, job_ids: tuple[str, ...], seconds: float | None) -> list[JobView]:
    async with face.mesh() as mesh, asyncio.timeout(seconds):
        # All must exist before we wait for the first.
        views = [await mesh.job(job_id) for job_id in job_ids]
        return [await _wait_for(face, mesh, view) for view in views]


async def _wait_for(face: Face, mesh: AsyncMesh, view: JobView) -> JobView:
    from planetmesh.cli.follow import saying_why_it_waits
    from planetmesh.client.handles import JobHandle

    handle = JobHandle(mesh, view)
    return await saying_why_it_waits(mesh, handle, face.printer, mesh.wait(view.id))
