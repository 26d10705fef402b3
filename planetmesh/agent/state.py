"""How the agent stands with its mesh, for whoever shows it (`up`'s screen, a service's log)."""

from __future__ import annotations

from enum import StrEnum

import msgspec


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
