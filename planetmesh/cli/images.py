"""`planetmesh images`: resize, convert, crop, rotate, strip and show many images, on all machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planetmesh.cli.face import Face
from planetmesh.cli.image_options import operation_options, take_operations, take_sheet
from planetmesh.cli.sections import SectionedCommand
from planetmesh.cli.spec import work_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planetmesh.cli.staging import Order

CHUNKS = 64
"""Into about so many tasks a job is cut, so that fast machines take more of them."""
CHUNK_MOST = 20
"""Images in one task: what breaks its process takes the others of its task with it."""
CELL_QUALITY = 90

_EXAMPLES = """
\b
Examples:
  planetmesh images --resize 1600 --convert webp --strip -o small *.jpg
  planetmesh images --thumbnail 256:square -o thumbs photos/
  planetmesh images --rotate 90 --crop 1000x1000 -o square IMG_*.png
  planetmesh images --contact-sheet sheet.jpg --columns 6 *.jpg
  planetmesh images --resize 1600 -o small --contact-sheet sheet.jpg photos/
  planetmesh images --convert jpeg --quality 90 -o jpegs 'raw/**/*.heic'
  planetmesh images --strip -o clean --as '{#}-{/}' -- *.jpg
  planetmesh images --resize 50% --only-new -o small photos/

\b
FILES are images, folders (all images below them) or quoted patterns; behind --
also names that begin with a dash. Operations are done in the order in which
they stand. Each image is turned upright first, as its EXIF says.

\b
--as names the results: {/.} the file's name without extension, {.} with its
folders, {/} with extension, {#} the image's number, {ext} what fits the format.
Nothing that exists is ever replaced without --overwrite.

\b
A broken image, or one that pretends to be huge, is told of with the reason; all
others come. A contact sheet is made on a node too: this machine needs no Pillow,
the nodes do (pip install 'planetmesh[images]'). With --detach, later:
`planetmesh fetch JOB -o DIR` brings images and sheet.

\b
Exit status: 0 if there is a result of every image, 1 if not.
"""


class _Images(SectionedCommand):
    sections = (
        ("Operations, in the order in which they stand",
         ("resize", "thumbnail", "crop", "rotate", "convert", "strip", "quality", "lossless", "enlarge",
          "background")),
        ("Contact sheet", ("sheet", "columns", "cell", "labels", "sheet_background")),
        ("Results", ("folder", "pattern", "overwrite", "only_new", "pixels_most", "detach", "dry_run")),
    )  # fmt: skip


@click.command(cls=_Images, epilog=_EXAMPLES)
@operation_options
@click.option(
    "--contact-sheet",
    "sheet",
    type=click.Path(),
    metavar="FILE",
    help="All images small on one, like sheet.jpg.",
)
@click.option("--columns", type=click.IntRange(1), metavar="N", help="Of the contact sheet.")
@click.option("--cell", metavar="SIZE", help="Of a picture on the sheet: 240 or 320x240 (default 240).")
@click.option("--labels", type=click.Choice(["name", "number", "none"]), help="Below each picture.")
@click.option("--sheet-background", metavar="COLOUR", help="Of the contact sheet (default white).")
@click.option("-o", "folder", type=click.Path(), metavar="DIR",
              help="Where images are laid (default: the current folder).")  # fmt: skip
@click.option("--as", "pattern", metavar="PATTERN", help="What they are called, like '{/.}-small.{ext}'.")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--only-new", is_flag=True, help="Leave out images whose result is there already.")
@click.option("--pixels-most", type=click.IntRange(1), metavar="N",
              help="Refuse images with more pixels (default 200 million).")  # fmt: skip
@click.option("--detach", is_flag=True, help="Print the job's id and leave.")
@click.option("--dry-run", is_flag=True, help="Show the tasks, send nothing.")
@work_options
@click.argument("files", nargs=-1, type=click.Path(), metavar="FILES…")
@click.pass_context
def images(context: click.Context, /, files: tuple[str, ...], **values: Any) -> int:
    """Do something to many images on all machines, or put them onto one contact sheet."""
    face = context.find_object(Face) or Face()
    order, sheet_folder = _make_order(context, files, values)
    if order is None:
        face.printer.note("All results are there already: nothing to do.")
        return 0
    if values["dry_run"]:
        from planetmesh.cli.run import show_tasks

        return show_tasks(face, order)
    from planetmesh.cli.watch import How, submit_and_watch

    how = How(
        detach=values["detach"],
        folder=values["folder"] or ".",
        overwrite=values["overwrite"],
        whole_folder=sheet_folder,
        noun="images",
    )
    return face.run(submit_and_watch(face, order, how))


def _make_order(
    context: click.Context, files: Sequence[str], values: dict[str, Any]
) -> tuple[Order | None, str]:
    """The job, and the folder of its contact sheet; no job if there is nothing to do. Raises BadInput."""
    from dataclasses import replace

    from planetmesh.cli.image_files import find_images
    from planetmesh.cli.spec import take_options
    from planetmesh.cli.staging import make_order
    from planetmesh.model.job import Items

    options = take_options(values)
    payload, sheet_folder = _payload(context, values)
    found = find_images(files)
    if options.chunk is None:
        options = replace(options, chunk=str(chunk_for(len(found))))
    options = replace(options, name=options.name or "images")
    if not payload.get("overview", {}).get("alone"):
        found = _refuse_or_leave_out(payload, found, values)
        if not found:
            return None, sheet_folder
    _name_results(payload, found, values["pattern"])
    order = make_order(("image_batch", payload), Items(tuple(found)), options, may_name_files=True)
    if not values["detach"] and payload.get("overview") and not values["overwrite"]:
        _refuse_sheet(Path(sheet_folder) / payload["overview"]["output"])
    return order, sheet_folder


def chunk_for(count: int) -> int:
    """How many images each task gets."""
    return max(1, min(CHUNK_MOST, -(-count // CHUNKS)))


def _payload(context: click.Context, values: dict[str, Any]) -> tuple[dict[str, Any], str]:
    operations = take_operations(context, values)
    payload: dict[str, Any] = {"operations": operations}
    if values["pixels_most"]:
        payload["pixels_most"] = values["pixels_most"]
    if values["sheet"] is None:
        for name in ("columns", "cell", "labels", "sheet_background"):
            if values[name] is not None:
                raise click.UsageError(f"--{name.replace('_', '-')} needs --contact-sheet FILE.")
        if not operations:
            raise click.UsageError(
                "What is to be done to the images? For instance: --resize 1600, --convert webp, --strip."
            )
        return payload, "."
    sheet = take_sheet(values)
    path = Path(values["sheet"])
    alone = values["folder"] is None
    payload["overview"] = {"sheet": sheet, "output": path.name, "alone": alone}
    if alone:
        if values["pattern"] or values["only_new"]:
            raise click.UsageError("--as and --only-new are about images: say where they go, with -o DIR.")
        # What comes of an image is a cell, so that all machines help and little travels.
        operations[:] = [each for each in operations if each["op"] != "convert"]
        operations += [
            {"op": "thumbnail", "size": max(sheet["width"], sheet["height"])},
            {"op": "convert", "format": "webp", "quality": CELL_QUALITY},
        ]
    return payload, str(path.parent)


def _name_results(payload: dict[str, Any], found: Sequence[str], pattern: str | None) -> None:
    from planetmesh.cli.image_files import usual_pattern

    if payload.get("overview", {}).get("alone"):
        # Whatever they are called: two files of one name may be on a sheet.
        payload["output"] = "cells/{#}.{ext}"
    else:
        payload["output"] = pattern or usual_pattern(found)


def _refuse_or_leave_out(payload: dict[str, Any], found: list[str], values: dict[str, Any]) -> list[str]:
    """Images of which a result may be made; nothing is done that could not be laid down afterwards."""
    import os

    from planetmesh.cli.image_files import refuse_existing, result_names, usual_pattern
    from planetmesh.jobtypes.image_batch import read_images

    if values["only_new"] and values["pattern"] and "{#}" in values["pattern"]:
        raise click.UsageError("--only-new needs names that stay: leave {#} out of --as.")
    if values["detach"] or values["overwrite"]:
        return found
    read = read_images({**payload, "output": values["pattern"] or usual_pattern(found)})
    folder = Path(values["folder"] or ".")
    paths = [folder / name for name in result_names(read, [_staged(each) for each in found])]
    if values["only_new"]:
        return [name for name, path in zip(found, paths, strict=True) if not os.path.lexists(path)]
    refuse_existing(paths)
    return found


def _staged(name: str) -> str:
    """What a file is called in its task's folder (client/plan.py): absolute names lose their folders."""
    path = Path(name)
    return path.name if path.is_absolute() or ".." in path.parts else path.as_posix()


def _refuse_sheet(path: Path) -> None:
    from planetmesh.cli.image_files import refuse_existing

    refuse_existing([path])
