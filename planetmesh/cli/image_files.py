"""Which images a command line means: files, folders, patterns; and what their results will be called."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from planetmesh.errors import BadInput, Conflict, NotFound
from planetmesh.jobtypes.image_batch import FORMAT_OF, ImagePayload, output_of
from planetmesh.jobtypes.output_name import extension_of

ALSO_READ = frozenset({"mpo", "dib", "ppm", "pgm", "pbm", "jp2", "ico", "tga", "psd", "qoi"})
"""Extensions of images that can be read and not written."""
_MAGIC = re.compile(r"[*?[]")
_NUMBER = re.compile(r"(\d+)")
SHOWN = 3


def find_images(given: Sequence[str]) -> list[str]:
    """The files that are meant, each once, in the order in which they were named.

    Of folders all below them that is called like an image, hidden ones left out. Raises NotFound.
    """
    found: dict[str, None] = {}
    for name in given:
        found.update(dict.fromkeys(_find(name)))
    if not found:
        raise BadInput(
            "There are no images: nothing would be done.",
            hint="Say it like: planetmesh images --resize 1600 -o small *.jpg",
        )
    for name in found:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(name).decode(errors="replace")
            raise BadInput(f"The name of {shown} is not valid UTF-8.", hint="Rename it.") from error
    return list(found)


def _find(name: str) -> list[str]:
    path = Path(name)
    if path.is_dir():
        below = sorted(_images_below(name), key=_natural)
        if not below:
            raise NotFound(
                f"There is no image in the folder {name}.",
                hint=f"Looked for by their names: .{', .'.join(sorted(FORMAT_OF))} and some more.",
            )
        return below
    if os.path.lexists(path):
        return [name]
    if _MAGIC.search(name):
        matches = glob.glob(name, recursive=True)  # noqa: PTH207  a Path takes no absolute patterns
        files = sorted((each for each in matches if Path(each).is_file()), key=_natural)
        if files:
            return files
        raise NotFound(f"No file matches '{name}'.", hint="** means folders at any depth.")
    raise NotFound(f"There is no file '{name}'.", hint="Names are relative to the folder that you are in.")


def _images_below(folder: str) -> Iterator[str]:
    for above, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for name in files:
            if not name.startswith(".") and extension_of(name) in FORMAT_OF.keys() | ALSO_READ:
                yield os.path.join(above, name)  # noqa: PTH118  as it was given


def _natural(name: str) -> list[tuple[int, int | str]]:
    """`img9` before `img10`."""
    return [(0, int(part)) if part.isdecimal() else (1, part.casefold()) for part in _NUMBER.split(name)]


def usual_pattern(items: Sequence[str]) -> str:
    """Names alone, or with their folders where two files would have one name."""
    names = [item.rpartition("/")[2].casefold() for item in items]
    return "{/.}.{ext}" if len(set(names)) == len(names) else "{.}.{ext}"


def result_names(payload: ImagePayload, items: Sequence[str]) -> list[str]:
    return [output_of(payload, item, index).name for index, item in enumerate(items)]


def refuse_existing(paths: Sequence[Path]) -> None:
    """Raise Conflict for what lies where a result is to be, before anything is sent."""
    there = [str(path) for path in paths if os.path.lexists(path)]
    if not there:
        return
    more = f" and {len(there) - SHOWN} more" if len(there) > SHOWN else ""
    verb = "exists" if len(there) == 1 else "exist"
    raise Conflict(
        f"{', '.join(there[:SHOWN])}{more} {verb} already; nothing was sent.",
        hint="-o DIR names another folder, --overwrite replaces them, --only-new leaves such images out.",
    )
