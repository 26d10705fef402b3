"""The contact sheet over all results of an image job: a second job, of one small task.

The images stay on the mesh: what the first job's tasks made is given to the second one's, which runs in the
sandbox of a node. So whoever asks needs no Pillow, and opens no picture that a stranger's node has sent.
Asking again finds the sheet that was made before, as long as the results are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planetmesh.client.handles import JobHandle
from planetmesh.errors import BadInput, MeshError
from planetmesh.jobtypes.image_batch import ImageBatch, output_of, read_images, sheet_payload
from planetmesh.model.job import Items, JobSpec, JobState
from planetmesh.wire.api import JobView

if TYPE_CHECKING:
    from planetmesh.client.async_client import AsyncMesh

ATTEMPTS_MOST = 3
NAME_MOST = 150
DIGEST_LETTERS = 24
"""Of the list of results, in the key that finds a sheet again."""


async def make_sheet(mesh: AsyncMesh, view: JobView) -> JobHandle:
    """Have the sheet made and wait for it; `view` is of the job with the results, with its spec.

    Raises MeshError if it could not be made.
    """
    if view.spec is None:
        raise BadInput("This job's details are not known.")
    spec = await mesh.stage_made(view.id, sheet_spec(view.spec, view.name or view.id))
    key = f"sheet-{view.id}-{spec.files[-1].digest[:DIGEST_LETTERS]}"
    handle = await mesh.submit(spec, key=key)
    if handle.view.status in {JobState.FAILED, JobState.CANCELLED}:
        handle = await mesh.submit(spec)
    ended = await handle.wait()
    if ended.status != JobState.COMPLETED:
        why = ended.error or ended.cancel_reason or f"its job is {ended.status}."
        raise MeshError(
            f"The contact sheet could not be made: {why}",
            hint=f"Why: planetmesh explain {ended.id}",
        )
    return handle


def sheet_spec(spec: JobSpec, name: str) -> JobSpec:
    """The job that makes the sheet, without its files. Images without a result get a mark in their place."""
    payload = read_images(spec.payload)
    if payload.overview is None or not isinstance(spec.inputs, Items):
        raise BadInput("This job has no contact sheet.")
    items = spec.inputs.items
    cells = tuple(output_of(payload, item, index).name for index, item in enumerate(items))
    titles = tuple(item.rpartition("/")[2] for item in items)
    made = JobSpec(
        type=ImageBatch.name,
        payload=sheet_payload(payload.overview, titles, payload.pixels_most),
        inputs=Items(cells),
        name=f"contact sheet of {name[:NAME_MOST]}",
        priority=spec.priority,
        max_attempts=ATTEMPTS_MOST,
    )
    kind = ImageBatch()
    made = kind.complete(made)
    kind.check(made)
    return made
