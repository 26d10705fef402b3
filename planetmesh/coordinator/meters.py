"""How long the engine's turns, passes and commits took: for metrics, and for whoever measures a coordinator.

Counters since the start and the last few samples of each; noting one costs less than a microsecond.
"""

from __future__ import annotations

from collections import deque

KEPT = 4096
"""Samples kept of each: seconds to minutes of a busy coordinator."""


class Samples:
    """One thing that is measured again and again, in seconds."""

    __slots__ = ("_last", "count", "most", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.most = 0.0
        """The longest ever."""
        self._last: deque[float] = deque(maxlen=KEPT)

    def note(self, seconds: float) -> None:
        self.count += 1
        self.total += seconds
        self.most = max(self.most, seconds)
        self._last.append(seconds)

    def newest(self, most: int) -> list[float]:
        """So many at most, in the order in which they came."""
        kept = list(self._last)
        return kept[max(0, len(kept) - most) :]


class Meters:
    """Owned by the engine; everybody else looks."""

    def __init__(self) -> None:
        self.happenings = 0
        """Taken out of the inbox."""
        self.placements = 0
        self.waits = Samples()
        """From the moment the oldest happening of a turn was posted until the turn began."""
        self.turns = Samples()
        """Whole turns, with the wait for the disk."""
        self.passes = Samples()
        """Of the scheduler, with the changes that each placement makes."""
        self.commits = Samples()
