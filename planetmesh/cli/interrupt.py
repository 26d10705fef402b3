"""Ctrl-C: the first asks us to stop in order, the second leaves at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from planetmesh.groups import TaskGroup

INTERRUPTED = 130
T = TypeVar("T")


class Interruption:
    """Catches SIGINT and SIGTERM while it is entered, inside a running loop."""

    def __init__(self, last: Callable[[], None] | None = None) -> None:
        """`last` is done at the second signal, in its handler, before the process is gone."""
        self._last = last
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._before: dict[int, Any] = {}
        self.signal_number = 0

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread may catch signals
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    async def interruptible(self, work: Coroutine[Any, Any, T]) -> T | None:
        """The work's result, or None if it was interrupted (then it was cancelled)."""
        async with TaskGroup() as group:
            task = group.create_task(work)
            waiting = group.create_task(self._event.wait())
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if not task.done():
                task.cancel()
        return None if task.cancelled() else task.result()

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        if self.signal_number:
            if self._last is not None:
                self._last()
            sys.stderr.write("\n")
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        self.signal_number = number
        self._loop.call_soon_threadsafe(self._event.set)
