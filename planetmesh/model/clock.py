"""A point in time, as doors hand it to pure code."""

from __future__ import annotations

import msgspec


class Moment(msgspec.Struct, frozen=True):
    """`steady` never jumps and is for deadlines; `wall` (epoch seconds) is for people."""

    steady: float
    wall: float
