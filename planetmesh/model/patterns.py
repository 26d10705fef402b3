"""Patterns of file names relative to a folder: `*.png`, `frames/[0-9]*.exr`, `out/**`, `out/`.

As a shell reads them: `*`, `?` and `[…]` stay within one part and leave names with a leading dot alone;
`**` is any number of parts. A pattern whose match is a folder means all that lies in it.
"""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache

from planetmesh.errors import BadInput

PATTERN_MOST_BYTES = 1024
PARTS_MOST = 32
ANY_DEPTH = "**"


def check_pattern(pattern: str) -> None:
    """Raise BadInput for what could never match a file below the folder."""
    shown = ascii(pattern[:80])
    if "\0" in pattern or len(pattern.encode("utf-8", "surrogatepass")) > PATTERN_MOST_BYTES:
        raise BadInput(f"The output pattern {shown} is too long or holds a NUL character.")
    parts = _parts(pattern)
    if pattern.startswith("/") or ".." in parts:
        raise BadInput(
            f"The output pattern {shown} leads out of the task's folder.",
            hint="Outputs are taken from the folder that a task starts in: give a relative pattern.",
        )
    if not parts or len(parts) > PARTS_MOST:
        raise BadInput(f"The output pattern {shown} is empty or has too many parts.")


def matches(pattern: str, name: str) -> bool:
    """Does the relative name of a file fall under the pattern, itself or by a folder above it?"""
    names = name.split("/")
    # All that lies in a matched folder is meant, so it is enough that the pattern covers a beginning.
    wanted = _compiled(pattern)
    ends = {len(names)} if pattern.endswith(f"/{ANY_DEPTH}") else range(1, len(names) + 1)
    return any(_covers(wanted, names[:end]) for end in ends)


def _parts(pattern: str) -> list[str]:
    return [part for part in pattern.split("/") if part not in {"", "."}]


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> tuple[re.Pattern[str] | None, ...]:
    """One expression a part; None for `**`, of which two side by side are one."""
    found: list[re.Pattern[str] | None] = []
    for part in _parts(pattern):
        if part != ANY_DEPTH:
            hidden = "" if part.startswith(".") else r"(?!\.)"
            found.append(re.compile(hidden + fnmatch.translate(part)))
        elif not found or found[-1] is not None:
            found.append(None)
    return tuple(found)


def _covers(wanted: tuple[re.Pattern[str] | None, ...], names: list[str]) -> bool:
    """Whether parts and names fit each other to the end of both, by the table of all beginnings."""
    reached = [True] + [False] * len(names)
    for part in wanted:
        if part is None:
            for place in range(1, len(names) + 1):
                may_pass = reached[place - 1] and not names[place - 1].startswith(".")
                reached[place] = reached[place] or may_pass
        else:
            reached = [False] + [
                reached[place] and part.match(name) is not None for place, name in enumerate(names)
            ]
    return reached[-1]
