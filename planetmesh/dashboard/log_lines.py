"""Output of tasks as lines for a screen: printable, bounded, with the stream that each came from. Pure."""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Sequence

import msgspec

from planetmesh.dashboard.plain import BAD, DIM, plain
from planetmesh.wire.api import OutputPiece

LINES_MOST = 20_000
LINE_MOST_LETTERS = 4000
STDERR = 2
_COLOURS = re.compile("\x1b\\[[0-9;:]*[mK]")
"""Colours, and "the rest of this line is empty": many programs write them, and they say nothing here. What
else commands a terminal stays to be seen, with its escape made harmless."""


class Line(msgspec.Struct, frozen=True):
    """One line, fit for a screen."""

    text: str
    tone: str = ""


class LogLines:
    """Takes pieces in the order in which they came; keeps the newest lines."""

    def __init__(self, most: int = LINES_MOST) -> None:
        self._lines: deque[Line] = deque(maxlen=most)
        self._open: dict[tuple[int, int, int], str] = {}
        """What came of a line that has not ended, of each stream of each attempt."""
        self._decoders: dict[tuple[int, int, int], codecs.IncrementalDecoder] = {}
        self._attempt = 0
        self.added = 0
        """Lines so far, also those that are gone."""
        self.dropped = 0
        """Lines that were too many."""

    def take(self, piece: OutputPiece) -> None:
        key = (piece.index, piece.attempt, piece.stream)
        if piece.attempt != self._attempt:
            if self._attempt:
                self.finish()
                self._add(Line(f"── attempt {piece.attempt} ──", DIM))
            self._attempt = piece.attempt
        decoder = self._decoders.get(key)
        if decoder is None:
            decoder = self._decoders[key] = codecs.getincrementaldecoder("utf-8")("replace")
        *whole, rest = (self._open.get(key, "") + decoder.decode(piece.data)).split("\n")
        for text in whole:
            self._add(_line(text, piece.stream))
        # A line without an end must not grow for ever.
        self._open[key] = rest if len(rest) <= LINE_MOST_LETTERS else rest[-LINE_MOST_LETTERS:]

    def finish(self) -> None:
        """No more will come of what is open."""
        for (_index, _attempt, stream), text in self._open.items():
            if text:
                self._add(_line(text, stream))
        self._open.clear()
        self._decoders.clear()

    def lines(self) -> list[Line]:
        """All of them, with what has not ended yet."""
        unfinished = [_line(text, key[2]) for key, text in self._open.items() if text]
        return [*self._lines, *unfinished]

    def _add(self, line: Line) -> None:
        if len(self._lines) == self._lines.maxlen:
            self.dropped += 1
        self.added += 1
        self._lines.append(line)


def _line(text: str, stream: int) -> Line:
    # What a progress bar drew last stands behind the last carriage return.
    shown = _COLOURS.sub("", text).rstrip("\r").rpartition("\r")[2].expandtabs()
    return Line(plain(shown, LINE_MOST_LETTERS), BAD if stream == STDERR else "")


def find(lines: Sequence[Line], words: str, start: int, step: int) -> int | None:
    """The next line with these words, from `start` on in steps of 1 or -1 and around the end."""
    if not words or not lines:
        return None
    folded = words.casefold()
    for number in range(len(lines)):
        row = (start + number * step) % len(lines)
        if folded in lines[row].text.casefold():
            return row
    return None
