"""How the agent stands with its mesh, for whoever shows it (`up`'s screen, a service's log)."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from planetmesh.model.node import Sandbox


class Phase(StrEnum):
    CONNECTING = "connecting"
    REGISTERED = "registered"
    LOST = "lost"
    """No coordinator answers; tasks run on and their ends are kept."""
    REFUSED = "refused"
    """The coordinator does not want this machine; it is asked again now and then."""
    DRAINING = "draining"
    """Ending on purpose: running tasks have a moment to finish."""
    ENDED = "ended"


class AgentState(msgspec.Struct, frozen=True):
    phase: Phase
    detail: str = ""
    """Why, in words for people."""
    hint: str = ""
    endpoint: str = ""
    name: str = ""
    mesh_name: str = ""
    running: int = 0
    """DRAINING: tasks that have a moment to end."""
    reason: str = ""
    """LOST: what came of the last try, if it was not a coordinator that said goodbye."""


class AgentNumbers(msgspec.Struct, frozen=True):
    """What the agent has in hand."""

    running: int = 0
    """Tasks."""
    waiting: int = 0
    """Tasks that were sent here ahead."""
    unsent: int = 0
    """Messages about tasks that the coordinator has not confirmed."""
    sandbox: Sandbox = Sandbox()
    refuses: str = ""
    """Why it takes no tasks, if that is so."""
    clock_ahead_seconds: float = 0.0
    """This machine's clock before the coordinator's, as it was at the last hello."""
    disk_free_bytes: int | None = None
    """Where tasks' folders lie; None before it was looked at."""
