"""One line on stderr that tells how far files are on their way; only on a terminal.

Wiped before anything else is printed, like the line of a job's tasks.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from planetmesh.cli.last_line import LastLine
from planetmesh.client.pace import Rate
from planetmesh.model.resources import show_size

if TYPE_CHECKING:
    from planetmesh.cli.output import Printer
    from planetmesh.client.progress import Progress

FIRST_SECONDS = 0.5
"""What is over sooner needs no line."""


class TransferLine:
    """Draws on a terminal while it is entered, does nothing elsewhere."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._line = LastLine(enabled=printer.form == "table", begin_line=printer.begin_line)
        self._phase = ""
        self._begun_at = time.monotonic()
        self._rate = Rate()

    def __enter__(self) -> Self:
        self._before = self._printer.make_room
        self._printer.make_room = self._line.wipe
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.wipe()
        self._printer.make_room = self._before

    def update(self, progress: Progress) -> None:
        """Take new numbers in and draw them."""
        now = time.monotonic()
        if progress.phase != self._phase:
            self._phase, self._rate = progress.phase, Rate()
        self._rate.measure(now, progress.done_bytes - progress.kept_bytes)
        if now - self._begun_at >= FIRST_SECONDS and progress.total_files:
            total = progress.total_bytes
            share = progress.done_bytes / total if total else 1.0
            self._line.draw(progress.phase, share, self.parts(progress))

    def parts(self, progress: Progress) -> list[str]:
        """`1.2 GiB of 4.0 GiB`, `0:25 left`, `110 MiB/s`, `3/12 files`: the most important first."""
        total = progress.total_bytes
        parts = [f"{show_size(progress.done_bytes)} of {show_size(total)}"]
        if left := self._rate.left(total - progress.done_bytes):
            parts.append(left)
        if self._rate.value:
            parts.append(f"{show_size(int(self._rate.value))}/s")
        if progress.total_files > 1:
            parts.append(f"{progress.done_files}/{progress.total_files} files")
        return parts
