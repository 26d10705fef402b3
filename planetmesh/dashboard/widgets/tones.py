"""From a tone to a colour of the theme, and from cells to what textual draws."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from planetmesh.dashboard.plain import TONES, Cell

if TYPE_CHECKING:
    from textual.widget import Widget

TONE_CLASSES = {f"tone--{tone}" for tone in TONES}
"""For a widget's COMPONENT_CLASSES."""
TONE_CSS = """
    & > .tone--good { color: $text-success; }
    & > .tone--warn { color: $text-warning; }
    & > .tone--bad { color: $text-error; }
    & > .tone--busy { color: $text-accent; }
    & > .tone--dim { color: $foreground 60%; }
    & > .tone--strong { text-style: bold; }
"""


def tones_of(widget: Widget) -> dict[str, Style]:
    """The widget must have `TONE_CLASSES` and `TONE_CSS`."""
    full = {tone: widget.get_component_rich_style(f"tone--{tone}") for tone in TONES}
    # Without their background: what lies below may be a cursor.
    return {tone: Style(color=style.color, bold=style.bold) for tone, style in full.items()} | {
        "": Style.null()
    }


def pieces(made: Cell, width: int, styles: dict[str, Style], *, right: bool = False) -> Iterable[Segment]:
    """A cell in exactly so many columns; what does not fit ends with `…`."""
    size = sum(cell_len(text) for text, _tone in made)
    if right and size < width:
        yield Segment(" " * (width - size))
    left = width
    for text, tone in made:
        length = cell_len(text)
        if length > left or (length == left and size > width):
            if left > 0:
                yield Segment(set_cell_size(text, left - 1) + "…", styles[tone])
            return
        yield Segment(text, styles[tone])
        left -= length
    if not right and left > 0:
        yield Segment(" " * left)


def to_text(lines: Iterable[Cell], styles: dict[str, Style]) -> Text:
    """Lines of cells, as a text that wraps at the widget's width."""
    made = Text()
    for number, line in enumerate(lines):
        if number:
            made.append("\n")
        for text, tone in line:
            made.append(text, styles[tone])
    return made
