"""The job type `image_batch`: operations on many images, one after the other on each.

Inputs are names of image files. `child/images.py` does the work; here is what can be asked for, and every
answer that needs no look at a picture. The format of an output is that of `convert`, else its name's.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import msgspec

from planetmesh.errors import BadInput, TooLarge
from planetmesh.jobtypes.call_type import CallType
from planetmesh.jobtypes.contract import Launch, kind_of, read_payload
from planetmesh.jobtypes.output_name import (
    EXTENSION,
    check_name_pattern,
    extension_of,
    fill_name,
    glob_of,
    refuse_doubles,
)
from planetmesh.model.job import Items, JobSpec

FORMATS = {
    "jpeg": ("jpg", "jpeg", "jpe", "jfif"),
    "png": ("png", "apng"),
    "webp": ("webp",),
    "avif": ("avif",),
    "heic": ("heic", "heif"),
    "gif": ("gif",),
    "tiff": ("tif", "tiff"),
    "bmp": ("bmp",),
}
"""What can be written, with the extensions that say so; the first is the usual one."""
FORMAT_OF = {extension: name for name, extensions in FORMATS.items() for extension in extensions}
SIDE_MOST = {"jpeg": 65_500, "webp": 16_383, "gif": 65_535, "avif": 65_535, "heic": 65_535}
"""Pixels in a row or column that the format can hold."""
PIXELS_MOST = 2_000_000_000
"""Four bytes each would be more than most machines have."""
USUAL_PIXELS = 200_000_000
OPERATIONS_MOST = 32
SHEET_IMAGES_MOST = 5_000
HEIC_TAG = "image:heic"
"""Nodes that can read and write it have this tag by themselves; jobs with such images ask for it."""
SIDE = 100_000
_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})|[a-zA-Z]{3,30}")


class Resize(msgspec.Struct, frozen=True, tag_field="op", tag="resize", forbid_unknown_fields=True):
    """To `width` × `height`, or to a share of its size. 0 stands for "as the other side demands"."""

    width: int = 0
    height: int = 0
    percent: float = 0.0
    how: Literal["fit", "fill", "exact"] = "fit"
    """Within the box; or covering it and cut around the middle; or stretched to it."""
    enlarge: bool = False
    """May a smaller image grow?"""


class Thumbnail(msgspec.Struct, frozen=True, tag_field="op", tag="thumbnail", forbid_unknown_fields=True):
    """Small, fast, without metadata."""

    size: int = 256
    """Of the longer side."""
    square: bool = False
    """Cut to a square around the middle."""


class Convert(msgspec.Struct, frozen=True, tag_field="op", tag="convert", forbid_unknown_fields=True):
    format: str
    quality: int = 0
    """1 to 100; 0: the usual one of the format."""
    lossless: bool = False
    """Of webp and avif, which can be either."""
    background: str = "white"
    """Behind transparent places, for formats that have none."""


class Crop(msgspec.Struct, frozen=True, tag_field="op", tag="crop", forbid_unknown_fields=True):
    """A part of the image; around the middle unless `left` and `top` are given."""

    width: int
    height: int
    left: int | None = None
    top: int | None = None


class Rotate(msgspec.Struct, frozen=True, tag_field="op", tag="rotate", forbid_unknown_fields=True):
    """Clockwise. Images are turned upright first, as their EXIF says: 0 degrees does only that."""

    degrees: float = 0.0
    background: str = "white"
    """In the corners, where the image is not transparent there."""


class Strip(msgspec.Struct, frozen=True, tag_field="op", tag="strip", forbid_unknown_fields=True):
    """Leave nothing but the picture: no EXIF, no place, no comment. Colours are turned into sRGB."""


class ContactSheet(
    msgspec.Struct, frozen=True, tag_field="op", tag="contact_sheet", forbid_unknown_fields=True
):
    """All images small on one; a single task."""

    columns: int = 0
    """0: about as many as rows."""
    width: int = 240
    height: int = 240
    """Of a cell, without its label."""
    gap: int = 12
    labels: Literal["name", "number", "none"] = "name"
    background: str = "white"
    titles: tuple[str, ...] = ()
    """As labels, one for each image, instead of the names of the files."""


class Overview(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A contact sheet of all results, for whoever fetches them (client/overview.py)."""

    sheet: ContactSheet = ContactSheet()
    output: str = "contact-sheet.jpg"
    alone: bool = False
    """The results are there for the sheet only, and not fetched themselves."""


Operation = Resize | Thumbnail | Convert | Crop | Rotate | Strip | ContactSheet


class ImagePayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    operations: tuple[Operation, ...]
    output: str = ""
    """`{/.}.{ext}` and the like; empty: that, or `contact-sheet.jpg`."""
    pixels_most: int = USUAL_PIXELS
    """An image with more, also as a result, is refused before its pixels are read."""
    overview: Overview | None = None
    """Made by a small job of its own, once this one has ended; that one has all machines."""
    chunk: int = 1
    """How many inputs each task has, where that is fixed: `{#}` counts inputs. Follows from the job."""

    @property
    def convert(self) -> Convert | None:
        """The last one counts."""
        return next((each for each in reversed(self.operations) if isinstance(each, Convert)), None)

    @property
    def sheet(self) -> ContactSheet | None:
        return next((each for each in self.operations if isinstance(each, ContactSheet)), None)

    @property
    def pattern(self) -> str:
        if self.output:
            return self.output
        if self.sheet is None:
            return "{/.}.{ext}"
        return "contact-sheet.{ext}"

    def extension_for(self, item: str) -> str:
        """What `{ext}` stands for; empty if nothing says."""
        if self.convert is not None:
            return FORMATS[self.convert.format][0]
        return "jpg" if self.sheet is not None else extension_of(item)


class Output(msgspec.Struct, frozen=True):
    """What one input (or a contact sheet) is written to."""

    name: str
    format: str


class ImageBatch(CallType):
    """See the module."""

    name = "image_batch"
    needs = ("PIL",)

    def complete(self, spec: JobSpec) -> JobSpec:
        """A contact sheet is one task; what is written is collected."""
        payload = read_images(spec.payload)
        if payload.sheet is not None and isinstance(spec.inputs, Items) and spec.chunk <= 1:
            spec = msgspec.structs.replace(spec, chunk=max(1, spec.inputs.count))
        if max(1, spec.chunk) != payload.chunk:
            spec = msgspec.structs.replace(spec, payload={**spec.payload, "chunk": max(1, spec.chunk)})
        if HEIC_TAG not in spec.tags and _has_heic(payload, spec):
            spec = msgspec.structs.replace(spec, tags=(*spec.tags, HEIC_TAG))
        if spec.outputs:
            return spec
        known = payload.convert is not None or payload.sheet is not None
        extension = payload.extension_for("") if known else ""
        return msgspec.structs.replace(spec, outputs=(glob_of(payload.pattern, extension),))

    def check(self, spec: JobSpec) -> None:
        payload = read_images(spec.payload)
        if not isinstance(spec.inputs, Items):
            raise BadInput(
                "An image_batch job needs images as its inputs.",
                hint="Name them behind ':::', or with --glob; in a job file: inputs or glob.",
            )
        items = spec.inputs.items
        if payload.sheet is None:
            refuse_doubles([(item, output_of(payload, item, index).name) for index, item in enumerate(items)])
            if payload.overview is not None:
                _check_overview(payload, payload.overview, len(items))
            return
        if payload.overview is not None:
            raise BadInput("A job makes a contact sheet, or has one made of its results, not both.")
        output_of(payload, "", 0)
        _check_count(len(items))
        if payload.sheet.titles and len(payload.sheet.titles) != len(items):
            raise BadInput(f"There are {len(payload.sheet.titles)} titles for {len(items)} images.")
        if 0 < spec.chunk < len(items) or spec.chunk == 0:
            raise BadInput(
                "A contact sheet is one task over all its images.", hint="Leave the chunk away: it follows."
            )
        _check_sheet_size(payload, payload.sheet, len(items))

    def launch(self, payload: dict[str, Any], items: tuple[str, ...], index: int) -> Launch:
        read_images(payload)
        return Launch(call="planetmesh.child.images:run")

    def describe(self, payload: dict[str, Any], items: tuple[str, ...] = (), index: int = 0) -> str:
        words = " then ".join(_show(each) for each in read_images(payload).operations)
        return f"{words}: {' '.join(items)}" if items else words

    def kind(self, payload: dict[str, Any]) -> str:
        names = [_name_of(each) for each in read_images(payload).operations]
        return kind_of(self.name, "+".join(dict.fromkeys(names)))


def _has_heic(payload: ImagePayload, spec: JobSpec) -> bool:
    if payload.convert is not None and payload.convert.format == "heic":
        return True
    items = spec.inputs.items if isinstance(spec.inputs, Items) else ()
    return any(FORMAT_OF.get(extension_of(item)) == "heic" for item in items)


def read_images(payload: dict[str, Any]) -> ImagePayload:
    """The payload, each number in its bounds; raises BadInput."""
    found = read_payload(payload, ImagePayload, ImageBatch.name)
    if not 1 <= len(found.operations) <= OPERATIONS_MOST:
        raise BadInput(f"An image_batch job has 1 to {OPERATIONS_MOST} operations.")
    for operation in found.operations:
        _check_operation(operation)
    _check_order(found.operations)
    if not 1 <= found.pixels_most <= PIXELS_MOST:
        raise BadInput(f"pixels_most must be between 1 and {PIXELS_MOST}.")
    check_name_pattern(found.pattern)
    if found.sheet is not None and re.sub(re.escape(EXTENSION), "", found.pattern).count("{"):
        raise BadInput("There is one contact sheet, so its name stands for no single input.")
    return found


def output_of(payload: ImagePayload, item: str, index: int) -> Output:
    """Name and format of what an input becomes; `index` counts inputs. Raises BadInput."""
    extension = payload.extension_for(item)
    if not extension and EXTENSION in payload.pattern:
        raise _no_format(item)
    name = fill_name(payload.pattern, item, index, extension)
    by_name = FORMAT_OF.get(extension_of(name))
    convert = payload.convert
    if convert is not None:
        if by_name not in {None, convert.format}:
            raise BadInput(
                f"The output {name[:80]!a} says {by_name}, but it is converted to {convert.format}."
            )
        return Output(name, convert.format)
    if by_name is None:
        raise _no_format(name)
    return Output(name, by_name)


def _no_format(name: str) -> BadInput:
    return BadInput(
        f"Nothing says in which format {name[:80]!a} is to be written.",
        hint=f"If it is an image, convert it, for instance to jpeg. Known: {', '.join(FORMATS)}.",
    )


def sheet_grid(sheet: ContactSheet, count: int) -> tuple[int, int]:
    """Columns and rows."""
    columns = min(sheet.columns or math.ceil(math.sqrt(count)), max(1, count))
    return columns, -(-count // columns)


def label_height(sheet: ContactSheet) -> int:
    """Pixels below a cell for its label."""
    return 0 if sheet.labels == "none" else max(14, min(28, sheet.width // 14))


def sheet_size(sheet: ContactSheet, count: int) -> tuple[int, int]:
    """Width and height of the whole, pixels."""
    columns, rows = sheet_grid(sheet, count)
    return (
        columns * (sheet.width + sheet.gap) + sheet.gap,
        rows * (sheet.height + label_height(sheet) + sheet.gap) + sheet.gap,
    )


def sheet_payload(overview: Overview, titles: tuple[str, ...], pixels_most: int) -> dict[str, Any]:
    """The payload of the job that makes the sheet."""
    sheet = msgspec.structs.replace(overview.sheet, titles=titles)
    found: dict[str, Any] = msgspec.to_builtins(
        {"operations": [sheet], "output": overview.output, "pixels_most": pixels_most}
    )
    return found


def _check_overview(payload: ImagePayload, overview: Overview, count: int) -> None:
    _check_count(count)
    _check_operation(overview.sheet)
    if "/" in overview.output or "{" in overview.output:
        raise BadInput("The output of an overview is the name of one file.")
    sheet_job = read_images(sheet_payload(overview, (), payload.pixels_most))
    _check_sheet_size(sheet_job, overview.sheet, count)


def _check_count(count: int) -> None:
    if count > SHEET_IMAGES_MOST:
        raise TooLarge(f"{count} images are too many for one sheet; {SHEET_IMAGES_MOST} is the limit.")


def _check_sheet_size(payload: ImagePayload, sheet: ContactSheet, count: int) -> None:
    width, height = sheet_size(sheet, count)
    most = SIDE_MOST.get(output_of(payload, "", 0).format, SIDE)
    if max(width, height) > most or width * height > payload.pixels_most:
        raise TooLarge(
            f"The contact sheet would have {width}×{height} pixels.",
            hint="Take smaller cells, another number of columns, or several jobs.",
        )


def _check_operation(operation: Operation) -> None:
    match operation:
        case Resize():
            _check_resize(operation)
        case Thumbnail(size):
            _within("size of a thumbnail", size, 1, SIDE)
        case Convert():
            _check_convert(operation)
        case Crop(width, height, left, top):
            _within("width of a crop", width, 1, SIDE)
            _within("height of a crop", height, 1, SIDE)
            if (left is None) != (top is None):
                raise BadInput("A crop has both left and top, or neither.")
            _within("left edge of a crop", left or 0, 0, SIDE)
            _within("top edge of a crop", top or 0, 0, SIDE)
        case Rotate(degrees, background):
            if not math.isfinite(degrees) or abs(degrees) > 36_000:
                raise BadInput("An image can be rotated by -36000 to 36000 degrees.")
            _check_colour(background)
        case ContactSheet():
            _within("number of columns", operation.columns, 0, SHEET_IMAGES_MOST)
            _within("width of a cell", operation.width, 16, 4096)
            _within("height of a cell", operation.height, 16, 4096)
            _within("gap between cells", operation.gap, 0, 1000)
            _check_colour(operation.background)
        case Strip():
            pass


def _check_resize(wanted: Resize) -> None:
    if wanted.percent:
        if wanted.width or wanted.height:
            raise BadInput("A resize has a percent, or a width and height, not both.")
        if not 0 < wanted.percent <= 1000:
            raise BadInput("An image can be resized to 1000 percent at most, and to more than none.")
        if wanted.percent > 100 and not wanted.enlarge:
            raise BadInput(
                f"{wanted.percent:g} percent is larger than the image.", hint="Say enlarge = true."
            )
        return
    _within("width of a resize", wanted.width, 0, SIDE)
    _within("height of a resize", wanted.height, 0, SIDE)
    if not (wanted.width or wanted.height):
        raise BadInput("A resize needs a width, a height or a percent.")
    if wanted.how != "fit" and not (wanted.width and wanted.height):
        raise BadInput(f"A resize that is to {wanted.how} needs both width and height.")


def _check_convert(wanted: Convert) -> None:
    if wanted.format not in FORMATS:
        meant = FORMAT_OF.get(wanted.format.lower().removeprefix("."))
        hint = f"Say '{meant}'." if meant else f"Known: {', '.join(FORMATS)}."
        raise BadInput(f"Images cannot be converted to {wanted.format[:40]!a}.", hint=hint)
    _within("quality", wanted.quality, 0, 100)
    if wanted.lossless and wanted.format not in {"webp", "avif"}:
        raise BadInput(f"lossless is for webp and avif, not for {wanted.format}.")
    _check_colour(wanted.background)


def _check_order(operations: tuple[Operation, ...]) -> None:
    sheets = [place for place, each in enumerate(operations) if isinstance(each, ContactSheet)]
    if len(sheets) > 1:
        raise BadInput("A job makes one contact sheet only.")
    if sheets and not all(isinstance(each, Convert) for each in operations[sheets[0] + 1 :]):
        raise BadInput("Behind contact_sheet only convert may stand: the sheet's own format.")


def _check_colour(text: str) -> None:
    if _COLOUR.fullmatch(text) is None:
        raise BadInput(f"{text[:40]!a} is not a colour.", hint="Say it like white or #1e2a38.")


def _within(what: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        raise BadInput(f"The {what} must be between {least} and {most}.")


def _name_of(operation: Operation) -> str:
    return str(operation.__struct_config__.tag)


def _show(operation: Operation) -> str:
    """`resize 800×600 fill`, `convert webp 80`."""
    match operation:
        case Resize():
            size = f"{operation.percent:g}%" if operation.percent else _box(operation.width, operation.height)
            return f"resize {size}" + ("" if operation.how == "fit" else f" {operation.how}")
        case Thumbnail(size, square):
            return f"thumbnail {size}" + (" square" if square else "")
        case Convert(kind, quality):
            return f"convert {kind}" + (f" {quality}" if quality else "")
        case Crop(width, height, left, top):
            return f"crop {width}×{height}" + ("" if left is None else f"+{left}+{top}")
        case Rotate(degrees):
            return f"rotate {degrees:g}" if degrees else "rotate upright"
        case _:
            return _name_of(operation).replace("_", " ")


def _box(width: int, height: int) -> str:
    return f"{width or ''}×{height or ''}"
