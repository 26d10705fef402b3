"""Lines of words: a title with what belongs to it. Takes cells, wraps at its width, knows no markup."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.widgets import Static

from planetmesh.dashboard.plain import Cell
from planetmesh.dashboard.widgets.tones import TONE_CLASSES, TONE_CSS, to_text, tones_of


class Sheet(Static):
    """Shows what `show` was given last."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(TONE_CLASSES)
    DEFAULT_CSS = "Sheet { height: auto; " + TONE_CSS + "}"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002  textual's
        super().__init__(markup=False, id=id, classes=classes)
        self._lines: tuple[Cell, ...] = ()

    @property
    def lines(self) -> tuple[Cell, ...]:
        return self._lines

    def show(self, lines: Sequence[Cell]) -> None:
        if tuple(lines) != self._lines:
            self._lines = tuple(lines)
            self._draw()

    def notify_style_update(self) -> None:
        """Another theme has other colours."""
        super().notify_style_update()
        if self._lines and self.is_mounted:
            self._draw()

    def _draw(self) -> None:
        self.update(to_text(self._lines, tones_of(self)))
