"""Textual's driver for a browser: what it draws goes into a `Line`, what comes in are a terminal's keys.

The other end is xterm.js, so both ways carry what a terminal would: the same parser reads it.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Callable
from typing import Any, ClassVar

from textual import events

# Private, as it is for textual's own drivers; there is no other way to read keys without a terminal.
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.driver import Driver
from textual.geometry import Size
from textual.theme import Theme

BEGIN = (
    "\x1b[?1049h"  # a screen of its own
    "\x1b[?1000h\x1b[?1003h\x1b[?1015h\x1b[?1006h"  # mouse: buttons, moves, large coordinates
    "\x1b[?25l"  # no cursor
    "\x1b[?1004h"  # tells when it gains or loses the focus
    "\x1b[?2004h"  # tells what is pasted
    "\x1b[?7l"  # no wrapping
    "\x1b[?2026$p"  # can it draw whole pictures only?
)
KEY_SECONDS = 0.1
"""After which an escape is the key, and not the beginning of something longer."""
WAITING_MOST_LETTERS = 4 * 1024 * 1024
"""Drawn and not yet sent: some hundred full screens. A browser so far behind is cut off."""


class Line:
    """What was drawn and not yet sent. Belongs to one loop."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._letters = 0
        self._news = asyncio.Event()
        self._is_closed = False
        self.on_full: Callable[[], None] = self.close
        """What is to be done when the other end is too far behind."""
        self.driver: BrowserDriver | None = None
        """The one that draws into it, once its app has begun."""

    def write(self, text: str) -> None:
        if self._is_closed:
            return
        self._pieces.append(text)
        self._letters += len(text)
        self._news.set()
        if self._letters > WAITING_MOST_LETTERS:
            self.close()
            self.on_full()

    def close(self) -> None:
        """Nothing more comes; what waits is given out still."""
        self._is_closed = True
        self._news.set()

    async def take(self) -> bytes:
        """All that waits, as soon as there is something; nothing at the end."""
        await self._news.wait()
        text = "".join(self._pieces)
        self._pieces.clear()
        self._letters = 0
        if not self._is_closed:
            self._news.clear()
        return text.encode("utf-8", "replace")


class BrowserDriver(Driver):
    """Draws into the line of its class; made by `driver_on`."""

    line: ClassVar[Line]

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._parser = XTermParser()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._later: asyncio.TimerHandle | None = None

    @property
    def is_web(self) -> bool:
        return True

    def write(self, data: str) -> None:
        self.line.write(data)

    def start_application_mode(self) -> None:
        self.line.driver = self
        self.write(BEGIN)
        self._tell_ground(self._app.current_theme)
        self._app.theme_changed_signal.subscribe(self._app, self._tell_ground)
        self.resize(*self._size or (80, 24))

    def disable_input(self) -> None:
        self.line.driver = None
        if self._later is not None:
            self._later.cancel()

    def stop_application_mode(self) -> None:
        self.disable_input()
        self.line.close()

    def _tell_ground(self, theme: Theme) -> None:
        """The page around the terminal takes the same colour."""
        self.write(f"\x1b]11;{theme.background or theme.surface}\x07")

    def open_url(self, url: str, new_tab: bool = True) -> None:  # noqa: FBT002  textual's own
        """Opens nothing: what stands on the screen comes from other machines."""

    # From the browser

    def feed(self, data: bytes) -> None:
        """What a terminal would send: keys, mouse, pasted text, answers."""
        if not (text := self._decode(data)):
            return  # half a letter
        for event in self._parser.feed(text):
            if not isinstance(event, events.Resize):  # sizes are told, and bounded, by `resize` alone
                self.process_message(event)
        if self._later is not None:
            self._later.cancel()
        self._later = self._loop.call_later(KEY_SECONDS, self._end_key)

    def _end_key(self) -> None:
        for event in self._parser.tick():
            self.process_message(event)

    def resize(self, columns: int, rows: int) -> None:
        self._size = columns, rows
        size = Size(columns, rows)
        self._app.post_message(events.Resize(size, size))


def driver_on(line: Line) -> type[BrowserDriver]:
    """A driver class that draws into this line: textual makes the driver itself."""
    return type("BrowserDriverOnLine", (BrowserDriver,), {"line": line})
