"""The seed's formula: α·RTT + β·Load + γ·Queue + δ·(1 − Reliability); the lowest cost wins.

A task with large files adds a term of its own: what the node would have to fetch first.

Every term is a small function returning 0..1, so that the weights alone say what matters more.
"""

from __future__ import annotations

from planetmesh.mesh.live_node import LiveNode
from planetmesh.model.job import Terms
from planetmesh.settings import Weights

RTT_HALF_SECONDS = 0.010
"""The RTT at which the term is 0.5: a LAN is well below, a poor Wi-Fi at or above it."""

MISSING_HALF_BYTES = 100 * 1024 * 1024
"""The input to be fetched at which the term is 0.5: a second on a wired LAN."""


def rtt(live: LiveNode) -> float:
    seconds = live.rtt_seconds or 0.0
    return seconds / (seconds + RTT_HALF_SECONDS)


def load(live: LiveNode) -> float:
    return min(1.0, max(0.0, live.load.cpu))


def queue(live: LiveNode) -> float:
    """Work in hand against what the node offers: 0.5 when every slot is taken, towards 1 with backlog."""
    offered = live.offer.cpu_millis
    share = live.used.cpu_millis / offered if offered else 1.0
    return share / (share + 1.0)


def unreliability(live: LiveNode) -> float:
    return 1.0 - live.node.reliability


def missing_input(missing_bytes: int) -> float:
    return missing_bytes / (missing_bytes + MISSING_HALF_BYTES)


def cost(live: LiveNode, weights: Weights, missing_bytes: int = 0) -> float:
    """The cost alone: asked for each node that may be chosen."""
    return (
        weights.rtt * rtt(live)
        + weights.load * load(live)
        + weights.queue * queue(live)
        + weights.reliability * unreliability(live)
        + weights.missing_input * missing_input(missing_bytes)
    )


def terms(live: LiveNode, weights: Weights, missing_bytes: int = 0) -> Terms:
    return Terms(
        rtt=rtt(live),
        load=load(live),
        queue=queue(live),
        unreliability=unreliability(live),
        cost=cost(live, weights, missing_bytes),
        missing_input=missing_input(missing_bytes),
    )
