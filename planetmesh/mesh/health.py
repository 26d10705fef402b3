"""How well a node is, from the age of its last word; and how reliable, from how its tasks ended."""

from __future__ import annotations

from planetmesh.model.node import NodeState
from planetmesh.settings import Settings


def state_after(silence_seconds: float, settings: Settings) -> NodeState:
    if silence_seconds >= settings.offline_after_seconds:
        return NodeState.OFFLINE
    if silence_seconds >= settings.suspect_after_seconds:
        return NodeState.SUSPECT
    return NodeState.HEALTHY


def reliability_after(reliability: float, settings: Settings, *, good: bool) -> float:
    """The decayed success rate after one more end."""
    kept = settings.reliability_memory
    return reliability * kept + (1.0 - kept) * (1.0 if good else 0.0)
