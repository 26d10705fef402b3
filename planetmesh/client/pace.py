"""How quickly a count grows and how long the rest takes, in words; for every face that shows progress.

Time comes in as an argument.
"""

from __future__ import annotations

RATE_SECONDS = 1.0
STILL_SECONDS = 10.0
"""Where things come one by one, a pause of so long is no lower rate yet."""
SMOOTHING = 0.2
"""Share of the newest second in the rate."""
NEWEST_MOST = 0.5
"""Share of what came after a longer pause."""


class Rate:
    """How quickly a count grows, smoothed; None until that can be told."""

    def __init__(self) -> None:
        self.value: float | None = None
        self._counted: tuple[float, int] | None = None

    def measure(self, now: float, count: int) -> None:
        if self._counted is None or count < self._counted[1]:
            self._counted = (now, count)
            return
        then, before = self._counted
        passed = now - then
        if passed < (RATE_SECONDS if count > before else STILL_SECONDS):
            return
        rate = (count - before) / passed
        share = 1.0 if self.value is None else min(NEWEST_MOST, 1 - (1 - SMOOTHING) ** passed)
        self.value = (self.value or 0.0) * (1 - share) + share * rate
        self._counted = (now, count)

    def left(self, count: int) -> str:
        """`0:06 left` for so much more; nothing if it is not known, or nothing is left."""
        if not self.value or count <= 0:
            return ""
        return f"{show_seconds(count / self.value)} left"


def show_rate(per_second: float) -> str:
    """`15/s`, or `8/min` where little happens."""
    if per_second < 1:
        return f"{per_second * 60:.2g}/min"
    return f"{per_second:.3g}/s" if per_second < 1000 else f"{per_second:.0f}/s"


def show_seconds(seconds: float) -> str:
    """`0:06`, `12:30`, `3:05:00`; days for what nobody waits for."""
    if seconds >= 2 * 86400:
        return f"{seconds / 86400:.0f} days"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
