"""Words and small drawings for a screen. Every text from the mesh goes through `plain`; none is ever markup.

A `Cell` is what stands in one place of a table or a line: pieces of text, each with a tone. A tone says what
the text means; the theme says what colour that is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

from planetmesh.client.pace import show_seconds
from planetmesh.logs import clean

CELL_MOST_LETTERS = 200
SENTENCE_MOST_LETTERS = 2000
MARKS_MOST = 2
"""Marks above and below one letter: more of them would run over the lines around it."""
MINUTE_SECONDS = 60.0
HOUR_SECONDS = 3600.0
DAY_SECONDS = 86400.0

GOOD, WARN, BAD, BUSY, DIM, STRONG = "good", "warn", "bad", "busy", "dim", "strong"
TONES = (GOOD, WARN, BAD, BUSY, DIM, STRONG)

Cell = tuple[tuple[str, str], ...]
"""Pieces: (text, tone)."""

_VARIANTS = re.compile("[\N{VARIATION SELECTOR-1}-\N{VARIATION SELECTOR-16}\U000e0100-\U000e01ef]")
_STEPS = " ▁▂▃▄▅▆▇█"
_MARKS = frozenset({"Mn", "Me"})

STATE_TONES = {
    "HEALTHY": GOOD,
    "SUSPECT": WARN,
    "OFFLINE": BAD,
    "QUEUED": DIM,
    "ASSIGNED": BUSY,
    "RUNNING": BUSY,
    "RETRYING": WARN,
    "COMPLETED": GOOD,
    "FAILED": BAD,
    "PARTIALLY_COMPLETED": WARN,
    "CANCELLED": WARN,
}


def plain(text: str, most: int = CELL_MOST_LETTERS) -> str:
    """A text from the mesh fit for a screen: one line, no control, bidi or zero-width letters, few marks."""
    shown = clean(text, most)
    if shown.isascii():
        return shown
    kept: list[str] = []
    marks = 0
    for letter in _VARIANTS.sub("", shown):
        marks = marks + 1 if unicodedata.category(letter) in _MARKS else 0
        if marks <= MARKS_MOST:
            kept.append(letter)
    return "".join(kept)


def pasted(text: str) -> str:
    """What may go into a field: no letter that commands this terminal, or that one would not see."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else " " if letter.isspace() else ""
        for letter in lines
    )


def cell(text: str, tone: str = "", most: int = CELL_MOST_LETTERS) -> Cell:
    """One piece of text from the mesh."""
    return ((plain(text, most), tone),)


def state_cell(state: str) -> Cell:
    return cell(state, STATE_TONES.get(state, ""))


def text_of(made: Cell) -> str:
    return "".join(text for text, _tone in made)


def spark(values: Sequence[float], width: int, most: float | None = None) -> str:
    """The newest values as a line of blocks, `width` long; the highest (or `most`) fills a whole letter."""
    shown = list(values[-width:]) if width > 0 else []
    top = max([*shown, 0.0]) if most is None else most
    drawn = "".join(_step(value, top) for value in shown)
    return drawn.rjust(max(0, width))


def _step(value: float, top: float) -> str:
    if value <= 0 or top <= 0:
        return _STEPS[1]
    return _STEPS[max(2, min(8, round(value / top * 7) + 1))]


def columns(values: Sequence[float], width: int, height: int) -> list[str]:
    """The newest values as upright bars, top line first."""
    shown = [0.0] * max(0, width - len(values)) + list(values[-width:] if width > 0 else [])
    top = max([*shown, 0.0])
    lines: list[str] = []
    for floor in range(height - 1, -1, -1):
        line = ""
        for value in shown:
            eighths = round(value / top * height * 8) if top > 0 else 0
            if value > 0:
                eighths = max(1, eighths)
            line += _STEPS[max(0, min(8, eighths - floor * 8))]
        lines.append(line)
    return lines


def bar(share: float, width: int, tone: str = BUSY) -> Cell:
    """`━━━━━╸────`: how much of something is done."""
    halves = round(max(0.0, min(1.0, share)) * width * 2)
    full = "━" * (halves // 2) + "╸" * (halves % 2)
    return ((full, tone), ("─" * (width - len(full)), DIM))


def parse_time(text: str | None) -> datetime | None:
    """A time of the API; None for none, or for what is no time."""
    try:
        at = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at is not None and at.tzinfo is None else at


def seconds_since(text: str | None, now: float) -> float | None:
    """`now` counts from the epoch. Never below zero: two machines' clocks differ."""
    at = parse_time(text)
    return None if at is None else max(0.0, now - at.timestamp())


def show_ago(seconds: float | None) -> str:
    """`now`, `12s`, `5m`, `3h`, `2d`: short enough for a column."""
    if seconds is None:
        return "never"
    if seconds < 3:
        return "now"
    for length, unit in ((DAY_SECONDS, "d"), (HOUR_SECONDS, "h"), (MINUTE_SECONDS, "m")):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"


def show_between(start: str | None, end: str | None, now: float) -> str:
    """How long from one time to another, or until now."""
    begun, ended = parse_time(start), parse_time(end)
    if begun is None:
        return ""
    seconds = max(0.0, (ended.timestamp() if ended else now) - begun.timestamp())
    return f"{seconds:.1f}s" if seconds < MINUTE_SECONDS and ended else show_seconds(seconds)


def show_clock(text: str | None) -> str:
    """In this machine's zone, for people."""
    at = parse_time(text)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""


def count_of(number: int, noun: str) -> str:
    """`1 task`, `12 tasks`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
