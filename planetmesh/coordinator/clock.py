"""The coordinator's clock, and what is written down of it: steady time that goes on over a restart.

While there is no coordinator its time stands still. Only the wall clock could tell how long that was, and
people set it, and a machine without a battery forgets it: after a jump of a year a limit would end
every task at once, or none ever. What is kept is at most `KEEP_LATEST_SECONDS` behind.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

from planetmesh.model.clock import Moment

META_NAME = "steady_seconds"
KEEP_SECONDS = 1.0
"""A commit takes the time along if the last one that did is so long ago."""
KEEP_LATEST_SECONDS = 60.0
"""Where something depends on it, one is made for it alone."""
SECONDS_MOST = 1e10
"""Three hundred years; nothing larger was ever written."""


class Clock:
    """Time of one run of the coordinator."""

    def __init__(self) -> None:
        self._ahead = 0.0
        """Of the machine's own steady time, which begins anew with it."""
        self._goes_on = False
        self._kept_at = -math.inf

    def steady(self) -> float:
        return time.monotonic() + self._ahead

    def read(self) -> Moment:
        return Moment(self.steady(), time.time())

    def go_on_from(self, meta: Mapping[str, str]) -> None:
        """Stand where an earlier run ended, by what it kept. Only once: later the clock is ahead of that."""
        if self._goes_on:
            return
        self._goes_on = True
        try:
            kept = float(meta.get(META_NAME, ""))
        except ValueError:
            return
        if 0 <= kept <= SECONDS_MOST:
            self._ahead = kept - time.monotonic()

    def kept(self, now_steady: float) -> dict[str, str]:
        """The row of the meta table for a commit at this time; nothing if there was one just now."""
        if now_steady - self._kept_at < KEEP_SECONDS:
            return {}
        self._kept_at = now_steady
        return {META_NAME: f"{now_steady:.3f}"}

    def is_overdue(self, now_steady: float) -> bool:
        return now_steady - self._kept_at >= KEEP_LATEST_SECONDS
