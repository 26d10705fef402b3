"""Periodic stimuli: what time alone brings. Each is one small coroutine, owned by the service."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from planetmesh.coordinator.engine import Engine
from planetmesh.errors import MeshError
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
MINUTE_SECONDS = 60.0


async def tick(engine: Engine) -> None:
    """Let the reactor look at the clock; after a sleep nobody is blamed for the silence."""
    before = time.time()
    while True:
        asked_at = time.monotonic()
        await asyncio.sleep(TICK_SECONDS)
        engine.meters.lags.note(max(0.0, time.monotonic() - asked_at - TICK_SECONDS))
        gap = time.time() - before - TICK_SECONDS
        before = time.time()
        if gap > STALL_SECONDS:
            log.warning("coordinator.slept", extra={"seconds": round(gap, 1)})
            engine.post(_forgive)
        engine.post(nodes.on_tick)


def _forgive(state: MeshState, now: Moment) -> fx.Effects:
    return nodes.on_woken(state, now)


async def tell_minutes(engine: Engine) -> None:
    """What was done, in one line a minute, while anything is done."""
    while True:
        await asyncio.sleep(MINUTE_SECONDS)
        engine.journal.tell_minute(engine.meters, engine.state)


async def every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do upkeep again and again; what goes wrong is said, and tried again the next time."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except MeshError as error:
            log.warning("upkeep.failed", extra={"reason": error.message, "hint": error.hint})


async def sweep(engine: Engine) -> None:
    """Drop what is past its retention, a bounded piece at a time, so that nothing waits for it."""
    more = True
    while more:
        swept = await engine.store.sweep(time.time(), engine.settings, engine.outputs.drop_job)
        more = swept.more
        await asyncio.sleep(SWEEP_PAUSE_SECONDS)
    await engine.store.checkpoint()
    await engine.outputs.checkpoint()


async def back_up(engine: Engine) -> None:
    """Write a whole copy beside the database: what a damaged file is brought back from."""
    path = await engine.store.backup()
    log.debug("store.backed_up", extra={"path": str(path)})
