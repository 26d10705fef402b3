"""Some lines at the bottom of a terminal that are drawn anew in place; all that is known about terminals.

A `Block` makes the bytes: away with what it drew before, then what is to scroll away above it, then its
lines. They are never wider than the terminal and never wrap, so it knows where it began also after the
terminal was made narrower. A `Painter` turns a line into bytes, in the colours that the terminal has.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

_HOME = "\r"
_UP = "\x1b[{}A"
_ERASE_BELOW = "\x1b[K\x1b[B\x1b[J\x1b[A"
"""Its own line, then all below. Erased at once from the upper left corner, tmux keeps the whole screen as
history: a block that begins there would be left behind at each drawing."""
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
USUAL_SIZE = os.terminal_size((80, 24))
NARROWEST, LOWEST = 10, 3
"""A terminal that says to be smaller has not been told its size."""


def can_draw(descriptor: int) -> bool:
    """Whether a terminal is there that can move its cursor."""
    if sys.platform == "win32" or os.environ.get("TERM", "dumb") in {"dumb", "unknown", ""}:
        return False
    return os.isatty(descriptor)


def size_of(descriptor: int) -> os.terminal_size:
    try:
        found = os.get_terminal_size(descriptor)
    except OSError:
        return USUAL_SIZE
    columns = found.columns if found.columns >= NARROWEST else NARROWEST if found.columns else 80
    lines = found.lines if found.lines >= LOWEST else LOWEST if found.lines else 24
    return os.terminal_size((columns, lines))


def is_ours(descriptor: int) -> bool:
    """Whether this process stands in the foreground: who is in the background must not draw."""
    if sys.platform == "win32":
        return True
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False


def typed_line_ends() -> int:
    """In what somebody typed meanwhile, and the terminal has shown. Only for who stands in the foreground."""
    if sys.platform == "win32":
        return 0
    try:
        ready, _, _ = select.select([0], [], [], 0)
        return os.read(0, 4096).count(b"\n") if ready else 0
    except OSError:
        return 0


class Painter:
    """Lines as they are sent to a terminal."""

    def __init__(self) -> None:
        import io

        from rich.console import Console

        # It writes nowhere; it knows which colours there are.
        self._console = Console(
            file=io.StringIO(), force_terminal=True, width=10_000, highlight=False, markup=False, emoji=False
        )

    def paint(self, line: Text) -> str:
        with self._console.capture() as captured:
            self._console.print(line, end="", soft_wrap=True)
        return captured.get()


class Block:
    """One at a time on a terminal. Draws nothing by itself: what it gives must be written."""

    def __init__(self) -> None:
        self._painter = Painter()
        self._widths: list[int] = []
        """Of the lines that stand there now; the cursor is below them."""
        self._typed = 0

    @property
    def is_drawn(self) -> bool:
        return bool(self._widths)

    def forget(self) -> None:
        """Somebody else has written since: what was drawn stays where it is."""
        self._widths = []
        self._typed = 0

    def push(self, line_ends: int) -> None:
        """So many line ends were typed since: the terminal showed them below."""
        self._typed += line_ends

    def wiped(self, columns: int) -> str:
        """Away with it, on a terminal that is so wide now."""
        if not self._widths:
            return ""
        # What is wider than the terminal has become takes more than one of its rows.
        rows = sum(max(1, -(-width // columns)) for width in self._widths) + self._typed
        self.forget()
        return _HOME + _UP.format(rows) + _ERASE_BELOW

    def drawn(self, lines: Sequence[Text], size: os.terminal_size, above: str = "") -> str:
        """Instead of what was there: whole lines of `above`, then these, cut to the terminal."""
        kept = fitted(lines, size)
        text = self.wiped(size.columns) + above
        if kept:
            text += _NO_WRAP + "".join(self._painter.paint(line) + "\n" for line in kept) + _WRAP
        self._widths = [line.cell_len for line in kept]
        return text


def fitted(lines: Sequence[Text], size: os.terminal_size) -> list[Text]:
    """As many as the terminal has rows, none of them so wide that it fills its row."""
    kept = [line.copy() for line in lines[: size.lines - 1]]  # the cursor stands below
    for line in kept:
        line.truncate(size.columns - 1, overflow="ellipsis")
    return kept
