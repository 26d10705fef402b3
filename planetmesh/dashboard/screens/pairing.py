"""Letting somebody in: a code in large letters, its countdown, and who came."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import ClassVar

from msgspec.structs import replace
from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Button

from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.newcomers import closer_of, members_of, newcomers
from planetmesh.client.pace import show_seconds
from planetmesh.dashboard.big_code import big
from planetmesh.dashboard.plain import BAD, BUSY, DIM, GOOD, STRONG, WARN, Cell, cell, parse_time, plain
from planetmesh.dashboard.screens.mesh_screen import MeshScreen
from planetmesh.dashboard.sheets import node_lines
from planetmesh.dashboard.snapshot import Snapshot
from planetmesh.dashboard.widgets.sheet import Sheet
from planetmesh.dashboard.working import begin
from planetmesh.errors import MeshError
from planetmesh.wire.api import PairingWindow

LOOK_SECONDS = 1.0
TTL_SECONDS = 600.0
WHO = {"agent": "machine", "operator": "person who may act", "viewer": "person who may look"}


class PairingScreen(MeshScreen):
    """See the module."""

    MODE = "pairing"
    CAN_EXPLAIN = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "open_window('agent')", "Machine"),
        Binding("o", "open_window('operator')", "Operator"),
        Binding("v", "open_window('viewer')", "Viewer"),
        Binding("x", "close_window", "Close it"),
        Binding("escape", "back", "Back"),
    ]
    DEFAULT_CSS = """
    PairingScreen {
        & #choices { height: 1; padding: 0 1; margin: 1 0; }
        & #choices Button { margin-right: 1; min-width: 12; }
        & #window { height: 1fr; padding: 0 2; }
        & #code { margin: 1 0; }
        & #arrived { margin-top: 1; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._over = ""
        """Why there is no window any more."""
        self._over_tone = DIM
        self._problem = ""
        self._wanted = "agent"

    def body(self) -> Iterable[Widget]:
        yield Horizontal(
            Button("a  machine", id="agent", compact=True),
            Button("o  operator", id="operator", compact=True),
            Button("v  viewer", id="viewer", compact=True),
            id="choices",
        )
        yield Vertical(
            Sheet(id="about"), Sheet(id="code"), Sheet(id="life"), Sheet(id="arrived"), id="window"
        )

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#agent").focus()
        self.set_interval(LOOK_SECONDS, self._look)

    def show(self, snapshot: Snapshot) -> None:
        window = self.dashboard.window
        about, code = self.query_one("#about", Sheet), self.query_one("#code", Sheet)
        life, arrived = self.query_one("#life", Sheet), self.query_one("#arrived", Sheet)
        if window is None:
            said = self._over or "Whom do you want to let in? A code is good for one, for ten minutes."
            about.show([((said, self._over_tone),)])
            code.show([])
            life.show([((self._problem, BAD),)] if self._problem else [])
        else:
            who = WHO.get(window.role, "newcomer")
            about.show(
                [((f"Good for one {who}. Type there: ", ""), (command_of(window), BUSY), (", then:", ""))]
            )
            large = big(window.code, self.size.width - 6)
            code.show([((line, STRONG),) for line in large])
            small: list[Cell] = [] if large == [window.code] else [((window.code, STRONG),)]
            life.show([*small, *self._life(window)])
        known = self.dashboard.known_members
        new = [node for node in snapshot.nodes if known is not None and node.id not in known]
        lines: list[Cell] = []
        for node in new[:3]:
            lines += [((f"✓ {plain(node.name)} has joined.", GOOD),), *node_lines(node, snapshot)[:2]]
        arrived.show(lines)

    def _life(self, window: PairingWindow) -> list[Cell]:
        left = seconds_left(window)
        lines: list[Cell] = [
            (("good for ", DIM), (show_seconds(left), WARN if left < 60 else ""),
             (f", {window.attempts_left} attempts are left", DIM)),
        ]  # fmt: skip
        if window.address:
            where = f"{command_of(window)} --join {plain(window.address)}"
            lines.append((("where multicast is blocked: ", DIM), (where, "")))
        lines += [cell(f"{address} tried a wrong code.", BAD) for address in window.last_failures]
        lines.append(cell("Escape leaves; the code stays good. x makes it worthless at once.", DIM))
        return lines

    def _look(self) -> None:
        if self.is_current and self.dashboard.window is not None:
            self.paint(self.dashboard.snapshot)
            begin(self, self._read_window, "window")

    async def _read_window(self) -> None:
        """Who tried, and whether it is used."""
        window = self.dashboard.window
        if window is None:
            return
        try:
            windows = await self.dashboard.watcher.ask(lambda mesh: mesh.pairings())
        except MeshError:
            return
        now = next((each for each in windows if each.slot == window.slot), None)
        over = (self._over, self._over_tone) if now is not None else await self._how_it_ended(window)
        if self.dashboard.window is not window:
            return  # closed here meanwhile, or another one is open
        self.dashboard.window = None if now is None else replace(now, code=window.code)
        self._over, self._over_tone = over
        self.paint(self.dashboard.snapshot)

    async def _how_it_ended(self, window: PairingWindow) -> tuple[str, str]:
        known = self.dashboard.known_members or frozenset()

        async def ask(mesh: AsyncMesh) -> tuple[tuple[str, ...], str]:
            return await newcomers(mesh, window.role, known), await closer_of(mesh, window.slot)

        try:
            came, closer = await self.dashboard.watcher.ask(ask)
        except MeshError:
            return "The window is not open any more.", DIM
        if came:
            names = ", ".join(plain(each, 40) for each in came[:3])
            # Which machine it is stands below, with all that is known of it.
            who = "." if window.role == "agent" else f": {names} came in as {window.role}."
            return f"The code is used{who}", GOOD
        if closer:
            return f"{plain(closer, 40)} closed the window; its code is worth nothing any more.", DIM
        if seconds_left(window) <= 0:
            return "The code has expired.", WARN
        if window.attempts_left <= 1:
            return "The window was closed: too many wrong codes.", BAD
        return "The window is gone: the coordinator was started again. Open another one.", WARN

    def action_open_window(self, role: str) -> None:
        if not self.dashboard.refuses_viewer():
            self._wanted = role
            begin(self, self._open, "open")

    async def _open(self) -> None:
        role = self._wanted

        async def open_it(mesh: AsyncMesh) -> tuple[PairingWindow, frozenset[str]]:
            known = await members_of(mesh, "agent") | await members_of(mesh, role)
            return await mesh.open_pairing(role, TTL_SECONDS), frozenset(known)

        try:
            window, known = await self.dashboard.watcher.ask(open_it)
        except MeshError as error:
            self._problem = plain(f"{error.message} {error.hint}", 400)
        else:
            self.dashboard.window, self.dashboard.known_members = window, known
            self._problem = ""
        self.paint(self.dashboard.snapshot)

    def action_close_window(self) -> None:
        window = self.dashboard.window
        if window is None:
            return
        self.dashboard.window = None
        self._over, self._over_tone = "You closed the window; its code is worth nothing any more.", DIM
        self.dashboard.order(lambda mesh: mesh.close_pairing(window.slot), lambda _: "The window is closed.")
        self.show(self.dashboard.snapshot)

    @on(Button.Pressed, "#choices Button")
    def _chosen(self, event: Button.Pressed) -> None:
        self.action_open_window(event.button.id or "agent")

    def action_back(self) -> None:
        self.dismiss()


def command_of(window: PairingWindow) -> str:
    """What the newcomer types."""
    if window.role == "agent":
        return "planetmesh up"
    return "planetmesh login" if window.role == "operator" else f"planetmesh login --role {window.role}"


def seconds_left(window: PairingWindow) -> float:
    expires = parse_time(window.expires_at)
    return 0.0 if expires is None else max(0.0, expires.timestamp() - time.time())
