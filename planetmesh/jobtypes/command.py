"""The job type `command`: a program with arguments, or one line for the shell.

An argv of a single text with blanks in it is a line for the shell; all others are started as they
are, without a shell.
"""

from __future__ import annotations

import re
import shlex
import sys
from typing import Any

import msgspec

from planetmesh.errors import BadInput
from planetmesh.jobtypes.contract import (
    JobType,
    Launch,
    check_inputs,
    check_launch,
    check_texts,
    kind_of,
    read_payload,
)
from planetmesh.jobtypes.replace import (
    check_computed,
    check_line_of_many,
    fill_arguments,
    fill_posix_line,
    fill_windows_line,
)
from planetmesh.model.job import Items, JobSpec

POSIX_SHELL = ("/bin/sh", "-c")
WINDOWS_SHELL = ("cmd.exe", "/d", "/v:on", "/s", "/c")
_SETTING = re.compile(r"""[A-Za-z_]\w*=(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\])*\s+""", re.ASCII)
_OPENING = re.compile(r"(?:[\s(!]|\{\s)*")
_WORD = re.compile(r"[^\s;|&<>()]+")


class CommandPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    argv: tuple[str, ...]


class Command(JobType):
    """See the module."""

    name = "command"

    def check(self, spec: JobSpec) -> None:
        argv = _read(spec.payload)
        if spec.chunk != 1 and _is_line(argv):
            check_line_of_many(argv[0])
        elif _is_line(argv) and isinstance(spec.inputs, Items):
            check_computed(argv[0], spec.inputs.items)
        check_inputs(spec, self)

    def launch(self, payload: dict[str, Any], items: tuple[str, ...], index: int) -> Launch:
        argv = _read(payload)
        if not _is_line(argv):
            return check_launch(Launch(fill_arguments(argv, items, index)), "command")
        if sys.platform == "win32":
            line = fill_windows_line(argv[0], items, index)
            return check_launch(Launch((*WINDOWS_SHELL, line.text), line.env), "command")
        line = fill_posix_line(argv[0], items, index)
        # What follows the line is the shell's $0 and then its arguments, which are never read as code.
        arguments = ("sh", *line.arguments) if line.arguments else ()
        return check_launch(Launch((*POSIX_SHELL, line.text, *arguments), line.env), "command")

    def describe(self, payload: dict[str, Any], items: tuple[str, ...] = (), index: int = 0) -> str:
        argv = _read(payload)
        if not _is_line(argv):
            return shlex.join(fill_arguments(argv, items, index))
        quoted = (" ".join(map(shlex.quote, items)),) if items else ()
        return " ".join(fill_arguments(argv, quoted, index))

    def kind(self, payload: dict[str, Any]) -> str:
        argv = _read(payload)
        return kind_of(self.name, _first_word(argv[0]) if _is_line(argv) else argv[0])


def _read(payload: dict[str, Any]) -> tuple[str, ...]:
    argv = read_payload(payload, CommandPayload, Command.name).argv
    if not argv or not argv[0].strip():
        raise BadInput("The command is empty.", hint="Name a program: planetmesh run CMD ARG…")
    check_texts(argv, "command")
    return argv


def _is_line(argv: tuple[str, ...]) -> bool:
    return len(argv) == 1 and any(letter.isspace() for letter in argv[0])


def _first_word(line: str) -> str:
    """The program that a line for the shell names first; `VAR=x` before it is not one."""
    opening = _OPENING.match(line)
    position = opening.end() if opening else 0
    while setting := _SETTING.match(line, position):
        position = setting.end()
    word = _WORD.search(line, position)
    return word[0].strip("'\"") if word else ""
