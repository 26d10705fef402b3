"""The whole terminal for a while: drawn over and over, single keys read, and given back as it was.

However it ends (a key, Ctrl-C, a crash, Ctrl-Z for a moment), what stood on the terminal comes back.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from planetmesh.cli.block import Painter, can_draw, fitted, size_of

if TYPE_CHECKING:
    from rich.text import Text

STDIN, STDOUT = 0, 1
_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_TOP, _NO_WRAP, _REST, _BELOW = "\x1b[H", "\x1b[?7l", "\x1b[K", "\x1b[J"


def has_full_screen() -> bool:
    """Whether there is a terminal to draw on and keys to read."""
    return can_draw(STDOUT) and os.isatty(STDIN)


class FullScreen:
    """Enter it in the main thread, inside a running loop whose reader of stdin it becomes."""

    def __init__(self, on_key: Callable[[str], None], on_return: Callable[[], None]) -> None:
        """`on_return`: the screen is ours again after a stop and is to be drawn anew."""
        self._on_key = on_key
        self._on_return = on_return
        self._painter = Painter()
        self._is_in = False
        self._drawn: Any = None
        self._mode: Any = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        import asyncio

        self._go_in()
        if sys.platform != "win32":
            for number, handler in ((signal.SIGTSTP, self._stop), (signal.SIGCONT, self._go_on)):
                self._before[number] = signal.signal(number, handler)
        asyncio.get_running_loop().add_reader(STDIN, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        asyncio.get_running_loop().remove_reader(STDIN)
        for number, before in self._before.items():
            signal.signal(number, before)
        self.leave()

    @property
    def size(self) -> os.terminal_size:
        return size_of(STDOUT)

    def draw(self, lines: Sequence[Text]) -> None:
        """Instead of what was there."""
        size = self.size
        kept = fitted(lines, size)
        now = ([(line.plain, str(line.spans)) for line in kept], size)
        if not self._is_in or now == self._drawn:
            return
        self._drawn = now
        rows = (_REST + "\n").join(self._painter.paint(line) for line in kept)
        self._write(_TOP + _NO_WRAP + rows + _REST + _BELOW)

    def leave(self) -> None:
        """Give the terminal back; harmless twice, and in a signal's handler."""
        if not self._is_in or sys.platform == "win32":
            return
        import termios

        self._is_in = False
        self._write(_LEAVE)
        termios.tcsetattr(STDIN, termios.TCSADRAIN, self._mode)

    def _go_in(self) -> None:
        if sys.platform == "win32":
            return
        import termios
        import tty

        self._mode = termios.tcgetattr(STDIN)
        tty.setcbreak(STDIN)
        self._is_in = True
        self._drawn = None
        self._write(_ENTER)

    def _stop(self, _number: int, _frame: object) -> None:
        if sys.platform != "win32":
            self.leave()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)

    def _go_on(self, _number: int, _frame: object) -> None:
        if sys.platform != "win32" and not self._is_in:
            signal.signal(signal.SIGTSTP, self._stop)
            self._go_in()
            self._on_return()

    def _read(self) -> None:
        try:
            keys = os.read(STDIN, 64).decode(errors="replace")
        except BlockingIOError:
            return
        if keys.startswith("\x1b"):
            return  # arrows and their like mean nothing here
        for key in keys or "q":  # the terminal is gone
            self._on_key(key)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
