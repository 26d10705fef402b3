"""A point in time, as doors hand it to pure code."""

from __future__ import annotations

import msgspec


class Moment(msgspec.Struct, frozen=True):
    """`steady` never jumps and is for deadlines; `wall` (epoch seconds) is for people.

    Steady time goes on over a restart of the coordinator from about where it stood, so it may be kept.
    While there was no coordinator it stood still: a clock that was set a year ahead meanwhile ends nothing.
    """

    steady: float
    wall: float
