"""Painting only as often as a slow link carries it.

What is drawn faster than that waits in buffers on the way (sshd's, the kernel's), where nobody sees it, and
what a key does is shown when all of it has passed. So who draws over ssh counts what he draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.driver import Driver

SSH_LETTERS_A_SECOND = 6000.0
"""A screen on which everything changes is about 5000 letters at 80 columns."""


class Allowance:
    """So many letters a second; who drew more waits until that is made up."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._debt = 0.0
        self._drawn = 0
        self._at: float | None = None

    def lets(self, drawn: int, now: float) -> bool:
        """Whether to paint now. `drawn`: letters so far in all; `now`: steady time."""
        passed = 0.0 if self._at is None else now - self._at
        self._debt = max(0.0, self._debt + drawn - self._drawn - passed * self._per_second)
        self._drawn, self._at = drawn, now
        return not self._debt


def counting(kind: type[Driver]) -> type[Driver]:
    """The same driver, whose class counts in `drawn` what it writes."""
    return type(f"Counting{kind.__name__}", (_Counting, kind), {"drawn": 0})


def drawn_by(kind: type[Driver]) -> int:
    """Letters so far; 0 of a driver that does not count."""
    return int(getattr(kind, "drawn", 0))


if TYPE_CHECKING:
    _Base = Driver
else:
    _Base = object


class _Counting(_Base):
    drawn = 0

    def write(self, data: str) -> None:
        kind: Any = type(self)
        kind.drawn += len(data)
        super().write(data)  # type: ignore[safe-super]  # a whole driver comes next
