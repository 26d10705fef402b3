"""Tasks' output on our own stdout and stderr: exact bytes for pipes, harmless text for terminals.

A terminal obeys what is written to it, and a task's output is a stranger's text: there only printable
characters, line ends and tabs pass, unless the user asks for `--raw`. With `--json` each piece is one object.
"""

from __future__ import annotations

import codecs
import os
import sys
import unicodedata
from base64 import b64encode
from typing import IO

from planetmesh.cli.output import Printer
from planetmesh.wire.api import OutputPiece

STDOUT, STDERR = 1, 2
NAMES = {STDOUT: "stdout", STDERR: "stderr"}
_PASS = frozenset("\n\t\r")
_UNFIT = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_ASCII_UNFIT = {
    number: "\N{REPLACEMENT CHARACTER}" for number in (*range(32), 127) if chr(number) not in _PASS
}


def harmless(text: str) -> str:
    """The text without anything that a terminal would obey."""
    if text.isascii():
        return text.translate(_ASCII_UNFIT)
    return "".join(
        letter
        if letter in _PASS or unicodedata.category(letter) not in _UNFIT
        else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


class Stream:
    """One of our two streams."""

    def __init__(self, target: IO[bytes], *, exact: bool) -> None:
        self._target = target
        self._decoder = None if exact else codecs.getincrementaldecoder("utf-8")("replace")
        self.at_line_start = True

    def write(self, data: bytes) -> None:
        """Write now; on a terminal an unfinished character waits for its rest."""
        if not data:
            return
        if self._decoder is not None:
            data = harmless(self._decoder.decode(data)).encode()
        self._put(data)

    def finish(self) -> None:
        """No more of this text will come."""
        if self._decoder is not None:
            self._put(harmless(self._decoder.decode(b"", final=True)).encode())
            self._decoder.reset()

    def _put(self, data: bytes) -> None:
        if data:
            self.at_line_start = data.endswith(b"\n")
            self._target.write(data)
            self._target.flush()


class Outputs:
    """Both streams, or JSON objects in their place."""

    def __init__(self, printer: Printer, *, raw: bool = False) -> None:
        self._printer = printer
        self._in_one_place = _in_one_place()
        self._is_new = False
        self._streams = {
            STDOUT: Stream(sys.stdout.buffer, exact=raw or not sys.stdout.isatty()),
            STDERR: Stream(sys.stderr.buffer, exact=raw or not sys.stderr.isatty()),
        }

    def write(self, piece: OutputPiece) -> None:
        """Print one piece now."""
        if self._printer.form == "json":
            self._printer.event(piece_document(piece))
        else:
            self._write(piece.stream, piece.data)

    def finish(self) -> None:
        """What was begun is complete: the next byte belongs to something else."""
        self._is_new = True
        for stream in self._streams.values():
            stream.finish()

    def _write(self, number: int, data: bytes) -> None:
        stream = self._streams.get(number, self._streams[STDERR])
        if self._is_new and self._in_one_place and sys.stdout.isatty():
            # People take two tasks' words on one line for one task's; a pipe gets what was written.
            self._printer.begin_line()
        self._is_new = False
        stream.write(data)
        if self._in_one_place or stream is self._streams[STDERR]:
            self._printer.is_mid_line = not stream.at_line_start

    def label(self, text: str) -> None:
        """A line of our own on stdout, between tasks."""
        stdout = self._streams[STDOUT]
        self._printer.is_mid_line = False
        stdout.write((b"" if stdout.at_line_start else b"\n") + text.encode() + b"\n")


def _in_one_place() -> bool:
    """Whether stdout and stderr go to one terminal, file or pipe."""
    try:
        return os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    except (OSError, ValueError):
        return False


def piece_document(piece: OutputPiece) -> dict[str, object]:
    """One piece for programs: as text where it is text, else as base64."""
    document: dict[str, object] = {
        "kind": "output",
        "index": piece.index,
        "attempt": piece.attempt,
        "stream": NAMES.get(piece.stream, str(piece.stream)),
    }
    try:
        document["text"] = piece.data.decode()
    except UnicodeDecodeError:
        document["base64"] = b64encode(piece.data).decode()
    return document
