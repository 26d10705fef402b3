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
SWEEP_PAUSE_SECONDS = 0.05
"""Between two pieces of one sweep: others want the disk too."""
BACKUP_SECONDS = 86400.0


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
    """Drop what is past its retention, a bounded piece at a time, so that nothing waits for it."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            more = True
            while more:
                swept = await engine.store.sweep(time.time(), engine.settings, engine.outputs.drop_job)
                more = swept.more
                await asyncio.sleep(SWEEP_PAUSE_SECONDS)
            await engine.store.checkpoint()
            await engine.outputs.checkpoint()
        except StorageFailed as error:
            log.warning("store.sweep_failed", extra={"reason": error.message})


async def back_up(engine: Engine) -> None:
    """Once a day a whole copy beside the database: what a damaged file is brought back from."""
    while True:
        try:
            path = await engine.store.backup()
            log.info("store.backed_up", extra={"path": str(path)})
        except StorageFailed as error:
            log.warning("store.backup_failed", extra={"reason": error.message, "hint": error.hint})
        await asyncio.sleep(BACKUP_SECONDS)
