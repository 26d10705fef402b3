"""Periodic stimuli: what time alone brings. Each is one small coroutine, owned by the service."""

from __future__ import annotations

import asyncio
import logging
import time

from planetmesh.coordinator.engine import Engine
from planetmesh.errors import StorageFailed
from planetmesh.mesh import effects as fx
from planetmesh.mesh import nodes
from planetmesh.mesh.state import MeshState
from planetmesh.model.clock import Moment

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
STALL_SECONDS = 5.0
"""A tick this late means that the machine slept (or the loop stood still), not that nodes were silent."""
SWEEP_SECONDS = 600.0


async def tick(engine: Engine) -> None:
    """Let the reactor look at the clock; after a sleep nobody is blamed for the silence."""
    before = time.time()
    while True:
        await asyncio.sleep(TICK_SECONDS)
        gap = time.time() - before - TICK_SECONDS
        before = time.time()
        if gap > STALL_SECONDS:
            log.warning("coordinator.slept", extra={"seconds": round(gap, 1)})
            engine.post(_forgive)
        engine.post(nodes.on_tick)


def _forgive(state: MeshState, now: Moment) -> fx.Effects:
    return nodes.on_woken(state, now)


async def sweep(engine: Engine) -> None:
    """Drop what is past its retention; a little at a time, off the engine's loop."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            await engine.store.sweep(time.time(), engine.settings)
            await engine.store.checkpoint()
        except StorageFailed as error:
            log.warning("store.sweep_failed", extra={"reason": error.message})
