"""A terminal for programs under test: a real pty, and enough of a screen to see what a person would see.

Wide letters take one place here: who tests those looks at cell widths. What it does not know it refuses, so
nothing that a terminal would obey goes by unseen.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
_CONTROL = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])")


class Screen:
    """What stands on it."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.lines = [""] * rows
        self.row = self.column = 0
        self.wraps = True
        self.is_other = False
        """The alternate screen."""
        self._main: tuple[list[str], int, int] = (self.lines, 0, 0)
        self._rest = ""
        self.kept_as_history = 0
        """How often all of it was erased from its upper left corner: tmux keeps it then."""

    def feed(self, text: str) -> None:
        text = self._rest + text
        self._rest = ""
        while text:
            if text[0] == "\x1b":
                found = _CONTROL.match(text)
                if found is None:
                    if len(text) > 20:
                        raise AssertionError(f"this terminal does not know {text[:20]!r}")
                    self._rest = text
                    return
                self._obey(*found.groups())
                text = text[found.end() :]
            else:
                self._put(text[0])
                text = text[1:]

    def _obey(self, private: str, numbers: str, letter: str) -> None:
        if private:
            if numbers == "7":
                self.wraps = letter == "h"
            elif numbers == "1049":
                self._turn(is_other=letter == "h")
            else:
                assert numbers in {"25", "2004"}, f"?{numbers}{letter}"  # neither moves what is shown
            return
        number = int(numbers.split(";", maxsplit=1)[0] or 1)
        if letter == "A":
            self.row = max(0, self.row - number)
        elif letter == "B":
            self.row = min(self.rows - 1, self.row + number)
        elif letter == "J":
            self.kept_as_history += not (self.row or self.column)
            here = self.lines[self.row][: self.column]
            self.lines[self.row :] = [here] + [""] * (self.rows - self.row - 1)
        elif letter == "K":
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif letter == "H":
            self.row = self.column = 0
        else:
            assert letter == "m", f"{numbers}{letter}"

    def _turn(self, *, is_other: bool) -> None:
        if is_other and not self.is_other:
            self._main = (self.lines, self.row, self.column)
            self.lines, self.row, self.column = [""] * self.rows, 0, 0
        elif self.is_other and not is_other:
            self.lines, self.row, self.column = self._main
        self.is_other = is_other

    def _put(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self._down()
        elif letter == "\b":
            self.column = max(0, self.column - 1)
        elif letter != "\a":
            assert letter.isprintable(), repr(letter)
            if self.column >= self.columns:
                if self.wraps:
                    self.column = 0
                    self._down()
                else:
                    self.column = self.columns - 1
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
            self.column += 1

    def _down(self) -> None:
        if self.row == self.rows - 1:
            self.lines = [*self.lines[1:], ""]
        else:
            self.row += 1

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip()


class Terminal:
    """A program in the foreground of a terminal of its own; use it as a context."""

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, *, columns: int = 80, rows: int = 24
    ) -> None:
        self._ours, theirs = os.openpty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.screen = Screen(columns, rows)
        self._is_gone = False
        self.seen = b""
        """All bytes that came."""
        _say_size(theirs, columns, rows)
        environment = {**os.environ, "TERM": "xterm-256color", **(env or {})}
        environment.pop("COLUMNS", None)
        environment.pop("LINES", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *argv],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment,
        )  # fmt: skip
        os.close(theirs)

    @classmethod
    def planetmesh(cls, home: Path, *arguments: str, env: Mapping[str, str] | None = None, **size: int):
        argv = [sys.executable, "-m", "planetmesh", *arguments]
        return cls(argv, {"PLANETMESH_HOME": str(home), **(env or {})}, **size)

    def __enter__(self):
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if not self._is_gone:
            os.close(self._ours)

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Only made known: what stands on the screen is not moved."""
        _say_size(self._ours, columns, rows)
        self.screen.columns = columns

    def hang_up(self) -> None:
        """The terminal goes away, as when its window is closed or ssh breaks off."""
        self._is_gone = True
        os.close(self._ours)

    def until(self, reached: Callable[[str], bool], seconds: float = 60.0) -> str:
        """Read on until the screen's text is so; gives it."""
        end = time.monotonic() + seconds
        while not reached(self.screen.text):
            if time.monotonic() > end or not self._read(0.2):
                raise AssertionError(f"not so on the screen:\n{self.screen.text}\n{self.seen[-2000:]!r}")
        return self.screen.text

    def end(self, seconds: float = 60.0) -> int:
        """Read on until the program is gone; gives its status."""
        end = time.monotonic() + seconds
        while self._read(0.2):
            assert time.monotonic() < end, self.screen.text
        return self.process.wait(max(0.1, end - time.monotonic()))

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # nobody holds the other end any more
            return False
        self.seen += data
        self.screen.feed(self._decoder.decode(data))
        return bool(data)


def _say_size(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
