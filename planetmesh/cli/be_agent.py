"""`up` as agent: the service in this very process, and what it says of itself.

Also the whole of the hidden `_agent`, the process beside a coordinator.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from planetmesh.cli.face import Face
from planetmesh.cli.life_line import LifeLine
from planetmesh.cli.part import Part
from planetmesh.paths import Home
from planetmesh.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from planetmesh.agent.service import AgentOptions
    from planetmesh.agent.state import AgentNumbers, AgentState


def be_agent(
    face: Face, home: Home, part: Part, settings: Settings, *, tied: bool = False, log_format: str = "text"
) -> int:
    """Run tasks for the mesh until a signal comes: the first drains, the second stops now."""
    from planetmesh.agent.service import main

    screen = _screen_for(face, home, log_format)
    teller, life_line = _Teller(face, has_panel=screen is not None), LifeLine()

    def on_state(state: AgentState) -> None:
        # Its first word comes when the zygote has been forked: only then may there be a thread.
        if tied:
            life_line.hold()
        if screen is not None:
            screen.on_state(state)
        teller.tell(state)

    try:
        main(agent_options(home, part, settings), on_state, screen.on_numbers if screen else None)
    finally:
        if screen is not None:
            screen.close()
    face.printer.note("Stopped. `planetmesh up` goes on where it was.")
    return 0


def _screen_for(face: Face, home: Home, log_format: str) -> _Screen | None:
    """The panel, where there is a person to look at it."""
    from planetmesh.cli.panel import has_panel

    wanted = face.printer.form == "table" and log_format == "text" and has_panel()
    return _Screen(home) if wanted else None


class _Screen:
    """The panel of a machine that only runs tasks."""

    def __init__(self, home: Home) -> None:
        from planetmesh.cli.panel import Panel
        from planetmesh.trust.identity import Identity

        identity = Identity.load(home.agent, accept_expired=True)
        self._known = identity.membership
        self._fingerprint = identity.short_fingerprint
        self._panel = Panel()
        self._began = time.monotonic()
        self._state: AgentState | None = None
        self._since = ""
        self._endpoint = next(iter(self._known.endpoints), "")
        self._numbers: AgentNumbers | None = None

    def on_state(self, state: AgentState) -> None:
        self._panel.open()
        if self._state is None or state.phase is not self._state.phase:
            self._since = time.strftime("%H:%M:%S")
        self._state = state
        self._endpoint = state.endpoint or self._endpoint
        self._show()

    def on_numbers(self, numbers: AgentNumbers) -> None:
        if numbers != self._numbers:
            self._numbers = numbers
            self._show()

    def close(self) -> None:
        self._panel.close()

    def _show(self) -> None:
        from planetmesh.cli import up_lines

        if self._state is None:
            return
        state = self._state
        rows = up_lines.agent_rows(state, self._since, self._numbers, self._fingerprint, self._endpoint)
        title = up_lines.agent_title(state.name or self._known.name, state.mesh_name or self._known.mesh_name)
        self._panel.show(lambda size: up_lines.panel(title, self._began, rows, size))


def be_local_agent(home: Home, part: Part, settings: Settings) -> int:
    """The same for the process that `up` started: quiet, and gone soon after `up` is.

    A coordinator that crashed must not cost what runs here: the tasks end first, and nothing new begins.
    """
    from planetmesh.agent.service import ORPHANED, main

    life_line = LifeLine(ORPHANED)
    main(agent_options(home, part, settings, beside_coordinator=True), lambda _state: life_line.hold())
    return 0


def agent_options(
    home: Home, part: Part, settings: Settings, *, beside_coordinator: bool = False
) -> AgentOptions:
    from planetmesh.agent.service import AgentOptions

    return AgentOptions(
        home=home,
        name=part.name,
        tags=part.tags,
        offers=part.offer,
        shares=part.shares,
        embedding_server=part.embedding_server,
        beside_coordinator=beside_coordinator,
        hidden=tuple(Path(path) for path in part.hides),
        settings=settings,
        find=None if beside_coordinator and part.mdns else _finder(part),
    )


def _finder(part: Part) -> Callable[[str], Awaitable[Sequence[str]]] | None:
    if not part.mdns:
        return _find_nobody
    if not part.bind:
        return None
    from planetmesh.agent.service import find_on_lan

    return partial(find_on_lan, bind=part.bind)


async def _find_nobody(_mesh_id: str) -> tuple[str, ...]:
    """With `--no-mdns`: remembered addresses only."""
    return ()


class _Teller:
    """Says how the agent stands, each thing once."""

    def __init__(self, face: Face, *, has_panel: bool) -> None:
        self._face = face
        self._has_panel = has_panel
        self._last: tuple[str, str] | None = None

    def tell(self, state: AgentState) -> None:
        news = (state.phase.value, state.detail)
        if news == self._last:
            return
        self._last = news
        self._face.printer.event(
            {"event": "state", "role": "agent", "state": state.phase.value, "detail": state.detail}
        )
        sentence = _sentence(state)
        # The panel says that it connects and that it ends.
        is_shown = self._has_panel and state.phase.value in {"connecting", "draining"}
        if sentence and not is_shown:
            self._face.printer.note(sentence)


def _sentence(state: AgentState) -> str:
    from planetmesh.agent.state import Phase

    match state.phase:
        case Phase.REGISTERED:
            return (
                f"'{state.name}' takes part in the mesh '{state.mesh_name}' (coordinator {state.endpoint})."
            )
        case Phase.CONNECTING:
            return "Connecting…"
        case Phase.DRAINING:
            from planetmesh.cli.up_lines import finishing

            return finishing(state.running)
        case Phase.ENDED:
            return ""
        case _:
            return f"{state.detail} {state.hint}".strip()
