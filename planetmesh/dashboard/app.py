"""The dashboard's application: looks at the newest snapshot a few times a second and shows it.

Whatever comes from the mesh is drawn as it is, never as markup, after `plain.plain`. Errors become a sentence
at the lower edge; a mistake of ours ends the program and is left in `crash` for the caller to report.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, ClassVar, TypeVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.events import Event, Paste
from textual.screen import ModalScreen, Screen
from textual.theme import Theme

from planetmesh.client.async_client import AsyncMesh
from planetmesh.dashboard.draft import Draft, Maker
from planetmesh.dashboard.feed import Watcher
from planetmesh.dashboard.plain import count_of, pasted, plain
from planetmesh.dashboard.screens.help import HelpScreen
from planetmesh.dashboard.screens.jobs import JobsScreen
from planetmesh.dashboard.screens.mesh_screen import MeshScreen
from planetmesh.dashboard.screens.nodes import NodesScreen
from planetmesh.dashboard.screens.overview import OverviewScreen
from planetmesh.dashboard.screens.pairing import PairingScreen
from planetmesh.dashboard.screens.submit import SubmitScreen
from planetmesh.dashboard.sparing import Allowance, counting, drawn_by
from planetmesh.dashboard.working import begin
from planetmesh.errors import MeshError
from planetmesh.wire.api import PairingWindow

APP_ACTIONS = ("app.", "quit", "help", "submit", "pair")
LOOK_SECONDS = 0.2
"""Between two looks at the newest snapshot: at most five repaints a second, whatever happens."""
THERE_SECONDS = 2.0
"""A terminal that is gone without a signal makes textual ask it again and again, with a whole core."""
SAID_MOST_LETTERS = 400
VIEWER = (
    "You are a viewer of this mesh: you may look, and an operator may act. "
    "`planetmesh code --role operator` there, then `planetmesh login` here, makes you one."
)
DARK, LIGHT = "planetmesh-dark", "planetmesh-light"

THEMES = (
    Theme(
        name=DARK,
        primary="#4f8fc0",
        secondary="#7aa2c8",
        accent="#5fb3d9",
        success="#5fbf7a",
        warning="#e0a94a",
        error="#e5686b",
        foreground="#d5dbe1",
        background="#12161b",
        surface="#171c22",
        panel="#202730",
        dark=True,
    ),
    Theme(
        name=LIGHT,
        primary="#2f6ea3",
        secondary="#4a7fae",
        accent="#1d6f9c",
        success="#1f7a3d",
        warning="#a56a00",
        error="#b3262a",
        foreground="#1d252c",
        background="#fbfbfa",
        surface="#f4f4f2",
        panel="#e6e7e6",
        dark=False,
    ),
)

T = TypeVar("T")


class Dashboard(App[None]):
    """One mesh on a terminal. `run` returns when its user leaves."""

    TITLE = "planetmesh"
    CSS = """
    * { scrollbar-size-vertical: 1; }
    /* Textual's own are five lines high and half as wide as the screen: more was hidden than said. */
    Toast { padding: 0 1; max-width: 75%; }
    """
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "overview": OverviewScreen,
        "nodes": NodesScreen,
        "jobs": JobsScreen,
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "go('overview')", "Overview", show=False),
        Binding("2", "go('nodes')", "Nodes", show=False),
        Binding("3", "go('jobs')", "Jobs", show=False),
        Binding("s", "submit", "Submit"),
        Binding("c", "pair", "Code"),
        Binding("question_mark,f1", "help", "Help", key_display="?", show=False),
        Binding("T", "turn_theme", "Light or dark", show=False),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(
        self,
        watcher: Watcher,
        make_order: Maker,
        *,
        theme: str = DARK,
        driver: type[Driver] | None = None,
        allowance: Allowance | None = None,
        is_there: Callable[[], bool] | None = None,
    ) -> None:
        """`watcher` is started with the app and stopped with it; `make_order` reads what the form says.

        `driver`: what it is drawn with, if not on this terminal. `allowance`: how much may be drawn, where
        the way to the terminal is slow. `is_there`: whether the terminal still is; the app ends without.
        """
        super().__init__(driver_class=driver)
        for each in THEMES:
            self.register_theme(each)
        self.theme = theme
        self.watcher = watcher
        self.make_order = make_order
        self.snapshot = watcher.latest
        self.draft = Draft()
        """What was typed into the form and not handed in."""
        self.window: PairingWindow | None = None
        """The pairing window that was opened here: only its opener is told the code."""
        self.known_members: frozenset[str] | None = None
        """Ids of who was there when it was opened: nodes, and people of its role."""
        self.allowance = allowance
        self.repaints = 0
        """How often something new was shown."""
        self._is_there = is_there
        self.crash: BaseException | None = None

    def on_mount(self) -> None:
        self.watcher.start()
        self.switch_mode("overview")
        self.set_interval(LOOK_SECONDS, self.look)
        self.set_interval(THERE_SECONDS, self._leave_if_alone)

    def on_unmount(self) -> None:
        self.watcher.stop()

    def _leave_if_alone(self) -> None:
        if self._is_there is not None and not self._is_there():
            self.exit()

    def look(self) -> None:
        """Show the newest snapshot, if it is another; while the coordinator is away, once a second anyway."""
        if self.watcher.crash is not None:
            self._handle_exception(_as_exception(self.watcher.crash))
            return
        is_slow = self.allowance is not None and not self.allowance.lets(
            drawn_by(self.driver_class), time.monotonic()
        )
        latest = self.watcher.latest
        if is_slow or latest.number == self.snapshot.number:
            return
        self.snapshot = latest
        self.repaints += 1
        for screen in reversed(self.screen_stack):
            if isinstance(screen, MeshScreen):
                screen.paint(latest)
                break

    async def on_event(self, event: Event) -> None:
        """What is pasted may come from anywhere, and a field draws it as it is."""
        if isinstance(event, Paste) and not event.is_forwarded:
            shown = pasted(event.text)
            if lost := len(event.text.replace("\r\n", "\n")) - len(shown):
                self.say(
                    f"{count_of(lost, 'letter')} that cannot be seen did not go in with what was pasted."
                )
            event = Paste(shown)
        await super().on_event(event)

    def get_driver_class(self) -> type[Driver]:
        return counting(super().get_driver_class())

    # What screens do

    def order(self, work: Callable[[AsyncMesh], Coroutine[Any, Any, T]], said: Callable[[T], str]) -> None:
        """Do something with the mesh and say what came of it."""
        if not self.refuses_viewer():
            # What was said of the last one lies over what one looks at now.
            self.clear_notifications()
            begin(self, partial(self._order, work, said), "orders", only=False)

    async def _order(
        self, work: Callable[[AsyncMesh], Coroutine[Any, Any, T]], said: Callable[[T], str]
    ) -> None:
        try:
            answer = await self.watcher.ask(work)
        except MeshError as error:
            self.say(f"{error.message} {error.hint}", is_error=True)
        else:
            self.say(said(answer))

    def refuses_viewer(self) -> bool:
        """Whether this user may only look; says so."""
        if self.snapshot.is_viewer:
            self.clear_notifications()
            self.say(VIEWER, is_error=True)
        return self.snapshot.is_viewer

    def say(self, sentence: str, *, is_error: bool = False) -> None:
        self.notify(
            plain(sentence.strip(), SAID_MOST_LETTERS),
            severity="error" if is_error else "information",
            timeout=10 if is_error else 6,
            markup=False,
        )

    # Commands

    def action_go(self, mode: str) -> None:
        """One of the main screens itself, whatever was opened from it."""
        if self.current_mode == mode:
            while len(self.screen_stack) > 1:
                self.pop_screen()
        else:
            self.switch_mode(mode)

    def action_help(self) -> None:
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    def action_submit(self) -> None:
        self._push_once(SubmitScreen)

    def action_pair(self) -> None:
        self._push_once(PairingScreen)

    def _push_once(self, kind: type[SubmitScreen | PairingScreen]) -> None:
        if not isinstance(self.screen, kind | ModalScreen):
            self.push_screen(kind())

    def action_turn_theme(self) -> None:
        self.theme = LIGHT if self.current_theme.dark else DARK

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What Ctrl+P offers: the main screens, then what the screen that is shown can do."""
        yield SystemCommand("Overview", "The mesh at a glance", lambda: self.action_go("overview"))
        yield SystemCommand("Nodes", "The machines of the mesh", lambda: self.action_go("nodes"))
        yield SystemCommand("Jobs", "What was handed in", lambda: self.action_go("jobs"))
        yield SystemCommand("Submit a job", "A command or a script, with inputs", self.action_submit)
        yield SystemCommand("Pairing code", "Let a machine or a person in", self.action_pair)
        for _node, binding, _enabled, _tooltip in screen.active_bindings.values():
            if binding.show and not binding.action.startswith(APP_ACTIONS):
                yield SystemCommand(
                    binding.description, f"On this screen: key {binding.key_display or binding.key}",
                    _doing(screen, binding.action),
                )  # fmt: skip
        yield SystemCommand("Light or dark", "Turn the theme", self.action_turn_theme)
        yield SystemCommand("Help", "All keys", self.action_help)
        yield SystemCommand("Quit", "Leave the dashboard; the mesh goes on", self.action_quit)

    # Mistakes of ours

    def _handle_exception(self, error: Exception) -> None:
        """No traceback on anybody's screen: the command line keeps it in a file and says where."""
        self.crash = self.crash or error
        if self.is_headless:
            super()._handle_exception(error)
        else:
            self.exit(return_code=1)


def _doing(screen: Screen[Any], action: str) -> Callable[[], Any]:
    async def do() -> None:
        await screen.run_action(action)

    return do


def _as_exception(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
