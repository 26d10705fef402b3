"""The job type `command`: a program with arguments, or one line for the shell.

An argv of a single text with blanks in it is a line for the shell; all others are started as they
are, without a shell.
"""

from __future__ import annotations

import shlex
import sys
from typing import Any

import msgspec

from planetmesh.errors import BadInput
from planetmesh.jobtypes.contract import (
    Launch,
    Value,
    check_inputs,
    check_launch,
    check_texts,
    read_payload,
    value_of,
)
from planetmesh.jobtypes.replace import fill_arguments, fill_posix_line, fill_windows_line
from planetmesh.model.job import JobSpec
from planetmesh.wire.api import Parse

POSIX_SHELL = ("/bin/sh", "-c")
WINDOWS_SHELL = ("cmd.exe", "/d", "/v:on", "/s", "/c")


class CommandPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    argv: tuple[str, ...]


class Command:
    """See the module."""

    name = "command"

    def check(self, spec: JobSpec) -> None:
        _read(spec.payload)
        check_inputs(spec, self)

    def launch(self, payload: dict[str, Any], items: tuple[str, ...], index: int) -> Launch:
        argv = _read(payload)
        if not _is_line(argv):
            return check_launch(Launch(fill_arguments(argv, items, index)), "command")
        if sys.platform == "win32":
            line = fill_windows_line(argv[0], items, index)
            return check_launch(Launch((*WINDOWS_SHELL, line.text), line.env), "command")
        line = fill_posix_line(argv[0], items, index)
        return check_launch(Launch((*POSIX_SHELL, line.text), line.env), "command")

    def describe(self, payload: dict[str, Any], items: tuple[str, ...] = (), index: int = 0) -> str:
        argv = _read(payload)
        if not _is_line(argv):
            return shlex.join(fill_arguments(argv, items, index))
        quoted = tuple(shlex.quote(item) for item in items)
        return " ".join(fill_arguments(argv, quoted, index))

    def gather(self, stdout: bytes, parse: Parse, *, is_cut: bool) -> Value:
        return value_of(stdout, parse, is_cut=is_cut)


def _read(payload: dict[str, Any]) -> tuple[str, ...]:
    argv = read_payload(payload, CommandPayload, Command.name).argv
    if not argv or not argv[0].strip():
        raise BadInput("The command is empty.", hint="Name a program: planetmesh run CMD ARG…")
    check_texts(argv, "command")
    return argv


def _is_line(argv: tuple[str, ...]) -> bool:
    return len(argv) == 1 and any(letter.isspace() for letter in argv[0])
