"""`up` as agent: the service in this very process, and what it says of itself.

Also the whole of the hidden `_agent`, the process beside a coordinator.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from planetmesh.cli.face import Face
from planetmesh.cli.life_line import LifeLine
from planetmesh.cli.part import Part
from planetmesh.paths import Home
from planetmesh.settings import Settings

if TYPE_CHECKING:
    from planetmesh.agent.service import AgentOptions
    from planetmesh.agent.state import AgentState


def be_agent(face: Face, home: Home, part: Part, settings: Settings, *, tied: bool = False) -> int:
    """Run tasks for the mesh until a signal comes: the first drains, the second stops now."""
    from planetmesh.agent.service import main

    teller, life_line = _Teller(face), LifeLine()

    def on_state(state: AgentState) -> None:
        # Its first word comes when the zygote has been forked: only then may there be a thread.
        if tied:
            life_line.hold()
        teller.tell(state)

    main(agent_options(home, part, settings), on_state)
    return 0


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
            return ""
        case _:
            return f"{state.detail} {state.hint}".strip()
