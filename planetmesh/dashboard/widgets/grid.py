"""A table that draws only the rows on screen, so a hundred thousand cost no more than ten."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from planetmesh.dashboard.plain import DIM
from planetmesh.dashboard.rows import GAP, Column, lay_out
from planetmesh.dashboard.snapshot import Snapshot
from planetmesh.dashboard.widgets.tones import TONE_CLASSES, TONE_CSS, pieces, tones_of

T = TypeVar("T")
WHEEL_LINES = 3


class Grid(ScrollView, Generic[T], can_focus=True):
    """Rows of things with a cursor. The thing under it stays there while rows come and go."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"grid--head", "grid--cursor", *TONE_CLASSES}
    DEFAULT_CSS = (
        """
    Grid {
        height: 1fr; min-height: 3; overflow-x: hidden; scrollbar-size-vertical: 1;
        & > .grid--head { color: $foreground 60%; text-style: bold; }
        & > .grid--cursor { background: $foreground 12%; }
        &:focus > .grid--cursor { background: $primary 35%; text-style: bold; }
        """
        + TONE_CSS
        + "}"
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "jump(0)", "First", show=False),
        Binding("end,G", "jump(-1)", "Last", show=False),
        Binding("enter", "choose", "Open", show=False),
    ]

    class Moved(Message):
        """Another thing is under the cursor."""

        def __init__(self, grid: Grid[Any]) -> None:
            super().__init__()
            self.grid = grid

        @property
        def control(self) -> Grid[Any]:
            return self.grid

    class Chosen(Moved):
        """Enter, or a click on what was under the cursor already."""

    class HeadClicked(Moved):
        """Somebody wants it sorted by this column."""

        def __init__(self, grid: Grid[Any], column: Column[Any]) -> None:
            super().__init__(grid)
            self.column = column

    def __init__(
        self,
        columns: Sequence[Column[T]],
        key: Callable[[T], Hashable],
        *,
        empty: str,
        id: str | None = None,  # noqa: A002  textual's word
    ) -> None:
        """`key` tells things apart; `empty` is shown where there are none."""
        super().__init__(id=id)
        self._columns = columns
        self._key = key
        self._empty = empty
        self._rows: list[T] = []
        self._snapshot = Snapshot()
        self._cursor = 0
        self._sorted_by: Column[T] | None = None
        self._is_turned = False

    @property
    def rows(self) -> Sequence[T]:
        return self._rows

    @property
    def selected(self) -> T | None:
        """What is under the cursor."""
        return self._rows[self._cursor] if 0 <= self._cursor < len(self._rows) else None

    @property
    def row_width(self) -> int:
        """What is left beside the scroll bar."""
        return self.scrollable_content_region.width

    def show(
        self,
        rows: list[T],
        snapshot: Snapshot,
        *,
        sorted_by: Column[T] | None = None,
        turned: bool = False,
        empty: str | None = None,
    ) -> None:
        """Take other rows; the cursor goes with its thing, if that is still there."""
        held = self.selected
        held_key = None if held is None else self._key(held)
        self._rows, self._snapshot = rows, snapshot
        self._sorted_by, self._is_turned = sorted_by, turned
        self._empty = self._empty if empty is None else empty
        self._follow(held_key)
        size = Size(self.row_width, len(rows) + 1)
        if size != self.virtual_size:
            self.virtual_size = size
        self.refresh()
        after = self.selected
        if (None if after is None else self._key(after)) != held_key:
            self.post_message(self.Moved(self))

    def select(self, key: Hashable) -> None:
        """Put the cursor on a thing, if it is there."""
        self._follow(key)
        self._reveal()
        self.refresh()

    def _follow(self, key: Hashable) -> None:
        # Looked for where it was first: most rows stay in place.
        if key is not None and not (
            self._cursor < len(self._rows) and self._key(self._rows[self._cursor]) == key
        ):
            found = next((number for number, row in enumerate(self._rows) if self._key(row) == key), None)
            if found is not None:
                self._cursor = found
        self._cursor = max(0, min(self._cursor, len(self._rows) - 1))

    def action_move(self, steps: int) -> None:
        self._go(self._cursor + steps)

    def action_page(self, pages: int) -> None:
        self._go(self._cursor + pages * max(1, self.size.height - 2))

    def action_jump(self, to: int) -> None:
        self._go(len(self._rows) - 1 if to < 0 else 0)

    def action_choose(self) -> None:
        if self.selected is not None:
            self.post_message(self.Chosen(self))

    def _go(self, row: int) -> None:
        row = max(0, min(row, len(self._rows) - 1))
        if row != self._cursor:
            self._cursor = row
            self.post_message(self.Moved(self))
        self._reveal()
        self.refresh()

    def _reveal(self) -> None:
        """Scroll as little as is needed."""
        room = max(1, self.size.height - 1)
        top = round(self.scroll_y)
        if self._cursor < top:
            self.scroll_to(y=self._cursor, animate=False, force=True)
        elif self._cursor >= top + room:
            self.scroll_to(y=self._cursor - room + 1, animate=False, force=True)

    def on_resize(self) -> None:
        self.virtual_size = Size(self.row_width, len(self._rows) + 1)
        self._reveal()

    def on_click(self, event: events.Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            self._click_head(offset.x)
            return
        row = round(self.scroll_y) + offset.y - 1
        if row >= len(self._rows):
            return
        if row == self._cursor and event.chain > 1:
            self.action_choose()
        self._go(row)

    def _click_head(self, x: int) -> None:
        start = 0
        for column, width in lay_out(self._columns, self.row_width):
            if start <= x < start + width + GAP:
                self.post_message(self.HeadClicked(self, column))
                return
            start += width + GAP

    def render_line(self, y: int) -> Strip:
        width = self.row_width
        styles = tones_of(self)
        laid = lay_out(self._columns, width)
        gap = Segment(" " * GAP)
        found: list[Segment] = []
        row = round(self.scroll_y) + y - 1
        if y == 0:
            head = self.get_component_rich_style("grid--head")
            for column, size in laid:
                found += pieces(((self._title(column), ""),), size, styles, right=column.right)
                found.append(gap)
            return self._line(found, width, head)
        if row >= len(self._rows):
            if y == 1 and not self._rows:
                return self._line(pieces(((self._empty, DIM),), width, styles), width, None)
            return Strip.blank(width, self.rich_style)
        thing = self._rows[row]
        for column, size in laid:
            found += pieces(column.show(thing, self._snapshot), size, styles, right=column.right)
            found.append(gap)
        over = self.get_component_rich_style("grid--cursor") if row == self._cursor else None
        return self._line(found, width, over)

    def _title(self, column: Column[T]) -> str:
        if column is not self._sorted_by:
            return column.title
        return column.title + ("▼" if column.falls is not self._is_turned else "▲")

    def _line(self, found: Iterable[Segment], width: int, over: Style | None) -> Strip:
        base = self.rich_style if over is None else self.rich_style + over
        return Strip(Segment.apply_style(found, base)).adjust_cell_length(width, base)
