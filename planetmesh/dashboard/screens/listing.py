"""What the lists share: sort, filter, a sheet about what is selected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Generic, TypeVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Input

from planetmesh.dashboard.plain import DIM, Cell, cell
from planetmesh.dashboard.rows import Column, arrange
from planetmesh.dashboard.screens.mesh_screen import MeshScreen
from planetmesh.dashboard.snapshot import Snapshot
from planetmesh.dashboard.widgets.grid import Grid
from planetmesh.dashboard.widgets.search_line import SearchLine
from planetmesh.dashboard.widgets.sheet import Sheet

T = TypeVar("T")


class ListScreen(MeshScreen, Generic[T]):
    """A grid with a sheet below it."""

    COLUMNS: ClassVar[Sequence[Column]] = ()  # type: ignore[type-arg]  # a class variable has no T
    EMPTY: ClassVar[str] = "Nothing to show."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Filter", key_display="/"),
        Binding("o", "sort", "Sort", show=False),
        Binding("O", "turn", "Turn the order", show=False),
    ]
    DEFAULT_CSS = """
    ListScreen {
        & #selected { height: auto; max-height: 7; padding: 0 1; border-top: solid $foreground 30%; }
        & Grid { padding: 0 1; }
        & #beyond { padding: 0 1; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._sorted_by: Column[T] | None = None
        self._is_turned = False

    def key_of(self, thing: T) -> str:
        raise NotImplementedError

    def things(self, snapshot: Snapshot) -> Sequence[T]:
        raise NotImplementedError

    def about(self, thing: T, snapshot: Snapshot) -> list[Cell]:
        """The sheet about what is selected."""
        raise NotImplementedError

    def matches(self) -> Callable[[T, str], bool]:
        raise NotImplementedError

    def beyond(self, snapshot: Snapshot) -> str:  # noqa: ARG002  some lists are whole
        """What is not in the list, in words; nothing if all is."""
        return ""

    def body(self) -> Iterable[Widget]:
        yield Grid[T](self.COLUMNS, self.key_of, empty=self.EMPTY, id="grid")
        yield Sheet(id="beyond")
        yield Sheet(id="selected")
        yield SearchLine("only rows with these words; Escape shows all")

    @property
    def grid(self) -> Grid[T]:
        return self.query_one("#grid", Grid)

    def on_mount(self) -> None:
        super().on_mount()
        self.grid.focus()

    def show(self, snapshot: Snapshot) -> None:
        words = self.query_one(SearchLine).words
        rows = arrange(
            self.things(snapshot),
            snapshot,
            self._sorted_by,
            turned=self._is_turned,
            words=words,
            matches=self.matches(),
        )
        empty = f"No row has the words '{words}'. Escape shows all." if words else self.EMPTY
        self.grid.show(rows, snapshot, sorted_by=self._sorted_by, turned=self._is_turned, empty=empty)
        beyond = self.beyond(snapshot)
        self.query_one("#beyond", Sheet).show([cell(beyond, DIM)] if beyond else [])
        self._show_selected(snapshot)

    def _show_selected(self, snapshot: Snapshot) -> None:
        thing = self.grid.selected
        self.query_one("#selected", Sheet).show([] if thing is None else self.about(thing, snapshot))

    @on(Grid.Moved)
    def _moved(self) -> None:
        self._show_selected(self.dashboard.snapshot)
        self.look_at_selection()

    @on(Input.Changed, "#search")
    def _filter(self) -> None:
        self.show(self.dashboard.snapshot)

    @on(Input.Submitted, "#search")
    def _done_typing(self) -> None:
        self.grid.focus()

    @on(Grid.HeadClicked)
    def _sort_by_click(self, message: Grid.HeadClicked) -> None:
        if message.column is self._sorted_by:
            self._is_turned = not self._is_turned
        else:
            self._sorted_by, self._is_turned = message.column, False
        self.show(self.dashboard.snapshot)

    def action_search(self) -> None:
        self.query_one(SearchLine).open()

    def action_sort(self) -> None:
        """By the next column; after the last one as they come."""
        choices: list[Column[T] | None] = [None, *self.COLUMNS]
        self._sorted_by = choices[(choices.index(self._sorted_by) + 1) % len(choices)]
        self._is_turned = False
        self.show(self.dashboard.snapshot)

    def action_turn(self) -> None:
        self._is_turned = not self._is_turned
        self.show(self.dashboard.snapshot)
