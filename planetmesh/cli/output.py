"""The printer: one interface, three ways to say it: tables for people, JSON for programs, quiet.

What was asked for goes to stdout, everything else to stderr. Every text from the mesh passes `cell()` or is
escaped by JSON; nothing from the mesh is ever read as markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec

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
    return clean(text, longest)


def write_json(document: Any) -> None:
    """ASCII only: JSON's own escapes keep a terminal safe and lose nothing."""
    text = json.dumps(msgspec.to_builtins(document), ensure_ascii=True)
    sys.stdout.write(text.replace("\x7f", "\\u007f") + "\n")
    sys.stdout.flush()


def _tell(sentence: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(clean(sentence, SENTENCE_MOST_LETTERS) + "\n")
    sys.stderr.flush()


class TablePrinter:
    """For people."""

    form: Literal["table", "json", "quiet"] = "table"

    def rows(self, things: Sequence[T], shape: Shape[T]) -> None:
        if not things:
            self.note(shape.empty)
            return
        if sys.stdout.isatty():
            _print_table(things, shape)
        else:
            _print_plain(things, shape)

    def sheet(self, thing: T, lines: Sequence[tuple[str, str]], shape: Shape[T]) -> None:  # noqa: ARG002
        width = max(len(title) for title, _ in lines)
        for title, text in lines:
            print(f"{title:<{width}}  {cell(text, SENTENCE_MOST_LETTERS)}")

    def done(self, sentence: str, document: Any, word: str = "") -> None:  # noqa: ARG002
        print(clean(sentence, SENTENCE_MOST_LETTERS))

    def event(self, document: Any) -> None:
        pass

    def note(self, sentence: str) -> None:
        _tell(sentence)

    def warn(self, sentence: str) -> None:
        _tell(f"warning: {sentence}")


class JsonPrinter:
    """For programs."""

    form: Literal["table", "json", "quiet"] = "json"

    def __init__(self, *, quiet: bool) -> None:
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
            _tell(sentence)

    def warn(self, sentence: str) -> None:
        _tell(f"warning: {sentence}")


class QuietPrinter:
    """For scripts: one word a line."""

    form: Literal["table", "json", "quiet"] = "quiet"

    def rows(self, things: Sequence[T], shape: Shape[T]) -> None:
        for thing in things:
            print(cell(shape.key(thing)))

    def sheet(self, thing: T, lines: Sequence[tuple[str, str]], shape: Shape[T]) -> None:  # noqa: ARG002
        print(cell(shape.key(thing)))

    def done(self, sentence: str, document: Any, word: str = "") -> None:  # noqa: ARG002
        if word:
            print(cell(word))

    def event(self, document: Any) -> None:
        pass

    def note(self, sentence: str) -> None:
        pass

    def warn(self, sentence: str) -> None:
        _tell(f"warning: {sentence}")


def _print_table(things: Sequence[T], shape: Shape[T]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in shape.columns:
        table.add_column(Text(column.title), justify="right" if column.right else "left", overflow="ellipsis")
    for thing in things:
        table.add_row(*(Text(cell(each.text(thing)), style=_style(each, thing)) for each in shape.columns))
    Console(highlight=False, markup=False, emoji=False).print(table)


def _style(column: Column[T], thing: T) -> str:
    return column.style(thing) if column.style else ""


def _print_plain(things: Sequence[T], shape: Shape[T]) -> None:
    """For pipes and files: never cut to a width, no frames, the same columns."""
    table = [[column.title for column in shape.columns]]
    table += [[cell(column.text(thing)) for column in shape.columns] for thing in things]
    widths = [max(len(row[number]) for row in table) for number in range(len(shape.columns))]
    for row in table:
        aligned = [
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(row, widths, shape.columns, strict=True)
        ]
        print("  ".join(aligned).rstrip())
