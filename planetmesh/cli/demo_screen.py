"""What the demo shows while it runs: picture, mesh and progress; plain lines without a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.color import Color
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from planetmesh.cli.demo_canvas import Pixel, Preview
from planetmesh.cli.demo_scene import Picture, Tile

REDRAWS_A_SECOND = 5
MOST_COLUMNS = 112
LINES_BESIDE = 14
"""Title, nodes, progress and story."""
STORY_LINES = 4
STEP_SHARE = 0.1
"""Without a terminal: a line for each tenth."""
COLOURS = {"HEALTHY": "green", "SUSPECT": "yellow", "OFFLINE": "red"}


@dataclass
class NodeLine:
    """One machine as it is shown."""

    name: str
    state: str = "OFFLINE"
    running: int = 0
    done: int = 0
    was_killed: bool = False


@dataclass
class View:
    """What is known at the moment."""

    total: int
    nodes: list[NodeLine] = field(default_factory=list)
    done: int = 0
    retrying: int = 0
    story: list[str] = field(default_factory=list)
    began_at: float = field(default_factory=time.monotonic)


class PlainScreen:
    """Lines on stderr."""

    def __init__(self, view: View, *, quiet: bool) -> None:
        self._view = view
        self._quiet = quiet
        self._shown = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def tell(self, sentence: str) -> None:
        """Something happened."""
        if not self._quiet:
            print(sentence, file=sys.stderr, flush=True)

    def put(self, tile: Tile, pixels: bytes) -> None:
        """A tile arrived; there is no picture in plain lines."""

    def refresh(self) -> None:
        share = self._view.done / self._view.total
        if share - self._shown >= STEP_SHARE or (share == 1.0 and self._shown < 1.0):
            self._shown = share
            nodes = ", ".join(f"{each.name} {_state_of(each)} {each.done}" for each in self._view.nodes)
            self.tell(f"{share:4.0%}  {self._view.done}/{self._view.total} tiles  ({nodes})")


class LiveScreen:
    """A whole terminal's worth: the picture forms as half blocks, two pixels to a letter."""

    def __init__(self, view: View, picture: Picture) -> None:
        self._view = view
        self._console = Console(stderr=True, highlight=False)
        columns, lines = _fit(picture, self._console.width, self._console.height)
        self._preview = Preview(picture, columns, lines * 2)
        self._blocks = HalfBlocks(self._preview)
        self._live = Live(
            self._render(), console=self._console, auto_refresh=False, transient=False, redirect_stderr=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refresh()
        self._live.stop()

    def tell(self, sentence: str) -> None:
        self._view.story.append(sentence)
        self.refresh()

    def put(self, tile: Tile, pixels: bytes) -> None:
        self._preview.put(tile, pixels)

    def refresh(self) -> None:
        self._live.update(self._render(), refresh=True)

    def _render(self) -> Group:
        story = [Text(f"  {line}", style="dim") for line in self._view.story[-STORY_LINES:]]
        padding = [Text("")] * (STORY_LINES - len(story))
        return Group(self._blocks, _nodes_table(self._view), _progress(self._view), *story, *padding)


class HalfBlocks:
    """A preview as letters: the upper pixel is the letter's colour, the lower one its ground."""

    def __init__(self, preview: Preview) -> None:
        self._preview = preview
        self._drawn: dict[int, tuple[tuple[int, int], list[Segment]]] = {}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in range(self._preview.height // 2):
            yield from self._line(line)
            yield Segment.line()

    def _line(self, line: int) -> list[Segment]:
        versions = (self._preview.versions[2 * line], self._preview.versions[2 * line + 1])
        known = self._drawn.get(line)
        if known is None or known[0] != versions:
            above, below = self._preview.rows[2 * line], self._preview.rows[2 * line + 1]
            known = (versions, list(_runs(above, below)))
            self._drawn[line] = known
        return known[1]


def _runs(above: list[Pixel], below: list[Pixel]) -> Iterator[Segment]:
    """Letters of the same two colours side by side are one segment."""
    start = 0
    for column in range(1, len(above) + 1):
        if column == len(above) or (above[column], below[column]) != (above[start], below[start]):
            style = Style(color=Color.from_rgb(*above[start]), bgcolor=Color.from_rgb(*below[start]))
            yield Segment("▀" * (column - start), style)
            start = column


def _fit(picture: Picture, columns: int, lines: int) -> tuple[int, int]:
    """Columns and lines of letters that keep the picture's proportions: a letter is two pixels high."""
    columns = max(16, min(MOST_COLUMNS, columns - 1))
    wanted = max(4, round(columns * picture.height / picture.width / 2))
    most = max(4, lines - LINES_BESIDE)
    if wanted > most:
        return max(16, round(most * 2 * picture.width / picture.height)), most
    return columns, wanted


def _state_of(node: NodeLine) -> str:
    return "killed" if node.was_killed else node.state


def _nodes_table(view: View) -> Table:
    table = Table(box=None, pad_edge=True, padding=(0, 2))
    for title in ("machine", "state"):
        table.add_column(title, header_style="dim")
    for title in ("running", "tiles"):
        table.add_column(title, justify="right", header_style="dim")
    for node in view.nodes:
        state = Text(node.state, style=COLOURS.get(node.state, ""))
        if node.was_killed:
            state.append("  killed with SIGKILL", style="red")
        table.add_row(Text(node.name, style="bold"), state, str(node.running or "·"), str(node.done))
    return table


def _progress(view: View) -> Text:
    width = 40
    share = view.done / view.total
    seconds = time.monotonic() - view.began_at
    line = Text("  ")
    line.append("█" * int(share * width), style="cyan")
    line.append("░" * (width - int(share * width)), style="dim")
    line.append(f"  {view.done}/{view.total} tiles  {seconds:.0f} s")
    if view.retrying:
        line.append(f"  {view.retrying} going elsewhere", style="yellow")
    return line
