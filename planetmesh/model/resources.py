"""What a task asks for and what a node offers, with the arithmetic between them."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import msgspec

from planetmesh.errors import BadInput

MILLIS = 1000
_NUMBER = r"(\d{1,20}(?:\.\d{1,20})?)"
_SIZE = re.compile(_NUMBER + r"\s*([kmgt]?)(i?b?)", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(_NUMBER + r"\s*(ms|s|m|h|d)?", re.IGNORECASE | re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Resources(msgspec.Struct, frozen=True):
    """An amount of each resource. CPUs are counted in thousandths so that sums stay exact."""

    cpu_millis: int = MILLIS
    memory_bytes: int = 0
    gpus: int = 0

    def fits_in(self, free: Resources) -> bool:
        return (
            self.cpu_millis <= free.cpu_millis
            and self.memory_bytes <= free.memory_bytes
            and self.gpus <= free.gpus
        )

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.cpu_millis + other.cpu_millis,
            self.memory_bytes + other.memory_bytes,
            self.gpus + other.gpus,
        )

    def __sub__(self, other: Resources) -> Resources:
        return Resources(
            self.cpu_millis - other.cpu_millis,
            self.memory_bytes - other.memory_bytes,
            self.gpus - other.gpus,
        )

    def times(self, count: int) -> Resources:
        return Resources(self.cpu_millis * count, self.memory_bytes * count, self.gpus * count)

    def how_often_in(self, free: Resources) -> int:
        """How many of these fit side by side into `free`."""
        counts = [
            have // want
            for want, have in (
                (self.cpu_millis, free.cpu_millis),
                (self.memory_bytes, free.memory_bytes),
                (self.gpus, free.gpus),
            )
            if want > 0
        ]
        return max(0, min(counts)) if counts else 0


NOTHING = Resources(0, 0, 0)


def parse_cpus(text: str) -> int:
    """Thousandths of a CPU from `2` or `0.5`; raises BadInput unless above zero."""
    try:
        cpus = float(text)
    except ValueError:
        cpus = math.nan
    if not (math.isfinite(cpus) and round(cpus * MILLIS) > 0):
        raise BadInput(
            f"'{text}' is not a number of CPUs.", hint="Say it like 2 or 0.5; it must be above zero."
        )
    return round(cpus * MILLIS)


def parse_size(text: str) -> int:
    """Bytes from `12 GiB`, `12g`, `500MB`, `1024`; raises BadInput unless above zero.

    Suffixes with `b` alone are decimal (`MB` = 10^6), all others binary (`M`, `MiB` = 2^20).
    """
    match = _SIZE.fullmatch(text.strip())
    size = Fraction(0)
    if match:
        number, prefix, unit = match.groups()
        step = 1000 if unit.lower() == "b" and prefix else 1024
        size = Fraction(number) * step ** " kmgt".index(prefix.lower() or " ")
    if not (1 <= size < 2**62):
        raise BadInput(
            f"'{text}' is not a size.", hint="Say it like 500MB, 12 GiB or 12g; it must be above zero."
        )
    return int(size)


def parse_duration(text: str) -> float:
    """Seconds from `90`, `90s`, `10m`, `1.5h`, `2d`; raises BadInput unless above zero."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[(match[2] or "s").lower()] if match else 0.0
    if not (0 < seconds < 10**10):
        raise BadInput(
            f"'{text}' is not a length of time.", hint="Say it like 90s, 10m or 1.5h; it must be above zero."
        )
    return seconds


def show_size(size_bytes: float) -> str:
    """`1.5 GiB`, for people."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size_bytes < 1024 or unit == "TiB":
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    raise AssertionError


def show_resources(amount: Resources) -> str:
    """`2 CPUs, 4 GiB, 1 GPU`; what is not asked for is left out."""
    cpus = amount.cpu_millis / MILLIS
    words = [f"{cpus:g} CPU{'' if cpus == 1 else 's'}"]
    if amount.memory_bytes:
        words.append(show_size(amount.memory_bytes))
    if amount.gpus:
        words.append(f"{amount.gpus} GPU{'' if amount.gpus == 1 else 's'}")
    return ", ".join(words)
