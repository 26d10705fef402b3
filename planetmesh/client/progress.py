"""How far a transfer is, for whoever waits for it: counted while it runs, told a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

TELL_SECONDS = 0.1


class Progress(msgspec.Struct):
    """One phase after the other; counts begin anew with each."""

    phase: str = ""
    """`reading`, `sending` or `fetching`."""
    done_bytes: int = 0
    total_bytes: int = 0
    kept_bytes: int = 0
    """Of those done: what an earlier try had brought already, which says nothing of how quick this one is."""
    done_files: int = 0
    total_files: int = 0

    def begin(self, phase: str, total_bytes: int, total_files: int) -> None:
        self.phase = phase
        self.total_bytes, self.total_files = total_bytes, total_files
        self.done_bytes = self.kept_bytes = self.done_files = 0


OnProgress = Callable[[Progress], None]
"""Called in the loop of the transfer; the same value each time, changed."""


@contextmanager
def telling(progress: Progress, on_progress: OnProgress | None) -> Iterator[None]:
    """Tell as long as the block runs, and once at its end."""
    if on_progress is None:
        yield
        return
    tell = _Tell(progress, on_progress)
    tell.again()
    try:
        yield
    finally:
        tell.timer.cancel()
        on_progress(progress)


class _Tell:
    timer: asyncio.TimerHandle

    def __init__(self, progress: Progress, on_progress: OnProgress) -> None:
        self._loop = asyncio.get_running_loop()
        self._progress = progress
        self._on_progress = on_progress

    def again(self) -> None:
        if self._progress.phase:
            self._on_progress(self._progress)
        self.timer = self._loop.call_later(TELL_SECONDS, self.again)
