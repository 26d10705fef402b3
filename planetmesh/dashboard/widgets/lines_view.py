"""Many lines of text, of which only those on screen are drawn; follows the end until one scrolls up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from planetmesh.dashboard.log_lines import Line, find
from planetmesh.dashboard.widgets.tones import TONE_CLASSES, TONE_CSS, tones_of


class LinesView(ScrollView, can_focus=True):
    """Shows what `show` was given last."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"lines--found", "lines--here", *TONE_CLASSES}
    DEFAULT_CSS = (
        """
    LinesView {
        height: 1fr; scrollbar-size: 1 1; padding: 0 1;
        & > .lines--found { background: $warning 40%; }
        & > .lines--here { background: $warning; color: $background; }
        """
        + TONE_CSS
        + "}"
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", "Up", show=False),
        Binding("j", "scroll_down", "Down", show=False),
        Binding("g", "scroll_home", "First", show=False),
        Binding("G", "scroll_end", "Last", show=False),
    ]

    def __init__(self, *, id: str) -> None:  # noqa: A002  textual's word
        super().__init__(id=id)
        self._lines: Sequence[Line] = ()
        self._width = 0
        self._words = ""
        self._here: int | None = None
        self.follows = True
        """The end stays on screen."""

    def show(self, lines: Sequence[Line], *, new: int) -> None:
        """Take other lines; the last `new` of them were not there before."""
        self._lines = lines
        fresh = lines[len(lines) - min(new, len(lines)) :]
        self._width = max([self._width, *(cell_len(line.text) for line in fresh)])
        self.virtual_size = Size(self._width, len(lines))
        if self.follows:
            self.scroll_end(animate=False, force=True, x_axis=False)
        self.refresh()

    def look_for(self, words: str, step: int = 1) -> int | None:
        """Go to the next line with these words; gives its number."""
        is_next = words == self._words and self._here is not None
        start = (self._here or 0) + step if is_next else round(self.scroll_y)
        self._words = words
        self._here = find(self._lines, words, start, step)
        if self._here is not None:
            self.follows = False
            self.scroll_to(y=max(0, self._here - self.size.height // 2), animate=False, force=True)
        self.refresh()
        return self._here

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value:
            self.follows = False
        elif self.is_vertical_scroll_end:
            self.follows = True

    def render_line(self, y: int) -> Strip:
        scroll_x, scroll_y = self.scroll_offset
        width, base = self.scrollable_content_region.width, self.rich_style
        row = scroll_y + y
        if row >= len(self._lines):
            return Strip.blank(width, base)
        line = self._lines[row]
        found = Segment.apply_style(self._marked(line, row, tones_of(self)), base)
        return Strip(found).crop_extend(scroll_x, scroll_x + width, base)

    def _marked(self, line: Line, row: int, styles: dict[str, Style]) -> list[Segment]:
        style = styles[line.tone]
        words = self._words.casefold()
        if not words or words not in line.text.casefold():
            return [Segment(line.text, style)]
        mark = self.get_component_rich_style("lines--here" if row == self._here else "lines--found")
        made: list[Segment] = []
        rest, folded = line.text, line.text.casefold()
        if len(folded) != len(rest):
            return [Segment(rest, mark)]
        while (at := folded.find(words)) >= 0:
            made += [Segment(rest[:at], style), Segment(rest[at : at + len(words)], mark)]
            rest, folded = rest[at + len(words) :], folded[at + len(words) :]
        return [*made, Segment(rest, style)]
