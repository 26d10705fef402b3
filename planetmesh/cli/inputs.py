"""What a job's tasks get: `:::` lists, lines of a file, a range, JSON items, files. One source only.

Several `:::` lists give every combination, the last list changing fastest, joined by one blank. Called by
`run` and `submit`; everything wrong is said before anything is sent.
"""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from planetmesh.errors import BadInput, TooLarge
from planetmesh.jobtypes.replace import STRINGS
from planetmesh.model.job import Inputs, Items, One, Range
from planetmesh.settings import Settings

MARK = ":::"
_POSITION = re.compile(r"\{\d+[./#]*\}")
_RANGE = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})(?::(-?\d{1,18}))?")
_UNKNOWN_MARKS = {
    "::::": "To read inputs from a file: --lines FILE.",
    ":::+": "Linked lists are not known; give the pairs with --lines FILE.",
    "::::+": "Linked lists are not known; give the pairs with --lines FILE.",
}


@dataclass(frozen=True)
class Sources:
    """Where inputs may come from; at most one may be given."""

    lists: tuple[tuple[str, ...], ...] = ()
    lines: str | None = None
    range: str | None = None
    json_items: str | None = None
    globs: tuple[str, ...] = ()
    folder: Path = Path()
    """Where relative `globs` begin."""


def split_command(arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The command and its `:::` lists. Raises BadInput for an empty list."""
    for mark, hint in _UNKNOWN_MARKS.items():
        if mark in arguments:
            raise BadInput(f"'{mark}' is not known here.", hint=hint)
    parts: list[list[str]] = [[]]
    for argument in arguments:
        if argument == MARK:
            parts.append([])
        else:
            parts[-1].append(argument)
    command, *lists = (tuple(part) for part in parts)
    if any(not inputs for inputs in lists):
        raise BadInput(
            "There are no inputs after ':::'.", hint="Say it like: planetmesh run gzip ::: a.txt b.txt"
        )
    return command, tuple(lists)


def read_inputs(sources: Sources) -> Inputs:
    """The job's inputs; a job without any source has a single task."""
    given = [
        name
        for name, value in (
            (MARK, sources.lists),
            ("--lines", sources.lines),
            ("--range", sources.range),
            ("--json-items", sources.json_items),
            ("--glob", sources.globs),
        )
        if value
    ]
    if len(given) > 1:
        raise BadInput(f"Inputs come from one place only, not from {' and '.join(given)}.")
    inputs = _read_given(sources)
    if inputs.count == 0:
        raise BadInput("There are no inputs: nothing would run.")
    _refuse_too_many(inputs.count)
    return inputs


def _read_given(sources: Sources) -> Inputs:
    if sources.lists:
        return combine(sources.lists)
    if sources.range:
        return parse_range(sources.range)
    if sources.lines:
        return Items(tuple(_lines(_read(sources.lines, "--lines"), sources.lines)))
    if sources.json_items:
        return Items(tuple(_json_items(_read(sources.json_items, "--json-items"), sources.json_items)))
    if sources.globs:
        return find_files(sources.globs, sources.folder)
    return One()


def find_files(patterns: Sequence[str], folder: Path = Path()) -> Items:
    """The files below `folder` that match, sorted, each once. Every pattern must find some."""
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = glob.iglob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207  a Path takes no absolute patterns
        named = (name for name in matches if (folder / name).is_file())
        files = list(itertools.islice(named, Settings().tasks_most + 1))
        found.update(dict.fromkeys(files))
        if not files:
            raise BadInput(
                f"--glob: no file matches '{pattern}'.",
                hint="Quote it, lest the shell puts names in its place; ** means folders at any depth.",
            )
        _refuse_too_many(len(found))
    for name in found:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(name).decode(errors="replace")
            raise BadInput(f"--glob: the name of {shown} is not valid UTF-8.") from error
    return Items(tuple(sorted(found)))


def combine(lists: Sequence[Sequence[str]]) -> Items:
    """Every combination, as GNU parallel orders them."""
    _refuse_too_many(math.prod(len(inputs) for inputs in lists))
    return Items(tuple(" ".join(each) for each in itertools.product(*lists)))


def refuse_positions(command: Sequence[str], lists: Sequence[Sequence[str]]) -> None:
    """GNU parallel's `{1} {2}` would stay as they are: better said than run."""
    text = " ".join(command)
    position = _POSITION.search(text)
    if len(lists) > 1 and position and not any(each in text for each in STRINGS):
        raise BadInput(
            f"{position[0]} is not replaced here: {{}} is the whole combination, joined by one blank.",
            hint="The shell can take it apart: 'echo {} | { read x y; echo $x-$y; }' ::: a b ::: 1 2",
        )


def parse_range(text: str) -> Range:
    """`A..B` or `A..B:STEP`, both ends included."""
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise BadInput(f"'{text}' is not a range.", hint="Say it like 1..100 or 0..100:5 or 10..1:-1.")
    first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
    found = Range(first, last, step)
    if found.count == 0:
        why = "its step is zero" if step == 0 else "its step leads away from its end"
        raise BadInput(f"The range '{text}' is empty: {why}.", hint="To count down: 10..1:-1.")
    return found


def _refuse_too_many(count: int) -> None:
    most = Settings().tasks_most
    if count > most:
        raise TooLarge(
            f"This would be {count:,} tasks; one job holds at most {most:,}.".replace(",", " "),
            hint="--chunk N gives each task N of the inputs; else make several jobs of it.",
        )


def _read(name: str, option: str) -> bytes:
    most = Settings().api_body_most_bytes
    try:
        if name == "-":
            content = sys.stdin.buffer.read(most + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(most + 1)
    except OSError as error:
        raise BadInput(f"{option}: {name} cannot be read: {error.strerror}.") from error
    if len(content) > most:
        raise TooLarge(f"{option}: {name} is longer than {most} bytes.", hint="Make several jobs of it.")
    return content


def _lines(content: bytes, name: str) -> Iterable[str]:
    """Blank lines are no inputs."""
    for number, line in enumerate(content.split(b"\n"), start=1):
        bare = line.removesuffix(b"\r")
        if not bare.strip():
            continue
        try:
            yield bare.decode()
        except UnicodeDecodeError as error:
            raise BadInput(f"Line {number} of {name} is not valid UTF-8.") from error


def _json_items(content: bytes, name: str) -> Iterable[str]:
    """A JSON array, or one JSON value a line. Texts stand for themselves, all else as JSON."""
    try:
        if content.lstrip().startswith(b"["):
            values = msgspec.json.decode(content, type=list[Any])
        else:
            values = msgspec.json.Decoder().decode_lines(content)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise BadInput(
            f"{name} is not JSON: {error}", hint="Give an array like [1, 2] or one JSON value a line."
        ) from error
    for value in values:
        yield value if isinstance(value, str) else msgspec.json.encode(value).decode()
