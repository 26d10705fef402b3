"""One line on stderr that tells how far a job is; only on a terminal.

It is wiped before anything else is printed, so it works beside tasks' outputs on the same terminal. Plain
carriage returns: nothing a terminal could misread.
"""

from __future__ import annotations

import shutil
import sys
import time

from planetmesh.wire.api import TaskCounts

BAR_LETTERS = 24
REDRAW_SECONDS = 0.1
SMOOTHING = 0.2
"""Share of the newest second in the rate."""


class ProgressLine:
    """Draws on a terminal, does nothing elsewhere."""

    def __init__(self, *, enabled: bool, inputs: bool = False) -> None:
        self._noun = " inputs" if inputs else ""
        self._enabled = enabled and sys.stderr.isatty()
        self._shown = 0
        self._drawn_at = 0.0
        self._rate: float | None = None
        self._counted: tuple[float, int] | None = None

    def update(self, counts: TaskCounts, nodes: int) -> None:
        """Take new numbers in; redraws now and then."""
        now = time.monotonic()
        self._measure(now, counts.completed + counts.failed + counts.cancelled)
        if not self._enabled or now - self._drawn_at < REDRAW_SECONDS:
            return
        self._drawn_at = now
        self._draw(self.text(counts, nodes))

    def wipe(self) -> None:
        """Make room for other output."""
        if self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            sys.stderr.flush()
            self._shown = 0
            self._drawn_at = 0.0

    def text(self, counts: TaskCounts, nodes: int) -> str:
        """`[=====>      ] 120/200  3 failed  15/s  0:06 left  3 nodes`"""
        done = counts.completed + counts.failed + counts.cancelled
        share = done / counts.total if counts.total else 1.0
        filled = int(share * BAR_LETTERS)
        bar = "=" * filled + (">" if filled < BAR_LETTERS else "") + " " * (BAR_LETTERS - filled - 1)
        parts = [f"[{bar}] {done}/{counts.total}{self._noun}"]
        if counts.failed:
            parts.append(f"{counts.failed} failed")
        if counts.retrying:
            parts.append(f"{counts.retrying} retrying")
        if self._rate:
            parts.append(f"{self._rate:.3g}/s" if self._rate < 1000 else f"{self._rate:.0f}/s")
            parts.append(f"{show_seconds((counts.total - done) / self._rate)} left")
        if nodes:
            parts.append(f"{nodes} node{'s' if nodes > 1 else ''}")
        return "  ".join(parts)

    def _draw(self, text: str) -> None:
        cut = text[: max(10, shutil.get_terminal_size().columns - 1)]
        sys.stderr.write("\r" + cut.ljust(self._shown))
        sys.stderr.flush()
        self._shown = len(cut)

    def _measure(self, now: float, done: int) -> None:
        if self._counted is None:
            self._counted = (now, done)
            return
        then, before = self._counted
        if now - then < 1.0:
            return
        rate = (done - before) / (now - then)
        self._rate = rate if self._rate is None else (1 - SMOOTHING) * self._rate + SMOOTHING * rate
        self._counted = (now, done)


def show_seconds(seconds: float) -> str:
    """`0:06`, `12:30`, `3:05:00`; days for what nobody waits for."""
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:.0f} days"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
