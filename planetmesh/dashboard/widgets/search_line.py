"""A line at the bottom to type words into: rows or lines without them go away, or the next one is found."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input


class SearchLine(Input):
    """Hidden until it is opened; Escape empties and hides it."""

    DEFAULT_CSS = """
    SearchLine { height: 1; border: none; padding: 0 1; background: $panel; display: none; }
    SearchLine:focus { border: none; height: 1; }
    SearchLine.-open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Close", show=False)]

    def __init__(self, what: str) -> None:
        super().__init__(placeholder=what, id="search", compact=True)

    @property
    def words(self) -> str:
        return self.value.strip()

    def open(self) -> None:
        self.add_class("-open")
        self.focus()

    def action_leave(self) -> None:
        self.value = ""
        self.remove_class("-open")
        self.screen.focus_next()
