"""How a failure looks: a sentence and a hint, or JSON; and where an unexpected one is kept.

Called by `main` when a command has failed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from planetmesh import __version__
from planetmesh.cli.face import Face
from planetmesh.logs import clean

SENTENCE_MOST_LETTERS = 4000
UNEXPECTED = 1


def show_error(code: str, message: str, hint: str, *, as_json: bool) -> None:
    """To stderr for people, to stdout with `--json`."""
    if as_json:
        from planetmesh.cli.output import write_json

        write_json({"error": {"code": code, "message": message, "hint": hint}})
        return
    from planetmesh.cli.output import wrapped

    print(wrapped(f"error: {_printable(message)}"), file=sys.stderr)
    if hint:
        print(wrapped(f"hint: {_printable(hint)}"), file=sys.stderr)


def show_crash(error: BaseException, face: Face) -> int:
    """A mistake of ours: one line, and the traceback in a file for the report."""
    kept = keep_traceback(error, face)
    where = f"The details are in {kept}." if kept else "The details could not be saved."
    sentence = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = f"{where} This is a mistake in planetmesh: please report it with that file."
    show_error("unexpected", f"Something unexpected happened: {sentence}", hint, as_json=face.json)
    return UNEXPECTED


def keep_traceback(error: BaseException, face: Face) -> Path | None:
    """Write it where only this user can read it: in the home's logs, else in a temporary file."""
    text = f"planetmesh {__version__}, Python {sys.version}, {sys.platform}\n\n"
    text += "".join(traceback.format_exception(error))
    name = f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    with contextlib.suppress(OSError, ImportError):
        folder = face.home.logs
        if folder.parent.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            return _write(
                os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), folder / name, text
            )
    with contextlib.suppress(OSError):
        descriptor, path = tempfile.mkstemp(prefix="planetmesh-crash-", suffix=".txt")
        return _write(descriptor, Path(path), text)
    return None


def _write(descriptor: int, path: Path, text: str) -> Path:
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    return path


def _printable(text: str) -> str:
    """Line by line: click's own messages have several, and none may carry a terminal's commands."""
    return "\n".join(clean(line, SENTENCE_MOST_LETTERS) for line in text.splitlines())
