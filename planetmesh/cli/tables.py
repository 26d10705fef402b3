"""Tables and sheets: for a terminal cut to its width, for pipes and files whole.

On a narrow terminal whole columns go, the least needed first (names are cut before they go), and a long text
wraps beside or below its row: a word that is cut to `HEAL…` tells nobody anything. Only names may be cut, of
whatever length people gave them. Called by `output`, by `redraw`, and by `results` for tables that are too
long to be held.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from planetmesh.cli.output import (
    CELL_MOST_LETTERS,
    SENTENCE_MOST_LETTERS,
    Column,
    Shape,
    cell,
    whole_cell,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

GAP = "  "
BELOW = "    "
LONG_LEAST_LETTERS = 28
"""Narrower than this a long text reads better on lines of its own."""
NAME_LEAST_LETTERS = 12
"""Of a column that may be cut (`Column.most`), however narrow the terminal."""
NAME_SHARE = 3
"""Such a column gets a third of the terminal at most."""
PADDED_MOST_LETTERS = 60
"""In a pipe a longer text pushes its own row aside, not all the others."""
FIELD_MOST_LINES = 12
"""Of one text of a sheet on a terminal; in a pipe it is whole."""
WATCHED_FIELD_MOST_LINES = 3
"""The same where a sheet is drawn in place."""
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
    """For pipes and files: nothing is cut, no frames, always the same columns. `say` takes a line."""
    table = [[column.title for column in shape.columns]]
    table += [[whole_cell(column.text(thing)) for column in shape.columns] for thing in things]
    widths = [
        min(PADDED_MOST_LETTERS, max(len(row[number]) for row in table))
        for number in range(len(shape.columns))
    ]
    for row in table if head else table[1:]:
        aligned = [
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(row, widths, shape.columns, strict=True)
        ]
        say(GAP.join(aligned).rstrip())


def print_on_terminal(things: Sequence[T], shape: Shape[T]) -> None:
    """For people: what fits, in colour where the terminal has it."""
    console = _console()
    print_lines(table_lines(things, shape, console.width), console)


def print_sheet(lines: Sequence[tuple[str, str]]) -> None:
    """One thing on a terminal."""
    console = _console()
    print_lines(sheet_lines(lines, console.width), console)


def print_lines(lines: Sequence[Text], console: Console | None = None) -> None:
    console = console or _console()
    for line in lines:
        console.print(line, no_wrap=True, overflow="ignore", crop=False, soft_wrap=True)


def table_lines(things: Sequence[T], shape: Shape[T], width: int) -> list[Text]:
    """The head and the rows, each in one line or more, none wider than that."""
    from rich.text import Text

    short, long = lay_out(things, shape, width)
    room = width - _total(short) - len(GAP)
    beside = long is not None and room >= min(long.width, LONG_LEAST_LETTERS)
    titles = [_padded(each, each.column.title, "bold") for each in short]
    if beside and long is not None:
        titles.append(Text(long.column.title, style="bold"))
    lines = [Text(GAP).join(titles)]
    for number, thing in enumerate(things):
        row = Text(GAP).join(_padded(each, each.cells[number], _style(each, thing)) for each in short)
        if long is not None and long.cells[number]:
            lines += _with_long(row, long.cells[number], width, room if beside else 0)
        else:
            lines.append(row)
    for line in lines:
        line.rstrip()
        line.truncate(width, overflow="ellipsis")
    return lines


def sheet_lines(lines: Sequence[tuple[str, str]], width: int, most: int = FIELD_MOST_LINES) -> list[Text]:
    """Titles with their texts beside them; what is too long goes on below itself, `most` lines long."""
    from rich.text import Text

    indent = max((len(title) for title, _ in lines), default=0) + len(GAP)
    made: list[Text] = []
    for title, text in lines:
        wrapped = _wrapped(cell(text, SENTENCE_MOST_LETTERS), max(NAME_LEAST_LETTERS, width - indent))
        if len(wrapped) > most:
            wrapped = [*wrapped[: most - 1], Text("…")]
        heads = [(f"{title:<{indent}}", "dim"), *[(" " * indent, "")] * (len(wrapped) - 1)]
        made += [Text.assemble(head, line) for head, line in zip(heads, wrapped, strict=True)]
    for line in made:
        line.truncate(width, overflow="ellipsis")
    return made


def lay_out(things: Sequence[T], shape: Shape[T], width: int) -> tuple[list[Laid], Laid | None]:
    """The columns that fit, and the long one, if it says anything."""
    laid = [Laid(each, _cells(things, each, width)) for each in shape.columns]
    long = next((each for each in laid if each.column.long and not each.is_empty), None)
    short = [each for each in laid if not each.column.long]
    if _total(short) + (len(GAP) + long.width if long else 0) > width:
        short = [each for each in short if not (each.column.drop and each.is_empty)]
    if _total(short) > width:
        short = [_in_brief(things, each) for each in short]
    while _total(short) > width:
        least = max(short, key=lambda each: each.column.drop)
        if not least.column.drop:
            break
        if least.column.most < CELL_MOST_LETTERS and least.width > NAME_LEAST_LETTERS:
            least.cells = [_cut(text, NAME_LEAST_LETTERS) for text in least.cells]
        else:
            short.remove(least)
    _give_back(things, short, width - _total(short) - (len(GAP) + long.width if long else 0))
    return short, long


def _give_back(things: Sequence[T], laid: Sequence[Laid], spare: int) -> None:
    """What no other column needs goes to those that were cut."""
    for each in laid:
        if spare <= 0 or each.column.most >= CELL_MOST_LETTERS:
            continue
        before = each.width
        texts = [cell(each.column.text(thing), each.column.most) for thing in things]
        each.cells = [_cut(text, before + spare) for text in texts]
        spare -= each.width - before


def _in_brief(things: Sequence[T], laid: Laid) -> Laid:
    brief = laid.column.brief
    return laid if brief is None else Laid(laid.column, [cell(brief(thing)) for thing in things])


def _cells(things: Sequence[T], column: Column[T], width: int) -> list[str]:
    texts = [cell(column.text(thing), column.most) for thing in things]
    if column.most >= CELL_MOST_LETTERS:
        return texts
    return [_cut(text, max(NAME_LEAST_LETTERS, width // NAME_SHARE)) for text in texts]


def _cut(text: str, width: int) -> str:
    from rich.cells import cell_len, set_cell_size

    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def _total(laid: Sequence[Laid]) -> int:
    return sum(each.width for each in laid) + len(GAP) * (len(laid) - 1)


def _padded(laid: Laid, text: str, style: str) -> Text:
    from rich.cells import cell_len
    from rich.text import Text

    space = " " * (laid.width - cell_len(text))
    return Text.assemble(space, (text, style)) if laid.column.right else Text.assemble((text, style), space)


def _with_long(row: Text, text: str, width: int, room: int) -> list[Text]:
    """The text beside the row, or below it where there is no room."""
    from rich.text import Text

    if room:
        first, *rest = _wrapped(text, room)
        return [row + Text(GAP) + first, *(Text(" " * (width - room)) + line for line in rest)]
    return [row, *(Text(BELOW) + line for line in _wrapped(text, max(1, width - len(BELOW))))]


def _wrapped(text: str, width: int) -> list[Text]:
    """Broken at blanks where that will do; at least one line."""
    from rich.text import Text

    lines = list(Text(text).wrap(_console(), width)) or [Text()]
    for line in lines:
        line.rstrip()
    return lines


def _style(laid: Laid, thing: Any) -> str:
    return laid.column.style(thing) if laid.column.style else ""


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)
