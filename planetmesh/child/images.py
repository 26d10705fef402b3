"""The work of the job type `image_batch`: one image after the other; a broken one is said and passed over.

Images are read in a process of their own (apart.py): one that kills its decoder fails alone, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageSequence

assert sys.platform != "win32"  # for the type checker: calls are made in forked workers

from planetmesh.child.apart import Died, allowance, one_by_one
from planetmesh.child.call import Call
from planetmesh.child.contact_sheet import Sheet
from planetmesh.child.image_open import (
    FRAMES_MOST,
    ImageRefused,
    opened,
    refuse_too_large,
    refusing,
    register_formats,
)
from planetmesh.child.image_ops import apply, ready
from planetmesh.child.image_save import MOVING, save
from planetmesh.errors import BadInput
from planetmesh.jobtypes.image_batch import (
    ContactSheet,
    Convert,
    ImagePayload,
    Operation,
    Output,
    Resize,
    output_of,
    read_images,
)
from planetmesh.wire.calls import Fault

BROKEN = "ImageRefused"
BASE_BYTES = 512 * 1024 * 1024
BYTES_PER_PIXEL = 32
"""An image in work has two or three copies of at most eight bytes a pixel: more is an attack."""


def run(call: Call) -> None:
    """Each item's value: {"input", "output", "width", "height", "bytes"}; with a sheet, its place too."""
    register_formats()
    folder = Path(call.folder)
    payload = read_images(call.payload)
    call.failing = "images cannot be used"
    if payload.sheet is not None:
        _make_sheet(call, payload, payload.sheet)
        return

    def make(number: int) -> dict[str, Any]:
        item = call.items[number]
        output = output_of(payload, item, call.index * payload.chunk + number)
        frames = _make(folder / item, payload, output)
        size = save(frames, folder, output.name, output.format, payload.convert)
        width, height = frames[0].size
        return {"input": item, "output": output.name, "width": width, "height": height, "bytes": size}

    for number, (made, refused) in enumerate(_apart(call, payload, make)):
        if refused is None:
            call.emit(made, number)
        else:
            _emit_refused(call, number, refused)


def _apart(
    call: Call, payload: ImagePayload, make: Callable[[int], Any]
) -> Iterator[tuple[Any, ImageRefused | None]]:
    """What comes of each image, or why nothing: images of strangers, read where they can do no harm."""

    def work(number: int) -> tuple[Any, str, bool]:
        try:
            return make(number), "", False
        except BadInput as error:
            return None, str(error), False
        except ImageRefused as error:
            if isinstance(error.__cause__, MemoryError):
                raise error.__cause__ from None
            return None, str(error), error.is_passing

    memory_bytes = allowance(call.memory_bytes, BASE_BYTES + BYTES_PER_PIXEL * payload.pixels_most)
    for found in one_by_one(len(call.items), work, memory_bytes):
        if isinstance(found, Died):
            yield None, ImageRefused(found.sentence, is_passing=found.is_passing)
        else:
            made, sentence, is_passing = found
            yield made, ImageRefused(sentence, is_passing=is_passing) if sentence else None


def _emit_refused(call: Call, number: int, error: ImageRefused) -> None:
    fault = Fault(BROKEN, f"{call.items[number][:200]}: {error}")
    call.emit_error(fault, number, is_final=not error.is_passing)


def _make(path: Path, payload: ImagePayload, output: Output) -> Sequence[Image.Image]:
    """The finished frames of one image: more than one only if it moves and its new format can."""
    operations = _steps(payload.operations)
    with opened(path, payload.pixels_most) as image:
        count = getattr(image, "n_frames", 1) if getattr(image, "is_animated", False) else 1
        if count == 1 or output.format not in MOVING:
            return [_finish(ready(image, operations[0] if operations else None), operations, payload)]
        if count > FRAMES_MOST:
            raise ImageRefused(f"It has {count} frames; {FRAMES_MOST} is the limit.")
        refuse_too_large((image.width, image.height * count), payload.pixels_most, "All its frames have")
        kept = ("loop", "icc_profile")
        about: dict[str | tuple[int, int], Any] = {
            name: image.info[name] for name in kept if name in image.info
        }
        frames = []
        for frame in ImageSequence.Iterator(image):
            made = _finish(ready(frame), operations, payload)
            made.info = {**about, **made.info, "duration": frame.info.get("duration")}
            frames.append(made)
        return frames


def _finish(image: Image.Image, operations: Sequence[Operation], payload: ImagePayload) -> Image.Image:
    with refusing():
        for operation in operations:
            image = apply(image, operation, payload.pixels_most)
    return image


def _steps(operations: Sequence[Operation]) -> list[Operation]:
    """What changes pixels; the format comes in at the end."""
    return [each for each in operations if not isinstance(each, Convert | ContactSheet)]


def _make_sheet(call: Call, payload: ImagePayload, wanted: ContactSheet) -> None:
    """One sheet of all images. Broken ones get a mark in their place; if all are, there is no sheet."""
    output, folder = output_of(payload, "", 0), Path(call.folder)
    sheet = Sheet(wanted, len(call.items))
    places: list[tuple[int, int]] = []
    faults: dict[int, ImageRefused] = {}

    def make(number: int) -> tuple[str, tuple[int, int], bytes]:
        cell = _cell(folder / call.items[number], payload, wanted)
        cell = cell.convert("RGBA" if cell.mode in {"RGBA", "LA"} else "RGB")
        return cell.mode, cell.size, cell.tobytes()

    for number, (made, refused) in enumerate(_apart(call, payload, make)):
        item, picture = call.items[number], None
        if refused is None:
            picture = Image.frombytes(*made)
        else:
            faults[number] = refused
            print(f"{item}: {refused}", file=sys.stderr)
        places.append(sheet.put(number, wanted.titles[number] if wanted.titles else item, picture))
    if len(faults) == len(call.items):
        for number, refusal in faults.items():
            _emit_refused(call, number, refusal)
        return
    size = save([sheet.image], folder, output.name, output.format, payload.convert)
    width, height = sheet.image.size
    for number, (item, (column, row)) in enumerate(zip(call.items, places, strict=True)):
        made = {"input": item, "output": output.name, "width": width, "height": height, "bytes": size}
        made |= {"column": column, "row": row}
        if number in faults:
            made["error"] = str(faults[number])
        call.emit(made, number)


def _cell(path: Path, payload: ImagePayload, wanted: ContactSheet) -> Image.Image:
    box = Resize(width=wanted.width, height=wanted.height)
    before = payload.operations[: payload.operations.index(wanted)]
    with opened(path, payload.pixels_most) as image, refusing():
        if not before and image.format == "JPEG":
            image.draft(None, (wanted.width, wanted.height))
        return _finish(ready(image), [*_steps(before), box], payload)
