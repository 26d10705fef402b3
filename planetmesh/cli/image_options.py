"""From options like `--resize 1600x1600 --convert webp` to the operations of an image_batch job.

Operations are done in the order in which they stand on the command line. Numbers are checked by the job type;
here is what only the way of writing can get wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from planetmesh.errors import BadInput
from planetmesh.jobtypes.image_batch import FORMAT_OF, FORMATS

C = TypeVar("C", bound=Callable[..., Any])

_SIZE = re.compile(r"(?:(\d{1,6})?[x×](\d{1,6})?|(\d{1,6}))(?::(fit|fill|exact))?")
_PERCENT = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)%")
_THUMBNAIL = re.compile(r"(\d{1,6})(:square)?")
_CROP = re.compile(r"(\d{1,6})[x×](\d{1,6})(?:\+(\d{1,6})\+(\d{1,6}))?")
_CELL = re.compile(r"(\d{1,4})[x×](\d{1,4})|(\d{1,4})")
_KEPT = "planetmesh.image_operations"


def _resize(text: str) -> dict[str, Any]:
    percent = _PERCENT.fullmatch(text)
    if percent is not None:
        return {"op": "resize", "percent": float(percent[1])}
    found = _SIZE.fullmatch(text)
    if found is None or not any(found.groups()[:3]):
        raise BadInput(
            f"--resize {text}: this is no size.",
            hint="Say 1600x1200 (within), 1600x (as wide), x1200 (as high), 1600 (the longer side), 50%, "
            "800x600:fill (cut to it) or 800x600:exact (stretched).",
        )
    width, height = (int(found[3]),) * 2 if found[3] else (int(found[1] or 0), int(found[2] or 0))
    return {"op": "resize", "width": width, "height": height, "how": found[4] or "fit"}


def _thumbnail(text: str) -> dict[str, Any]:
    found = _THUMBNAIL.fullmatch(text)
    if found is None:
        raise BadInput(f"--thumbnail {text}: this is no size.", hint="Say 256, or 256:square.")
    return {"op": "thumbnail", "size": int(found[1]), "square": bool(found[2])}


def _crop(text: str) -> dict[str, Any]:
    found = _CROP.fullmatch(text)
    if found is None:
        raise BadInput(
            f"--crop {text}: this is no part of an image.",
            hint="Say 800x600 (around the middle) or 800x600+10+20 (from there, left and top).",
        )
    part: dict[str, Any] = {"op": "crop", "width": int(found[1]), "height": int(found[2])}
    return part | ({"left": int(found[3]), "top": int(found[4])} if found[3] else {})


def _rotate(text: str) -> dict[str, Any]:
    try:
        return {"op": "rotate", "degrees": float(text)}
    except ValueError as error:
        raise BadInput(
            f"--rotate {text}: this is no angle.", hint="Say 90 (clockwise), -90, 180 or 1.5."
        ) from error


def _convert(text: str) -> dict[str, Any]:
    """`jpg` is meant as `jpeg`."""
    known = FORMAT_OF.get(text.lower().removeprefix("."))
    if known is None:
        raise BadInput(f"--convert {text}: there is no such format.", hint=f"Known: {', '.join(FORMATS)}.")
    return {"op": "convert", "format": known}


def _strip(_text: str) -> dict[str, Any]:
    return {"op": "strip"}


_READ = {"resize": _resize, "thumbnail": _thumbnail, "crop": _crop, "rotate": _rotate, "convert": _convert,
         "strip": _strip}  # fmt: skip


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """click calls this in the order in which options were given."""
    if value not in (None, False) and parameter.name is not None:
        context.meta.setdefault(_KEPT, []).append((parameter.name, str(value)))
    return value


def _operation(name: str, **more: Any) -> Callable[[C], C]:
    return click.option(f"--{name}", callback=_keep, expose_value=False, **more)


_OPERATIONS = (
    _operation("resize", metavar="SIZE", help="1600x1200 (within), 1600x, x1200, 1600 (longer side), 50%, "
               "800x600:fill (cut to it), 800x600:exact."),
    _operation("thumbnail", metavar="SIZE", help="256 (the longer side) or 256:square; without metadata."),
    _operation("crop", metavar="PART", help="800x600 (the middle) or 800x600+LEFT+TOP."),
    _operation("rotate", metavar="DEGREES", help="Clockwise. Images are turned upright first in any case."),
    _operation("convert", metavar="FORMAT", help=f"{', '.join(FORMATS)} (default: each keeps its own)."),
    _operation("strip", is_flag=True, help="Leave no EXIF, no place, no comment."),
    click.option("--quality", type=click.IntRange(1, 100), metavar="N", help="Of --convert: 1 to 100."),
    click.option("--lossless", is_flag=True, help="Of --convert webp or avif."),
    click.option("--enlarge", is_flag=True, help="--resize may make small images larger."),
    click.option("--background", metavar="COLOUR", help="Behind what is transparent, like white or #1e2a38."),
)  # fmt: skip


def operation_options(command: C) -> C:
    """Give a click command the options of operations."""
    for option in reversed(_OPERATIONS):
        command = option(command)
    return command


def take_operations(context: click.Context, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations in their order; raises BadInput, also for an option that nothing here needs."""
    found = [_READ[name](text) for name, text in context.meta.get(_KEPT, [])]
    quality, lossless = values.pop("quality"), values.pop("lossless")
    enlarge, background = values.pop("enlarge"), values.pop("background")
    used = set()
    for operation in found:
        if operation["op"] == "convert":
            operation |= {"quality": quality or 0, "lossless": lossless}
            used |= {"quality", "lossless"}
        if operation["op"] == "resize" and enlarge:
            operation["enlarge"] = True
            used.add("enlarge")
        if operation["op"] in {"convert", "rotate"} and background:
            operation["background"] = background
            used.add("background")
    given = {"quality": quality, "lossless": lossless, "enlarge": enlarge, "background": background}
    needs = {"quality": "--convert", "lossless": "--convert", "enlarge": "--resize",
             "background": "--convert or --rotate"}  # fmt: skip
    for name, value in given.items():
        if value and name not in used:
            raise BadInput(f"--{name} needs {needs[name]}.")
    return found


def take_sheet(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of a contact sheet from `columns`, `cell`, `labels` and `sheet_background`."""
    width, height = 240, 240
    if values["cell"] is not None:
        found = _CELL.fullmatch(values["cell"])
        if found is None:
            raise BadInput(f"--cell {values['cell']}: this is no size.", hint="Say 240 or 320x240.")
        width, height = (int(found[3]),) * 2 if found[3] else (int(found[1]), int(found[2]))
    sheet = {"op": "contact_sheet", "columns": values["columns"] or 0, "width": width, "height": height}
    sheet |= {"labels": values["labels"]} if values["labels"] else {}
    return sheet | ({"background": values["sheet_background"]} if values["sheet_background"] else {})
