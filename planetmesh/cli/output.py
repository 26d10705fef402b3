"""The printer: one interface, three ways to say it: tables for people, JSON for programs, quiet.

What was asked for goes to stdout, everything else to stderr. Every text from the mesh passes `cell()` or is
escaped by JSON; nothing from the mesh is ever read as markup.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TextIO, TypeVar

import msgspec

from planetmesh.dashboard.plain import plain
from planetmesh.logs import clean

CELL_MOST_LETTERS = 200
SENTENCE_MOST_LETTERS = 4000

T = TypeVar("T")


@dataclass(frozen=True)
class Column(Generic[T]):
    """One column of a table."""

    title: str
    text: Callable[[T], str]
    right: bool = False
    style: Callable[[T], str] | None = None
    """A colour for a terminal."""
    brief: Callable[[T], str] | None = None
    """The same in fewer letters, where a terminal is too narrow for all columns."""
    drop: int = 0
    """Where a terminal is too narrow the highest goes first; 0 stays."""
    long: bool = False
    """Sentences: they wrap in what is left of the line, or below it. One column of a shape."""
    most: int = CELL_MOST_LETTERS
    """Letters shown on a terminal; with fewer than the usual it is never more than a third of it."""


@dataclass(frozen=True)
class Shape(Generic[T]):
    """How a kind of thing is shown: as a row, and as a single word."""

    columns: tuple[Column[T], ...]
    key: Callable[[T], str]
    """What `--quiet` prints: the id or name to type next."""
    empty: str = "Nothing to show."


class Printer(Protocol):
    """What commands print with."""

    form: Literal["table", "json", "quiet"]
    make_room: Callable[[], None]
    """Wipes what is drawn on the terminal's last line, before anything is said there."""
    is_mid_line: bool
    """A task's text without a line end stands where the next sentence would go."""

    def begin_line(self) -> None:
        """End that line on stderr, before anything of our own is written there."""

    def rows(self, things: Sequence[T], shape: Shape[T]) -> None:
        """A list of things, complete."""

    def sheet(self, thing: T, lines: Sequence[tuple[str, str]], shape: Shape[T]) -> None:
        """One thing with all that is known of it."""

    def done(self, sentence: str, document: Any, word: str = "") -> None:
        """What a command did: a sentence, or the thing as it is now, or one word."""

    def event(self, document: Any) -> None:
        """One JSON object a line where output streams; nothing otherwise."""

    def note(self, sentence: str) -> None:
        """By the way, to stderr."""

    def warn(self, sentence: str) -> None:
        """To be read, to stderr, also with `--quiet`."""


def printer_for(*, json: bool, quiet: bool) -> Printer:
    if json:
        return JsonPrinter(quiet=quiet)
    return QuietPrinter() if quiet else TablePrinter()


def cell(text: str, longest: int = CELL_MOST_LETTERS) -> str:
    """A text from the mesh, fit for one line of a terminal."""
    return plain(text, longest)


def whole_cell(text: str) -> str:
    """The same for a pipe: all of it, but nothing that a terminal behind the pipe would obey."""
    return clean(text, len(text))


def json_text(document: Any) -> str:
    """ASCII only: JSON's own escapes keep a terminal safe and lose nothing."""
    return json.dumps(msgspec.to_builtins(document), ensure_ascii=True).replace("\x7f", "\\u007f")


def write_json(document: Any) -> None:
    """One document on a line of stdout."""
    sys.stdout.write(json_text(document) + "\n")
    sys.stdout.flush()


def wrapped(text: str, stream: TextIO | None = None, *, hang: int = 0) -> str:
    """Broken at blanks where the stream (stderr) is a terminal that is narrower; never inside a `command`.

    What follows a first line that stands further in stands a little further in than it, else `hang` letters.
    """
    if not (stream or sys.stderr).isatty():
        return text
    width = shutil.get_terminal_size().columns - 1
    return "\n".join(_filled(line, width, hang) for line in text.split("\n"))


def _filled(line: str, width: int, hang: int) -> str:
    if line.isascii():
        measure: Callable[[str], int] = len
    else:
        from rich.cells import cell_len as measure
    if measure(line) <= width:
        return line
    begin = len(line) - len(line.lstrip(" "))
    indent = " " * (begin + 2 if begin else hang)
    made = [line[:begin]]
    is_fresh = True  # no word stands in the newest line yet
    for word in _UNTORN.findall(line[begin:]):
        if is_fresh or measure(made[-1]) + 1 + measure(word) <= width:
            made[-1] += word if is_fresh else " " + word
        else:
            made.append(indent + word)
        is_fresh = False
    return "\n".join(made)


_UNTORN = re.compile(r"(?:`[^`]+`|[^ ])+|(?<= )(?= )")
"""Words, with a `command` as one; a second blank stands for an empty word."""


class _Teller:
    """What all printers share: sentences on stderr, below nothing that is drawn there."""

    def __init__(self) -> None:
        self.make_room: Callable[[], None] = _do_nothing
        self.is_mid_line = False

    def begin_line(self) -> None:
        if self.is_mid_line:
            self.is_mid_line = False
            sys.stderr.write("\n")

    def warn(self, sentence: str) -> None:
        self._tell(f"warning: {sentence}")

    def _tell(self, sentence: str) -> None:
        self.make_room()
        sys.stdout.flush()
        # A terminal that has gone hears nothing; what goes on without it has not failed for that.
        with contextlib.suppress(OSError):
            self.begin_line()
            sys.stderr.write(wrapped(clean(sentence, SENTENCE_MOST_LETTERS)) + "\n")
            sys.stderr.flush()


def _do_nothing() -> None:
    pass


class TablePrinter(_Teller):
    """For people."""

    form: Literal["table", "json", "quiet"] = "table"

    def rows(self, things: Sequence[T], shape: Shape[T]) -> None:
        if not things:
            self.note(shape.empty)
            return
        from planetmesh.cli.tables import print_on_terminal, print_plain

        if sys.stdout.isatty():
            print_on_terminal(things, shape)
        else:
            print_plain(things, shape)

    def sheet(self, thing: T, lines: Sequence[tuple[str, str]], shape: Shape[T]) -> None:  # noqa: ARG002
        if sys.stdout.isatty():
            from planetmesh.cli.tables import print_sheet

            print_sheet(lines)
            return
        width = max(len(title) for title, _ in lines)
        for title, text in lines:
            print(f"{title:<{width}}  {whole_cell(text)}")

    def done(self, sentence: str, document: Any, word: str = "") -> None:  # noqa: ARG002
        print(clean(sentence, SENTENCE_MOST_LETTERS))

    def event(self, document: Any) -> None:
        pass

    def note(self, sentence: str) -> None:
        self._tell(sentence)


class JsonPrinter(_Teller):
    """For programs."""

    form: Literal["table", "json", "quiet"] = "json"

    def __init__(self, *, quiet: bool) -> None:
        super().__init__()
        self._quiet = quiet

    def rows(self, things: Sequence[T], shape: Shape[T]) -> None:  # noqa: ARG002
        write_json(list(things))

    def sheet(self, thing: T, lines: Sequence[tuple[str, str]], shape: Shape[T]) -> None:  # noqa: ARG002
        write_json(thing)

    def done(self, sentence: str, document: Any, word: str = "") -> None:  # noqa: ARG002
        write_json(document)

    def event(self, document: Any) -> None:
        write_json(document)

    def note(self, sentence: str) -> None:
        if not self._quiet:
            self._tell(sentence)


class QuietPrinter(_Teller):
    """For scripts: one word a line."""

    form: Literal["table", "json", "quiet"] = "quiet"

    def rows(self, things: Sequence[T], shape: Shape[T]) -> None:
        for thing in things:
            print(whole_cell(shape.key(thing)))

    def sheet(self, thing: T, lines: Sequence[tuple[str, str]], shape: Shape[T]) -> None:  # noqa: ARG002
        print(whole_cell(shape.key(thing)))

    def done(self, sentence: str, document: Any, word: str = "") -> None:  # noqa: ARG002
        if word:
            print(whole_cell(word))

    def event(self, document: Any) -> None:
        pass

    def note(self, sentence: str) -> None:
        pass
