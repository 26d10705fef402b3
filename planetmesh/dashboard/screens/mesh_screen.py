"""What all screens share: the banner, the footer, the newest snapshot, the panel that explains."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widget import Widget

from planetmesh.client.async_client import AsyncMesh
from planetmesh.dashboard.plain import DIM, WARN, cell
from planetmesh.dashboard.sheets import explanation_lines
from planetmesh.dashboard.snapshot import Snapshot
from planetmesh.dashboard.widgets.banner import Banner
from planetmesh.dashboard.widgets.keys import Keys
from planetmesh.dashboard.widgets.sheet import Sheet
from planetmesh.dashboard.working import begin
from planetmesh.errors import MeshError
from planetmesh.wire.api import Explanation

if TYPE_CHECKING:
    from planetmesh.dashboard.app import Dashboard

MODES = ("overview", "nodes", "jobs")
EXPLAIN_SECONDS = 2.0
"""Between two looks while the panel is open: reasons change."""

Explaining = tuple[object, Callable[[AsyncMesh], Coroutine[Any, Any, Explanation]]]
"""What is explained (to tell it from another), and how to ask."""


class MeshScreen(Screen[None]):
    """`body` makes its widgets, `show` fills them; it is called a few times a second and must be quick."""

    MODE: ClassVar[str] = ""
    CAN_EXPLAIN: ClassVar[bool] = True
    BINDINGS: ClassVar[list[BindingType]] = [Binding("e", "explain", "Explain")]
    DEFAULT_CSS = """
    MeshScreen {
        & #explain-panel {
            dock: bottom; height: auto; max-height: 40%; display: none; margin-bottom: 1;
            border: round $primary; border-title-color: $foreground; background: $surface; padding: 0 1;
        }
        & #explain-panel.-open { display: block; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._explained: object = None

    @property
    def dashboard(self) -> Dashboard:
        return cast("Dashboard", self.app)

    def compose(self) -> ComposeResult:
        yield Banner(MODES)
        yield from self.body()
        panel = VerticalScroll(Sheet(id="explanation"), id="explain-panel", can_focus=False)
        panel.border_title = "why (e closes)"
        yield panel
        yield Keys(show_command_palette=False, compact=True)

    def body(self) -> Iterable[Widget]:
        raise NotImplementedError

    def show(self, snapshot: Snapshot) -> None:
        raise NotImplementedError

    def on_mount(self) -> None:
        self.set_interval(EXPLAIN_SECONDS, self._explain_again)

    def on_screen_resume(self) -> None:
        self.paint(self.dashboard.snapshot)

    def paint(self, snapshot: Snapshot) -> None:
        """Show a snapshot, banner and all."""
        # A screen that is just being made or taken down lacks some of its widgets; the next look comes soon.
        with suppress(NoMatches):
            self.query_one(Banner).show(snapshot, self.MODE)
            self.show(snapshot)

    # Why

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No key for what a screen cannot do."""
        return self.CAN_EXPLAIN if action == "explain" else super().check_action(action, parameters)

    def explained(self) -> Explaining | None:
        """What the panel is about now."""
        return None

    def action_explain(self) -> None:
        panel = self.query_one("#explain-panel")
        panel.toggle_class("-open")
        self.app.clear_notifications()
        self._explained = None
        self.look_at_selection()

    @property
    def is_explaining(self) -> bool:
        return self.query_one("#explain-panel").has_class("-open")

    def look_at_selection(self) -> None:
        """Something else may be selected: explain that, if anything is to be explained."""
        if not self.is_explaining:
            return
        wanted = self.explained()
        what = None if wanted is None else wanted[0]
        if what == self._explained and what is not None:
            return
        self._explained = what
        sheet = self.query_one("#explanation", Sheet)
        if wanted is None:
            sheet.show([cell("Select something first.", DIM)])
            return
        begin(self, partial(self._explain, wanted), "explain")

    def _explain_again(self) -> None:
        with suppress(NoMatches):  # as in `paint`
            if self.is_current and self.is_explaining and (wanted := self.explained()) is not None:
                begin(self, partial(self._explain, wanted), "explain")

    async def _explain(self, wanted: Explaining) -> None:
        sheet = next(iter(self.query("#explanation").results(Sheet)), None)
        if sheet is None:
            return
        try:
            sheet.show(explanation_lines(await self.dashboard.watcher.ask(wanted[1])))
        except MeshError as error:
            sheet.show([cell(f"{error.message} {error.hint}", WARN)])
