"""A small chart that scrolls to the left: how much in each second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import RenderResult
from textual.widget import Widget

from planetmesh.dashboard.plain import columns
from planetmesh.dashboard.widgets.tones import TONE_CLASSES, TONE_CSS, tones_of


class Chart(Widget):
    """As wide as it has room."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(TONE_CLASSES)
    DEFAULT_CSS = "Chart { height: 4; width: 1fr; " + TONE_CSS + "}"

    def __init__(self, title: str, tone: str, *, id: str) -> None:  # noqa: A002  textual's word
        super().__init__(id=id)
        self._tone = tone
        self._values: Sequence[float] = ()
        self.border_title = title

    def show(self, values: Sequence[float], said: str) -> None:
        """Values of each second, the newest last; `said` stands below."""
        self._values = values
        self.border_subtitle = said
        self.refresh()

    def render(self) -> RenderResult:
        size = self.content_size
        lines = columns(self._values, size.width, size.height)
        return Text("\n".join(lines), style=tones_of(self)[self._tone], no_wrap=True)
