"""The terminal's last line, on stderr, where something tells how far it is; nothing elsewhere.

Plain carriage returns and blanks: nothing a terminal could misread, and no colour. It is wiped before
anything else is printed, so it works beside tasks' outputs on the same terminal. What does not fit goes, the
least important first; the line never wraps.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence

BAR_MOST_LETTERS = 24
BAR_LEAST_LETTERS = 6
NARROWEST = 10
BLANKS = "  "
"""Between two parts."""


class LastLine:
    """One at a time."""

    def __init__(self, *, enabled: bool, begin_line: Callable[[], None]) -> None:
        """`begin_line` ends what a task has left unfinished there: the line would be drawn over it."""
        self.enabled = enabled and sys.stderr.isatty()
        self._begin_line = begin_line
        self._shown = 0

    def draw(self, before: str, share: float, parts: Sequence[str]) -> None:
        """`before [====>     ] part  part`: the first part stays, of the others the last ones go first."""
        if not self.enabled:
            return
        text = fitted(before, share, parts, shutil.get_terminal_size().columns - 1)
        width = len(text)
        if not self._shown:
            self._begin_line()
        sys.stderr.write("\r" + text + " " * max(0, self._shown - width))
        sys.stderr.flush()
        self._shown = width

    def wipe(self) -> None:
        """Make room for other output."""
        if self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            sys.stderr.flush()
            self._shown = 0


def fitted(before: str, share: float, parts: Sequence[str], width: int) -> str:
    """The line in so many letters: first the bar shrinks, then the last parts go, then the bar.

    The first two parts say more than a bar.
    """
    width = max(NARROWEST, width)
    head = f"{before} " if before else ""
    for count in range(len(parts), 0, -1):
        rest = BLANKS.join(parts[:count])
        room = width - len(head) - len(rest)
        if room >= BAR_LEAST_LETTERS + 3:
            return f"{head}{bar(share, min(BAR_MOST_LETTERS, room - 3))} {rest}"
        if room >= 0 and count <= 2:
            return head + rest
    return (head + BLANKS.join(parts[:1]))[:width]


def bar(share: float, letters: int) -> str:
    """`[=====>    ]` with so many letters inside."""
    filled = min(letters, int(max(0.0, share) * letters))
    return "[" + "=" * filled + (">" if filled < letters else "") + " " * (letters - filled - 1) + "]"
