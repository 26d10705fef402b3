"""Threads for everything that waits on the disk or hashes: the loop must never do either itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

THREADS = 8
"""Four transfers and as many tasks that are staged or collected; more would only queue at the disk."""


class FileThreads:
    """One per agent."""

    def __init__(self, threads: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(threads, "files")

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives or raises. Whoever is cancelled meanwhile goes on only when it has ended."""
        return await self.settled(self.begin(work))

    def begin(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Have it done beside other things; `settled` must follow."""
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def settled(self, future: asyncio.Future[T]) -> T:
        """What was begun, when it has ended."""
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([future])
            if not future.cancelled():
                future.exception()
            raise

    def later(self, work: Callable[[], object]) -> None:
        """Let a thread do it, whether or not anybody waits; what goes wrong is the work's own to tell."""
        self._pool.submit(work)

    async def close(self) -> None:
        """Wait until all is done."""
        await asyncio.to_thread(self._pool.shutdown, wait=True)
