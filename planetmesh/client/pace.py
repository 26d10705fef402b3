"""How quickly a count grows and how long the rest takes, in words; for every face that shows progress.

Time comes in as an argument.
"""

from __future__ import annotations

from math import exp

RATE_SECONDS = 1.0
"""Changes that come closer together are taken together."""
STILL_SECONDS = 10.0
"""Where things come one by one, a pause of so long is no lower rate yet; nor is twice the usual pause."""
LOST_AFTER = 3
"""So many times that pause: the rate of before says nothing of what is left any more."""
MEMORY_LEAST_SECONDS = 5.0
MEMORY_SHARE = 4
"""The rate is that of the last quarter of the time, so it grows calmer the longer something takes."""


class Rate:
    """How quickly a count grows, smoothed; None until that can be told."""

    def __init__(self) -> None:
        self.value: float | None = None
        self._mean: float | None = None
        self._began = 0.0
        self._changed: tuple[float, int] | None = None
        """When the count last grew, and to what: whatever comes later came in the time since then."""
        self._usual_pause = 0.0

    def measure(self, now: float, count: int) -> None:
        if self._changed is None or count < self._changed[1]:
            self._changed = (now, count)
            self._began = now
            return
        then, before = self._changed
        passed = now - then
        if count > before and passed >= RATE_SECONDS:
            self._learn(passed, (count - before) / passed, now - self._began)
            self._changed = (now, count)
            self.value = self._mean
        elif passed >= (patience := max(STILL_SECONDS, 2 * self._usual_pause)):
            known = passed < LOST_AFTER * patience
            self.value = (self._mean or 0.0) * exp(1 - passed / patience) if known else None

    def _learn(self, passed: float, rate: float, elapsed: float) -> None:
        share = 1 - exp(-passed / max(MEMORY_LEAST_SECONDS, elapsed / MEMORY_SHARE))
        if self._mean is None:
            self._mean, self._usual_pause = rate, passed
            return
        self._mean += share * (rate - self._mean)
        self._usual_pause += share * (passed - self._usual_pause)

    def left(self, count: int) -> str:
        """`0:06 left` for so much more; nothing if it is not known, or nothing is left."""
        return f"{show_left(count / self.value)} left" if self.value and count > 0 else ""


def show_rate(per_second: float) -> str:
    """`15/s`, or `8/min` where little happens."""
    if per_second < 1:
        return f"{per_second * 60:.2g}/min"
    return f"{per_second:.3g}/s" if per_second < 1000 else f"{per_second:.0f}/s"


def show_left(seconds: float) -> str:
    """The same as `show_seconds`, but never `0:00`: something is left."""
    return show_seconds(max(1.0, seconds))


def show_seconds(seconds: float) -> str:
    """`0:06`, `12:30`, `3:05:00`; days for what nobody waits for."""
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:.0f} days"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
