"""One line on stderr that tells how far a job is; only on a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from planetmesh.cli.last_line import LastLine
from planetmesh.client.pace import Rate, show_rate
from planetmesh.model.resources import show_size
from planetmesh.wire.api import TaskCounts

if TYPE_CHECKING:
    from planetmesh.cli.output import Printer
    from planetmesh.client.progress import Progress

REDRAW_SECONDS = 0.1


class ProgressLine:
    """Draws on a terminal, does nothing elsewhere."""

    def __init__(self, printer: Printer | None, *, inputs: bool = False) -> None:
        """None: to be asked for its `parts` only."""
        self._noun = " inputs" if inputs else ""
        self._line = (
            LastLine(enabled=printer.form == "table", begin_line=printer.begin_line) if printer else None
        )
        self._drawn_at = 0.0
        self._rate = Rate()
        self._fetching = Rate()

    def update(self, counts: TaskCounts, nodes: int, fetching: Progress | None = None) -> None:
        """Take new numbers in; redraws now and then."""
        now = time.monotonic()
        done = counts.completed + counts.failed + counts.cancelled
        self._rate.measure(now, done)
        if fetching is not None:
            self._fetching.measure(now, fetching.done_bytes - fetching.kept_bytes)
        if self._line is None or now - self._drawn_at < REDRAW_SECONDS:
            return
        self._drawn_at = now
        self._line.draw("", done / counts.total if counts.total else 1.0, self.parts(counts, nodes, fetching))

    def wipe(self) -> None:
        """Make room for other output."""
        if self._line is not None:
            self._line.wipe()
        self._drawn_at = 0.0

    def parts(self, counts: TaskCounts, nodes: int, fetching: Progress | None = None) -> list[str]:
        """`120/200`, `3 failed`, `0:06 left`, `15/s`, `3 nodes`…: the most important first.

        `waiting` in place of the time where nothing runs, which may take as long as it likes.
        """
        done = counts.completed + counts.failed + counts.cancelled
        parts = [f"{done}/{counts.total}{self._noun}"]
        if counts.failed:
            parts.append(f"{counts.failed} failed")
        if done < counts.total and not counts.running and not counts.assigned:
            parts.append("waiting")
        elif left := self._rate.left(counts.total - done):
            parts.append(left)
        if counts.retrying:
            parts.append(f"{counts.retrying} retrying")
        if counts.running:
            parts.append(f"{counts.running} running")
        if rate := self._rate.value:
            parts.append(show_rate(rate))
        if fetching is not None and fetching.done_files:
            speed = self._fetching.value
            at = f" at {show_size(int(speed))}/s" if speed else ""
            parts.append(f"fetched {show_size(fetching.done_bytes)}{at}")
        if nodes:
            parts.append(f"{nodes} node{'s' if nodes > 1 else ''}")
        return parts
