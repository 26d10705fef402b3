"""The result of a job as one thing: a contact sheet, or all vectors in one file.

Called when such a job has ended, by the command that handed it in and by `fetch`. What is to be made
stands in the job itself, so it does not matter who fetches it, and when.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from planetmesh.cli.fetch import bring, summary
from planetmesh.cli.new_file import NAME_KEPT_LETTERS, new_file
from planetmesh.client.downloads import Fetched
from planetmesh.client.vectors import Joined, Part, join_jsonl, join_npy
from planetmesh.errors import BadInput, Conflict
from planetmesh.jobtypes.embedding import Embedding, EmbeddingPayload, is_row_each, read_embedding
from planetmesh.jobtypes.image_batch import ImageBatch, Overview, read_images
from planetmesh.model.job import JOB_ENDED, JobSpec
from planetmesh.model.resources import show_size

if TYPE_CHECKING:
    from planetmesh.cli.face import Face
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.wire.api import JobView


class Place(msgspec.Struct, frozen=True):
    """Where results are laid."""

    folder: str = "."
    """For the files of tasks."""
    whole_folder: str = "."
    """For the one file of the whole job."""
    overwrite: bool = False


async def with_spec(mesh: AsyncMesh, view: JobView) -> JobView:
    """The view with its spec, however long that is, if the job may make one thing of its results."""
    if view.spec is None and view.type in {ImageBatch.name, Embedding.name}:
        return await mesh.job(view.id, whole=True)
    return view


def whole_of(spec: JobSpec | None) -> Overview | EmbeddingPayload | None:
    """What one thing is made of the job's results, if any."""
    try:
        if spec is not None and spec.type == ImageBatch.name:
            return read_images(spec.payload).overview
        if spec is not None and spec.type == Embedding.name:
            payload = read_embedding(spec.payload)
            return payload if payload.join else None
    except BadInput:
        # Of a coordinator that knows more than we do: its files come as they are.
        return None
    return None


def is_one_file(spec: JobSpec) -> bool:
    """Is that all that is fetched of it?"""
    whole = whole_of(spec)
    return whole.alone if isinstance(whole, Overview) else whole is not None


async def bring_whole(face: Face, mesh: AsyncMesh, view: JobView, place: Place) -> list[Fetched]:
    """Fetch what is to be fetched of such a job, make the one thing, say where it is. `view` has its spec."""
    files: list[Fetched] = []
    if view.spec is not None and not is_one_file(view.spec):
        files = await bring(face, mesh, view.id, place.folder, overwrite=place.overwrite)
        face.printer.note(summary(files, place.folder))
    return [*files, *await make_whole(face, mesh, view, place)]


async def make_whole(face: Face, mesh: AsyncMesh, view: JobView, place: Place) -> list[Fetched]:
    """The one thing alone. `view` has its spec."""
    whole = whole_of(view.spec)
    if isinstance(whole, Overview):
        return await _make_sheet(face, mesh, view, place)
    return [] if whole is None else await _join_vectors(face, mesh, view, whole, place)


# Images


async def _make_sheet(face: Face, mesh: AsyncMesh, view: JobView, place: Place) -> list[Fetched]:
    from planetmesh.client.overview import make_sheet

    if view.status not in JOB_ENDED:
        face.printer.warn(f"The contact sheet is made once all is done: planetmesh wait {view.id}")
        return []
    if not await mesh.files(view.id):
        face.printer.warn("There is no image to show, so there is no contact sheet.")
        return []
    handle = await make_sheet(mesh, view)
    sheet = await bring(face, mesh, handle.id, place.whole_folder, overwrite=place.overwrite)
    for file in sheet:
        face.printer.note(f"The contact sheet is in {file.path} ({show_size(file.size)}).")
    return sheet


# Vectors


async def _join_vectors(
    face: Face, mesh: AsyncMesh, view: JobView, payload: EmbeddingPayload, place: Place
) -> list[Fetched]:
    if view.status not in JOB_ENDED:
        raise Conflict(
            f"Job {view.id} goes on, and its vectors are put together once it has ended.",
            hint=f"`planetmesh wait {view.id}` waits; what there is: planetmesh fetch {view.id} --by-task",
        )
    folder = Path(place.whole_folder)
    await asyncio.to_thread(_make_folder, folder)
    path = folder / payload.join
    with new_file(path, overwrite=place.overwrite) as file:
        # Kept if this is cut off: the next try goes on with it.
        parts_folder = folder / f".{payload.join[:NAME_KEPT_LETTERS]}.{view.id}.parts"
        fetched = await bring(face, mesh, view.id, str(parts_folder), overwrite=True)
        if not fetched:
            await asyncio.to_thread(shutil.rmtree, parts_folder, ignore_errors=True)
        parts = [Part(_first_of(each), Path(each.path)) for each in fetched]
        if payload.result == "jsonl":
            joined = await asyncio.to_thread(join_jsonl, parts, file)
        else:
            total, present = await _rows(mesh, view, payload)
            joined = await asyncio.to_thread(join_npy, parts, file, total, present)
    await asyncio.to_thread(shutil.rmtree, parts_folder, ignore_errors=True)
    _say_joined(face, path, joined)
    return [Fetched(0, payload.join, str(path), joined.size, joined.digest, executable=False, present=False)]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"The folder {folder} cannot be made: {error.strerror}.") from error


def _first_of(file: Fetched) -> int:
    """`vectors/0000000200.npy` begins with input 200."""
    stem = file.name.rpartition("/")[2].partition(".")[0]
    if not (stem.isascii() and stem.isdigit()):
        raise BadInput(f"{file.name!a} is no file of vectors.")
    return int(stem)


async def _rows(
    mesh: AsyncMesh, view: JobView, payload: EmbeddingPayload
) -> tuple[int | None, dict[int, list[bool]]]:
    """How many rows there are to be, and which inputs of tasks that failed have one."""
    from planetmesh.cli.faults import fates

    if view.spec is None or not is_row_each(payload):
        return None, {}
    present: dict[int, list[bool]] = {}
    if view.tasks.failed:
        async for fate in fates(mesh, view.id):
            first = fate.task * max(1, view.spec.chunk)
            present.setdefault(first, []).append(not fate.error)
    return view.spec.inputs.count, present


def _say_joined(face: Face, path: Path, joined: Joined) -> None:
    shape = f"{joined.rows} × {joined.width}" if joined.width else f"{joined.rows} lines"
    face.printer.note(f"The vectors are in {path} ({shape}, {show_size(joined.size)}).")
    if joined.missing:
        verb = "has" if joined.missing == 1 else "have"
        face.printer.warn(f"{joined.missing} of {joined.rows} texts {verb} no vector: a row of NaN each.")
