"""`planetmesh fetch`: the files that a job's tasks made, into a folder here."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from planetmesh.cli.completing import complete_job
from planetmesh.cli.face import Face

if TYPE_CHECKING:
    from planetmesh.cli.output import Shape
    from planetmesh.client.async_client import AsyncMesh
    from planetmesh.client.downloads import Fetched
    from planetmesh.client.wanted import Wanted
    from planetmesh.wire.api import JobView

_EXAMPLES = """
\b
Examples:
  planetmesh fetch last
  planetmesh fetch k3v -o films
  planetmesh fetch k3v/17 -o one
  planetmesh fetch last --by-task -o all
  planetmesh fetch last --list

Which files a job brings back was said when it was handed in: run --out PATTERN.
A job that makes one thing of all (images --contact-sheet, embed) brings that;
--by-task has what each of its tasks made.
A file that is here with the same content is left alone; one with other content
is never replaced without --overwrite, and then nothing is written at all. Cut
off, the same command goes on where it ended. Of a job that goes on you get
what its tasks have brought so far.

\b
Exit status: 0 if all tasks completed, 1 if not (or not yet).
"""


@click.command(epilog=_EXAMPLES)
@click.argument("target", metavar="ID[/TASK]", shell_complete=complete_job)
@click.option("-o", "folder", metavar="DIR", help="Where to lay them (default: the current folder).")
@click.option("--by-task", is_flag=True, help="Each task's files in a folder of its own: DIR/INDEX/…")
@click.option("--overwrite", is_flag=True, help="Replace files there that have other content.")
@click.option("--list", "list_only", is_flag=True, help="Show the files, fetch nothing.")
@click.pass_obj
def fetch(face: Face, /, target: str, **values: Any) -> int:
    """Bring the files that a job's tasks, or one of them, made."""
    if values["list_only"] and (values["folder"] is not None or values["overwrite"]):
        raise click.UsageError("--list fetches nothing: leave -o and --overwrite out.")
    return face.run(_fetch(face, target, values))


async def _fetch(face: Face, target: str, values: dict[str, Any]) -> int:
    from planetmesh.cli.interrupt import INTERRUPTED, Interruption
    from planetmesh.cli.logs import parse_target
    from planetmesh.cli.whole import Place, bring_whole, whole_of, with_spec

    name, index = parse_target(target)
    async with face.mesh() as mesh:
        view = await with_spec(mesh, await mesh.job(name))
        _refuse_nothing(view, index)
        if values["list_only"]:
            files = await mesh.files(view.id, index=index, by_task=values["by_task"])
            _show(face, files)
        else:
            folder = values["folder"] or "."
            with Interruption() as interruption:
                is_whole = index is None and not values["by_task"] and whole_of(view.spec) is not None
                if is_whole:
                    work = bring_whole(face, mesh, view, Place(folder, folder, values["overwrite"]))
                else:
                    work = bring(face, mesh, view.id, folder, index=index, by_task=values["by_task"],
                                 overwrite=values["overwrite"])  # fmt: skip
                fetched = await interruption.interruptible(work)
            if fetched is None:
                say_interrupted(face, view.id, folder)
                return INTERRUPTED
            if not is_whole or face.printer.form != "table":
                _report(face, fetched, folder)
            if await _told_faults(face, mesh, view, index):
                return 1
    return _status(face, view, index)


async def _told_faults(face: Face, mesh: AsyncMesh, view: JobView, index: int | None) -> bool:
    """Say which inputs have no result, and why, if that is all that is missing."""
    from planetmesh.cli.faults import NOUNS, tell_faults

    counts, noun = view.tasks, NOUNS.get(view.type)
    is_all = counts.failed and counts.failed + counts.completed == counts.total
    if index is not None or noun is None or view.spec is None or not is_all:
        return False
    await tell_faults(face.printer, mesh, view.id, noun, view.spec.inputs.count)
    return True


def _refuse_nothing(view: JobView, index: int | None) -> None:
    from planetmesh.errors import BadInput

    if view.spec is not None and not view.spec.outputs:
        raise BadInput(
            f"Job {view.id} brings no files back: it was handed in without --out.",
            hint=f"What its tasks wrote: planetmesh results {view.id}",
        )
    if index is not None and index >= view.tasks.total:
        raise BadInput(f"Job {view.id} has {view.tasks.total} tasks; they are counted from 0.")


async def bring(
    face: Face,
    mesh: AsyncMesh,
    job_id: str,
    folder: str,
    *,
    index: int | None = None,
    by_task: bool = False,
    overwrite: bool = False,
) -> list[Fetched]:
    """Fetch, with a line on the terminal that tells how far it is."""
    from planetmesh.cli.transfer_line import TransferLine

    with TransferLine(face.printer) as line:
        return await mesh.fetch(
            job_id, folder, index=index, by_task=by_task, overwrite=overwrite, on_progress=line.update
        )


def say_interrupted(face: Face, job_id: str, folder: str) -> None:
    face.printer.warn(
        f"Interrupted: what has arrived is kept, and the job's files stay on the mesh. "
        f"To go on: {fetch_line(job_id, folder)}"
    )


def fetch_line(job_id: str, folder: str) -> str:
    """The command that brings a job's files into this folder, to be copied."""
    return f"planetmesh fetch {job_id}" + ("" if folder == "." else f" -o {shlex.quote(folder)}")


def place(folder: str) -> str:
    return "this folder" if folder == "." else folder


def summary(fetched: list[Fetched], folder: str) -> str:
    """`12 files, 3.4 MiB, are in films (3 were there already).`; a name counts once."""
    from planetmesh.model.resources import show_size

    if not fetched:
        return "No task has brought a file."
    files = _as_they_lie(fetched)
    here = sum(file.present for file in files)
    already = f" ({here} {'was' if here == 1 else 'were'} there already)" if here else ""
    size = show_size(sum(file.size for file in files))
    verb = "is" if len(files) == 1 else "are"
    return f"{counted(len(files))}, {size}, {verb} in {place(folder)}{already}."


def _as_they_lie(fetched: list[Fetched]) -> list[Fetched]:
    """What several tasks made alike lies there once."""
    return list({file.path: file for file in fetched}.values())


def counted(number: int) -> str:
    return f"{number} file{'' if number == 1 else 's'}"


def _report(face: Face, fetched: list[Fetched], folder: str) -> None:
    if face.printer.form == "table":
        face.printer.note(summary(fetched, folder))
    else:
        from planetmesh.cli.output import Shape

        files = fetched if face.json else _as_they_lie(fetched)
        face.printer.rows(files, Shape((), lambda file: file.path))


def _show(face: Face, files: tuple[Wanted, ...]) -> None:
    face.printer.rows(files, _files_shape())


def _files_shape() -> Shape[Wanted]:
    from planetmesh.cli.output import Column, Shape
    from planetmesh.model.resources import show_size

    return Shape(
        (
            Column("TASK", lambda file: str(file.index), right=True),
            Column("SIZE", lambda file: show_size(file.size), right=True),
            Column("NAME", lambda file: file.name),
        ),
        key=lambda file: file.name,
        empty="No task has brought a file.",
    )


def _status(face: Face, view: JobView, index: int | None) -> int:
    """1, and why, if these are not the files of all tasks."""
    if index is not None:
        return 0
    from planetmesh.cli.results import missing_sentence

    said = missing_sentence(view, None)
    if said:
        face.printer.warn(said)
    return 1 if said else 0
