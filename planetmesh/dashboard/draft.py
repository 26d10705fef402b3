"""A job as it was typed into the form, and how its fields are read. Pure; a `Maker` makes a job of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Protocol

import msgspec

from planetmesh.client.plan import Plan
from planetmesh.dashboard.plain import BAD, DIM, GOOD, WARN, Cell, cell, count_of, plain
from planetmesh.errors import BadInput
from planetmesh.jobtypes.replace import STRINGS
from planetmesh.model.job import JobSpec, One
from planetmesh.model.resources import show_resources, show_size

_SHELL = re.compile(r"[|&;<>$`()*?~]")
"""What only a shell understands."""
_RANGE = re.compile(r"\s*-?\d{1,18}\.\.-?\d{1,18}(?::-?\d{1,18})?\s*")
NOTES_MOST = 3


class Draft(msgspec.Struct, frozen=True):
    """The form's fields, as texts."""

    command: str = ""
    """With a script: its arguments."""
    script: str = ""
    inputs: str = ""
    name: str = ""
    node: str = ""
    cpus: str = ""
    memory: str = ""
    gpus: str = ""
    tags: str = ""
    timeout: str = ""
    retries: str = ""
    priority: str = ""
    take: str = ""
    """Files to take along, with blanks between."""
    bring: str = ""
    """Patterns of files to keep for `planetmesh fetch`."""


class Order(Protocol):
    """A job that is ready to be sent."""

    @property
    def spec(self) -> JobSpec: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


Maker = Callable[[Draft], Order]
"""Checks a draft and looks at the files that it names; raises MeshError. Blocks on the disk."""


def command_words(line: str) -> tuple[str, ...]:
    """Program and arguments, or one line for the shell if it has what only a shell understands."""
    line = line.strip()
    bare = line
    for string in STRINGS:
        bare = bare.replace(string, "")
    if _SHELL.search(bare):
        return (line,)
    return words_of(line, "command")


def words_of(line: str, what: str) -> tuple[str, ...]:
    """Words with blanks between; quotes hold some together. Raises BadInput."""
    try:
        return tuple(shlex.split(line))
    except ValueError as error:
        raise BadInput(f"The {what} has a quote that is not closed.") from error


def inputs_of(text: str) -> tuple[str, tuple[str, ...]]:
    """A range like `1..100`, or one input a line; one of the two is empty."""
    lines = tuple(line for line in text.splitlines() if line.strip())
    if len(lines) == 1 and _RANGE.fullmatch(lines[0]):
        return lines[0].strip(), ()
    return "", lines


def whole_number(text: str, what: str, least: int, most: int) -> int | None:
    """None for an empty text; raises BadInput for what is no whole number between the two."""
    if not text.strip():
        return None
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise BadInput(f"'{text.strip()}' is not a number of {what}.", hint=f"Say {least} to {most}.")
    return number


def order_lines(order: Order) -> list[Cell]:
    """What would be handed in, in words."""
    spec = order.spec
    tasks = "one task:" if isinstance(spec.inputs, One) else count_of(spec.task_count, "task") + ", each"
    files = f", at most {show_size(order.plan.size)} of files to send" if order.plan else ""
    lines: list[Cell] = [((f"✓ {tasks} {show_resources(spec.requests)}{files}", GOOD),)]
    lines += [cell(note, WARN) for note in order.notes[:NOTES_MOST]]
    return lines


def problem_lines(message: str, hint: str) -> list[Cell]:
    return [(("✗ ", BAD), (plain(message, 400), BAD), (f"  {plain(hint, 400)}", DIM))]
