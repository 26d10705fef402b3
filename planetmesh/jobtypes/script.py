"""The job type `script`: a text that travels with the job and is run by an interpreter on the node.

The interpreter is the given one, else the one of the `#!` line, else the usual one for the name's
extension. The script lies in the job's folder, one copy for all tasks of the job on that node.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import PurePosixPath
from typing import Any

import msgspec

from planetmesh.errors import BadInput, TooLarge
from planetmesh.jobtypes.contract import (
    JobFile,
    JobType,
    Launch,
    LaunchFile,
    check_inputs,
    check_launch,
    check_texts,
    kind_of,
    read_payload,
)
from planetmesh.jobtypes.replace import fill_arguments
from planetmesh.model.job import JobSpec

SOURCE_MOST_BYTES = 1024 * 1024
NAME_MOST_LETTERS = 100
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_PYTHON = "python" if sys.platform == "win32" else "python3"
_BY_EXTENSION = {
    ".py": (_PYTHON,),
    ".sh": ("sh",),
    ".bash": ("bash",),
    ".zsh": ("zsh",),
    ".pl": ("perl",),
    ".rb": ("ruby",),
    ".js": ("node",),
    ".mjs": ("node",),
    ".php": ("php",),
    ".lua": ("lua",),
    ".r": ("Rscript",),
    ".jl": ("julia",),
    ".ps1": ("powershell" if sys.platform == "win32" else "pwsh", "-File"),
}
"""Not .cmd and .bat: their interpreter reads arguments as code, so no input could be given safely."""


class ScriptPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: str
    interpreter: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    name: str = "script"


class Script(JobType):
    """See the module."""

    name = "script"

    def check(self, spec: JobSpec) -> None:
        _read(spec.payload)
        check_inputs(spec, self)

    def launch(self, payload: dict[str, Any], items: tuple[str, ...], index: int) -> Launch:
        script = _read(payload)
        name = file_name(script.name)
        argv: tuple[str | JobFile, ...] = (
            *interpreter_of(script),
            JobFile(name),
            *fill_arguments(script.args, items, index),
        )
        files = (LaunchFile(name, script.source.encode(), executable=True),)
        return check_launch(Launch(argv, {}, files), "script's arguments")

    def describe(self, payload: dict[str, Any], items: tuple[str, ...] = (), index: int = 0) -> str:
        script = _read(payload)
        return shlex.join((script.name, *fill_arguments(script.args, items, index)))

    def kind(self, payload: dict[str, Any]) -> str:
        return kind_of(self.name, _read(payload).name)


def interpreter_of(script: ScriptPayload) -> tuple[str, ...]:
    """Raises BadInput if nothing tells which program is to run the script."""
    found = script.interpreter or _from_first_line(script.source) or _from_name(script.name)
    if found:
        return found
    raise BadInput(
        f"Nothing says which program runs the script '{script.name}'.",
        hint="Begin it with a line like `#!/usr/bin/env python3`, or give its name an extension like .py.",
    )


def file_name(name: str) -> str:
    """The name under which it lies on the node: plain letters only, never hidden, never an option."""
    last = _NOT_IN_NAMES.sub("_", PurePosixPath(name.replace("\\", "/")).name)[-NAME_MOST_LETTERS:]
    return f"script-{last}" if not last[:1].isalnum() or _is_device(last) else last.rstrip(".")


def _is_device(name: str) -> bool:
    """Windows opens its old devices by these names, whatever the extension."""
    stem = name.split(".", 1)[0].upper()
    return stem in {"CON", "PRN", "AUX", "NUL"} or re.fullmatch(r"(COM|LPT)\d", stem) is not None


def _from_first_line(source: str) -> tuple[str, ...]:
    """`#!/usr/bin/env -S python3 -u` means python3 wherever it is; a full path means itself."""
    if not source.startswith("#!"):
        return ()
    words = source[2:].split("\n", 1)[0].split()
    if words and PurePosixPath(words[0]).name == "env":
        words = words[2:] if words[1:2] == ["-S"] else words[1:]
    if words and sys.platform == "win32":
        words[0] = PurePosixPath(words[0]).name
    return tuple(words)


def _from_name(name: str) -> tuple[str, ...]:
    return _BY_EXTENSION.get(PurePosixPath(name).suffix.lower(), ())


def _read(payload: dict[str, Any]) -> ScriptPayload:
    script = read_payload(payload, ScriptPayload, Script.name)
    if not script.source.strip():
        raise BadInput("The script is empty.")
    check_texts((*script.interpreter, *script.args, script.name), "script's command")
    try:
        size = len(script.source.encode())
    except UnicodeEncodeError as error:
        raise BadInput("The script holds text that is not valid Unicode.") from error
    if size > SOURCE_MOST_BYTES:
        raise TooLarge(f"The script is {size} bytes long; {SOURCE_MOST_BYTES} is the limit.")
    if script.interpreter and not script.interpreter[0].strip():
        raise BadInput("The script's interpreter is empty.")
    interpreter_of(script)
    return script
