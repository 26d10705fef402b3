"""`up`'s panel at the bottom of the terminal, and above it all that anybody in this process says on stderr.

A thread draws. A terminal that takes nothing any more (Ctrl-S, a stalled ssh) must stop neither the
coordinator nor the agent, so who writes to stderr meanwhile only hands lines over, and when nobody takes them
for long the oldest go.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO, cast

from planetmesh import logs
from planetmesh.cli.block import Block, can_draw, is_ours, size_of, typed_line_ends

if TYPE_CHECKING:
    from rich.text import Text

LOOK_SECONDS = 0.5
"""Between two looks at what there is to show, and at the terminal's size."""
WAITING_MOST_LINES = 2000
"""For a terminal that takes nothing."""
CLOSE_SECONDS = 1.0
"""For the last lines to be shown; a terminal that is stuck keeps nobody."""

Lines = Callable[[os.terminal_size], "Sequence[Text]"]


def has_panel() -> bool:
    """Whether there can be one here."""
    return can_draw(2) and sys.stderr.isatty() and sys.stdin.isatty()


class Panel:
    """From `open` to `close`, on stderr. Where a process is to be forked without threads: `open` it after."""

    def __init__(self) -> None:
        self._lines: Lines = _nothing
        self._real: TextIO = sys.stderr
        self._descriptor = self._real.fileno()
        self._above = Above(self)
        self._waiting: deque[str] = deque()
        self._lost = 0
        self._has_news = threading.Condition()
        self._is_closing = False
        self._was_away = False
        self._thread: threading.Thread | None = None
        self._on_continue: Any = None

    def open(self) -> None:
        """Take stderr over and begin to draw. From the main thread; harmless twice."""
        if self._thread is not None:
            return
        sys.stderr = cast(TextIO, self._above)
        logs.follow_stderr()
        if sys.platform != "win32":
            self._on_continue = signal.signal(signal.SIGCONT, self._continued)
        self._thread = threading.Thread(target=self._draw_on, name="panel", daemon=True)
        self._thread.start()

    def show(self, lines: Lines) -> None:
        """Ask this for the lines from now on, from the panel's thread."""
        self._lines = lines
        self.redraw()

    def redraw(self) -> None:
        """Soon: something is new."""
        with self._has_news:
            self._has_news.notify()

    def say(self, line: str) -> None:
        """Above the panel; from any thread. Waits for nobody."""
        with self._has_news:
            if len(self._waiting) >= WAITING_MOST_LINES:
                self._waiting.popleft()
                self._lost += 1
            self._waiting.append(line)
            self._has_news.notify()

    def close(self) -> None:
        """Show what is left to say, take the panel away and give stderr back. Harmless twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._above.finish()
        with self._has_news:
            self._is_closing = True
            self._has_news.notify()
        thread.join(CLOSE_SECONDS)
        sys.stderr = self._real
        logs.follow_stderr()
        if sys.platform != "win32":
            signal.signal(signal.SIGCONT, self._on_continue)

    # In the thread

    def _draw_on(self) -> None:
        block, drawn, last = Block(), None, self._lines
        while True:
            said, is_closing = self._take_said()
            if self._lines is not last:
                is_closing, last = False, self._lines  # what was shown last is drawn before it goes
            size = size_of(self._descriptor)
            if is_ours(self._descriptor):
                block.push(typed_line_ends())
            if self._was_away:
                block.forget()
                self._was_away = False
            lines: Sequence[Text] = ()
            if not is_closing and is_ours(self._descriptor):
                lines = list(self._lines(size))
            elif block.is_drawn and not is_closing:
                block.forget()  # in the background: the shell writes where the panel was
            now = ([(line.plain, str(line.spans)) for line in lines], size)
            if (said or now != drawn or not block.is_drawn) and not self._write(
                block.drawn(lines, size, said)
            ):
                return
            drawn = now
            if is_closing:
                return

    def _take_said(self) -> tuple[str, bool]:
        with self._has_news:
            if not self._waiting and not self._is_closing:
                self._has_news.wait(LOOK_SECONDS)
            lines = list(self._waiting)
            self._waiting.clear()
            if self._lost:
                lines.insert(0, f"({self._lost} lines were not shown: this terminal took nothing for long)")
                self._lost = 0
            return "".join(line + "\n" for line in lines), self._is_closing

    def _write(self, text: str) -> bool:
        """False: the terminal is gone."""
        data = text.encode(self._real.encoding or "utf-8", "replace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def _continued(self, _number: int, _frame: object) -> None:
        """The shell wrote below the panel while we were stopped."""
        self._was_away = True


def _nothing(_size: os.terminal_size) -> Sequence[Text]:
    return ()


class Above:
    """Stands for stderr while there is a panel."""

    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        self._real = sys.stderr
        self._begun = ""
        self._lock = threading.RLock()
        # A signal's handler may write in the midst of a write.

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def write(self, text: str) -> int:
        with self._lock:
            *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            self._panel.say(line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Lines are on their way already."""

    def finish(self) -> None:
        """What has no line end will get none."""
        with self._lock:
            begun, self._begun = self._begun, ""
        if begun:
            self._panel.say(begun)
