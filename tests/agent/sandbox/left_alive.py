"""What of a job lives: found by its marker."""

from __future__ import annotations

import asyncio
import time

from planetmesh.agent.sandbox import tree

PATIENCE_SECONDS = 30.0


def marked(folder: str) -> list[int]:
    """Living processes that inherited the marker of a job."""
    living = [process.pid for process in tree.snapshot().values() if process.state not in "ZX"]
    return [pid for pid in living if tree.marker_of(pid).startswith(f"{folder}/")]


async def nobody_left(folder: str) -> None:
    """Wait for that."""
    end = time.monotonic() + PATIENCE_SECONDS
    while marked(folder):
        assert time.monotonic() < end, f"still alive: {marked(folder)}"
        await asyncio.sleep(0.02)
