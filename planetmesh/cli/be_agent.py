"""`up` as agent: the service in this very process, and what it says of itself.

Also the whole of the hidden `_agent`, the process beside a coordinator.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from planetmesh.cli.face import Face
from planetmesh.cli.part import Part
from planetmesh.paths import Home
from planetmesh.settings import Settings

if TYPE_CHECKING:
    from planetmesh.agent.service import AgentOptions
    from planetmesh.agent.state import AgentState


def be_agent(face: Face, home: Home, part: Part, settings: Settings) -> int:
    """Run tasks for the mesh until a signal comes: the first drains, the second stops now."""
    from planetmesh.agent.service import main

    main(agent_options(home, part, settings), _Teller(face).tell)
    return 0


def be_local_agent(home: Home, part: Part, settings: Settings) -> int:
    """The same for the process that `up` started: quiet, and gone when `up` is."""
    from planetmesh.agent.service import main

    main(agent_options(home, part, settings, beside_coordinator=True), _LifeLine().on_state)
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
        beside_coordinator=beside_coordinator,
        hidden=tuple(Path(path) for path in part.hides),
        settings=settings,
        find=None if part.mdns else _find_nobody,
    )


async def _find_nobody(_mesh_id: str) -> tuple[str, ...]:
    """With `--no-mdns`: remembered addresses only."""
    return ()


class _Teller:
    """Says how the agent stands, each thing once."""

    def __init__(self, face: Face) -> None:
        self._face = face
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
        if sentence:
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
        case Phase.ENDED:
            return "Stopped. `planetmesh up` goes on where it was."
        case _:
            return f"{state.detail} {state.hint}".strip()


class _LifeLine:
    """Holds on to stdin, whose other end `up` holds open: its end is our SIGTERM.

    A thread, because the loop belongs to the service; begun at the agent's first word, when the zygote
    has been forked.
    """

    def __init__(self) -> None:
        self._is_watched = False

    def on_state(self, _state: AgentState) -> None:
        if not self._is_watched:
            self._is_watched = True
            threading.Thread(target=self._watch, name="life-line", daemon=True).start()

    def _watch(self) -> None:
        while os.read(sys.__stdin__.fileno() if sys.__stdin__ else 0, 1024):
            continue
        os.kill(os.getpid(), signal.SIGTERM)
