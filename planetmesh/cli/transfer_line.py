"""One line on stderr that tells how far files are on their way; only on a terminal.

Wiped before anything else is printed, like the line of a job's tasks.
"""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from planetmesh.cli.progress import BAR_LETTERS, SMOOTHING, show_seconds
from planetmesh.model.resources import show_size

if TYPE_CHECKING:
    from planetmesh.cli.output import Printer
    from planetmesh.client.progress import Progress

FIRST_SECONDS = 0.5
"""What is over sooner needs no line."""
RATE_SECONDS = 1.0


class TransferLine:
    """Draws on a terminal while it is entered, does nothing elsewhere."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._enabled = printer.form == "table" and sys.stderr.isatty()
        self._shown = 0
        self._phase = ""
        self._begun_at = time.monotonic()
        self._rate: float | None = None
        self._counted = (self._begun_at, 0)

    def __enter__(self) -> Self:
        self._before = self._printer.make_room
        self._printer.make_room = self.wipe
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()
        self._printer.make_room = self._before

    def update(self, progress: Progress) -> None:
        """Take new numbers in and draw them."""
        now = time.monotonic()
        self._measure(now, progress)
        if self._enabled and now - self._begun_at >= FIRST_SECONDS:
            text = self.text(progress)[: max(10, shutil.get_terminal_size().columns - 1)]
            sys.stderr.write("\r" + text.ljust(self._shown))
            sys.stderr.flush()
            self._shown = len(text)

    def wipe(self) -> None:
        if self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            sys.stderr.flush()
            self._shown = 0

    def text(self, progress: Progress) -> str:
        """`sending [====>     ] 1.2 GiB of 4.0 GiB  3/12 files  110 MiB/s  0:25 left`"""
        total = progress.total_bytes
        share = progress.done_bytes / total if total else 1.0
        filled = min(BAR_LETTERS, int(share * BAR_LETTERS))
        bar = "=" * filled + (">" if filled < BAR_LETTERS else "") + " " * (BAR_LETTERS - filled - 1)
        parts = [f"{progress.phase} [{bar}] {show_size(progress.done_bytes)} of {show_size(total)}"]
        if progress.total_files > 1:
            parts.append(f"{progress.done_files}/{progress.total_files} files")
        if self._rate:
            parts.append(f"{show_size(int(self._rate))}/s")
            parts.append(f"{show_seconds((total - progress.done_bytes) / self._rate)} left")
        return "  ".join(parts)

    def _measure(self, now: float, progress: Progress) -> None:
        if progress.phase != self._phase:
            self._phase, self._rate = progress.phase, None
            self._counted = (now, progress.done_bytes)
        then, before = self._counted
        if now - then >= RATE_SECONDS:
            rate = max(0.0, (progress.done_bytes - before) / (now - then))
            self._rate = rate if self._rate is None else (1 - SMOOTHING) * self._rate + SMOOTHING * rate
            self._counted = (now, progress.done_bytes)
