"""Tables: for a terminal cut to its width, for pipes and files whole.

On a narrow terminal whole columns go, the least needed first, and a long text wraps beside or below its row:
a word that is cut to `HEAL…` tells nobody anything. Called by `output`, and by `results` for tables that
are too long to be held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from planetmesh.cli.output import Column, Shape, cell

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

GAP = "  "
BELOW = "    "
LONG_LEAST_LETTERS = 28
"""Narrower than this a long text reads better on lines of its own."""
NOTHING_TO_SEE = frozenset({"", "-"})

T = TypeVar("T")


@dataclass
class Laid:
    """A column with what stands in it."""

    column: Column[Any]
    cells: list[str]

    @property
    def width(self) -> int:
        from rich.cells import cell_len

        return max(cell_len(text) for text in (self.column.title, *self.cells))

    @property
    def is_empty(self) -> bool:
        return all(text in NOTHING_TO_SEE for text in self.cells)


def print_plain(
    things: Sequence[T], shape: Shape[T], *, head: bool = True, say: Callable[[str], object] = print
) -> None:
    """For pipes and files: never cut to a width, no frames, the same columns. `say` takes a line."""
    table = [[column.title for column in shape.columns]]
    table += [[cell(column.text(thing)) for column in shape.columns] for thing in things]
    widths = [max(len(row[number]) for row in table) for number in range(len(shape.columns))]
    for row in table if head else table[1:]:
        aligned = [
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(row, widths, shape.columns, strict=True)
        ]
        say(GAP.join(aligned).rstrip())


def print_on_terminal(things: Sequence[T], shape: Shape[T]) -> None:
    """For people: what fits, in colour where the terminal has it."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    short, long = lay_out(things, shape, console.width)
    room = console.width - _total(short) - len(GAP)
    beside = long is not None and room >= min(long.width, LONG_LEAST_LETTERS)
    titles = [_padded(each, each.column.title, "bold") for each in short]
    if beside and long is not None:
        titles.append(Text(long.column.title, style="bold"))
    _print(console, Text(GAP).join(titles))
    for number, thing in enumerate(things):
        row = Text(GAP).join(_padded(each, each.cells[number], _style(each, thing)) for each in short)
        if long is not None and long.cells[number]:
            row = _with_long(console, row, long.cells[number], room if beside else 0)
        _print(console, row)


def lay_out(things: Sequence[T], shape: Shape[T], width: int) -> tuple[list[Laid], Laid | None]:
    """The columns that fit, and the long one, if it says anything."""
    laid = [Laid(each, [cell(each.text(thing), each.most) for thing in things]) for each in shape.columns]
    long = next((each for each in laid if each.column.long and not each.is_empty), None)
    short = [each for each in laid if not each.column.long]
    if _total(short) + (len(GAP) + long.width if long else 0) > width:
        short = [each for each in short if not (each.column.drop and each.is_empty)]
    while _total(short) > width:
        least = max(short, key=lambda each: each.column.drop)
        if not least.column.drop:
            break
        short.remove(least)
    return short, long


def _total(laid: Sequence[Laid]) -> int:
    return sum(each.width for each in laid) + len(GAP) * (len(laid) - 1)


def _padded(laid: Laid, text: str, style: str) -> Text:
    from rich.cells import cell_len
    from rich.text import Text

    space = " " * (laid.width - cell_len(text))
    return Text.assemble(space, (text, style)) if laid.column.right else Text.assemble((text, style), space)


def _with_long(console: Console, row: Text, text: str, room: int) -> Text:
    """The text beside the row, or below it where there is no room."""
    from rich.text import Text

    if room:
        lines = Text(text).wrap(console, room)
        indent = " " * (console.width - room)
        return row + Text(GAP) + Text("\n" + indent).join(lines)
    lines = Text(text).wrap(console, max(1, console.width - len(BELOW)))
    return row + Text("\n" + BELOW) + Text("\n" + BELOW).join(lines)


def _style(laid: Laid, thing: Any) -> str:
    return laid.column.style(thing) if laid.column.style else ""


def _print(console: Console, line: Text) -> None:
    line.rstrip()
    console.print(line, no_wrap=True, overflow="ignore", crop=False, soft_wrap=True)
