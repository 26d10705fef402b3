"""The top line: whose mesh this is, where one is in the dashboard, and how it stands with the coordinator."""

from __future__ import annotations

import time
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from planetmesh.dashboard.plain import BAD, BUSY, DIM, GOOD, STRONG, WARN, Cell, plain
from planetmesh.dashboard.snapshot import LinkState, Snapshot
from planetmesh.dashboard.widgets.tones import TONE_CLASSES, TONE_CSS, to_text, tones_of

NAME_MOST = 24


def link_cell(snapshot: Snapshot) -> Cell:
    """`● live`, or what is the matter."""
    match snapshot.link.state:
        case LinkState.LIVE:
            return (("● ", GOOD), ("live", DIM))
        case LinkState.CONNECTING:
            return (("◌ ", BUSY), ("connecting", DIM))
        case LinkState.AWAY:
            return (("● ", WARN), ("away", WARN))
        case LinkState.REFUSED:
            return (("● ", BAD), ("refused", BAD))


def away_sentence(snapshot: Snapshot, now: float) -> str:
    """What to say while the coordinator cannot be asked; nothing while it can."""
    link = snapshot.link
    if link.state in {LinkState.LIVE, LinkState.CONNECTING}:
        return ""
    seconds = max(0, round(link.again_at - now))
    when = f"tried again in {seconds} s" if seconds else "trying again"
    if link.state is LinkState.AWAY and link.was_live:
        return f"The coordinator is away; {when}. This is how it was before."
    return f"{plain(link.sentence, 300).rstrip('.')}; {when}. {plain(link.hint, 300)}".strip()


def mesh_cell(snapshot: Snapshot) -> Cell:
    status = snapshot.status
    if status is None:
        return (("planetmesh", STRONG),)
    role = ((" viewer", WARN),) if snapshot.is_viewer else ()
    return ((plain(status.mesh, NAME_MOST), STRONG), *role)


class Tab(Static):
    """One of the main screens; a click goes there."""

    def __init__(self, number: int, mode: str) -> None:
        super().__init__(f"{number} {mode.capitalize()}", markup=False, id=f"tab-{mode}")
        self._mode = mode

    async def on_click(self) -> None:
        await self.run_action(f"app.go('{self._mode}')")


class Banner(Vertical):
    """One line, and a second one while there is something to say."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(TONE_CLASSES)
    DEFAULT_CSS = (
        """
    Banner {
        dock: top; height: auto; background: $panel;
        & Horizontal { height: 1; }
        & #mesh { width: 1fr; padding: 0 1; }
        & Tab { width: auto; padding: 0 1; color: $foreground 70%; }
        & Tab:hover { background: $primary 30%; }
        & Tab.-here { background: $primary; color: $text; text-style: bold; }
        & #link { width: auto; padding: 0 1; }
        & #away { height: auto; padding: 0 1; background: $warning 30%; color: $foreground; display: none; }
        & #away.-shown { display: block; }
        """
        + TONE_CSS
        + "}"
    )

    def __init__(self, modes: tuple[str, ...]) -> None:
        super().__init__()
        self._modes = modes

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static(id="mesh", markup=False)
            for number, mode in enumerate(self._modes, start=1):
                yield Tab(number, mode)
            yield Static(id="link", markup=False)
        yield Static(id="away", markup=False)

    def show(self, snapshot: Snapshot, mode: str) -> None:
        styles = tones_of(self)
        self.query_one("#mesh", Static).update(to_text([mesh_cell(snapshot)], styles))
        self.query_one("#link", Static).update(to_text([link_cell(snapshot)], styles))
        for tab in self.query(Tab):
            tab.set_class(tab.id == f"tab-{mode}", "-here")
        sentence = away_sentence(snapshot, time.time())
        if not sentence and snapshot.status is not None and snapshot.status.storage_error:
            sentence = f"The coordinator cannot write: {plain(snapshot.status.storage_error, 300)}"
        away = self.query_one("#away", Static)
        away.set_class(bool(sentence), "-shown")
        away.update(sentence)
