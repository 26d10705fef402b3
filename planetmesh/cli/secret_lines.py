"""Secrets that come as one line, from stdin or a private file.

Never as an argument of the command line, which every user of the machine can read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from planetmesh.errors import BadInput
from planetmesh.paths import refuse_if_shared

LINE_MOST_BYTES = 4096


def line_of_stdin() -> bytes:
    return sys.stdin.buffer.readline(LINE_MOST_BYTES)


def line_of_file(path: Path, what: str) -> bytes:
    """Its first line; raises UnsafeHome if others can read the file, BadInput if we cannot."""
    try:
        if path.is_file() and os.name == "posix":
            refuse_if_shared(path)
        with path.open("rb") as file:
            return file.readline(LINE_MOST_BYTES)
    except OSError as error:
        raise BadInput(f"The {what} file {path} cannot be read: {error.strerror}.") from error


def is_asked() -> bool:
    """Somebody sits there who can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()
