"""The demo's picture: a Julia set, lit from the side. Pure: numbers in, bytes out; standard library only.

It travels as the source of a `script` job, or runs as `planetmesh _tile`, so it imports nothing of planetmesh
and keeps to what any Python 3.10 understands. `main` computes one tile and writes it compressed to stdout.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from itertools import pairwise
from math import hypot, log, log2, sqrt
from typing import NamedTuple

CONSTANT = complex(0.355, 0.355)
CENTRE = complex(0.0, 0.0)
TURN = complex(0.24, 0.9708)
"""The set stands upright; lying on its side, slightly askew, it fills the picture."""
SPAN = 2.2
"""Width of the picture in the plane."""
ESCAPED = 30.0
MOST_STEPS = 1200
STRIDE = 6
"""Steps between two looks at the size: 30 to the power of 2**6 still fits into a float."""

Colour = tuple[float, float, float]
COLOURS = 1024
CYCLES = 0.62
"""How often the colours come round as the logarithm of the height grows by one."""
STOPS: tuple[tuple[float, Colour], ...] = (
    (0.00, (6, 10, 34)),
    (0.18, (16, 54, 110)),
    (0.36, (38, 140, 170)),
    (0.50, (228, 240, 225)),
    (0.62, (250, 190, 70)),
    (0.78, (186, 62, 28)),
    (0.90, (62, 12, 44)),
)
GLOW = (255.0, 236.0, 196.0)
EDGE = 0.55
"""The slope at which the glow begins to win over the colour."""
FLAT = 0.0004
REFERENCE_WIDTH = 3200
"""Slopes are measured as if the picture had this width, so that every size looks the same."""


class Picture(NamedTuple):
    width: int
    height: int


class Tile(NamedTuple):
    """A rectangle of the picture, in pixels."""

    left: int
    top: int
    width: int
    height: int


def tiles_of(picture: Picture, columns: int, rows: int) -> list[Tile]:
    """Cut the picture; the order is row by row."""
    xs = [picture.width * column // columns for column in range(columns + 1)]
    ys = [picture.height * row // rows for row in range(rows + 1)]
    return [
        Tile(left, top, right - left, bottom - top)
        for top, bottom in pairwise(ys)
        for left, right in pairwise(xs)
    ]


def render(picture: Picture, tile: Tile) -> bytes:
    """The tile's pixels: three bytes each, row by row."""
    pixels = bytearray()
    above = heights(picture, tile, tile.top)
    for y in range(tile.top, tile.top + tile.height):
        below = heights(picture, tile, y + 1)
        pixels += shade(picture, above, below)
        above = below
    return bytes(pixels)


def heights(picture: Picture, tile: Tile, y: int) -> list[float]:
    """How slowly each point of one row escapes, without steps; one point more than the tile is wide."""
    step = SPAN / picture.width * TURN
    first = CENTRE + complex(tile.left - picture.width / 2, picture.height / 2 - y) * step
    c, row = CONSTANT, []
    for x in range(tile.width + 1):
        z = first + x * step
        for steps in range(STRIDE, MOST_STEPS, STRIDE):
            z = z * z + c
            z = z * z + c
            z = z * z + c
            z = z * z + c
            z = z * z + c
            z = z * z + c
            if abs(z) > ESCAPED:
                row.append(steps - log2(log(abs(z))))
                break
        else:
            row.append(float(MOST_STEPS))
    return row


def shade(picture: Picture, above: Sequence[float], below: Sequence[float]) -> bytearray:
    """One row of pixels from two rows of heights: colour by height, light by slope, a glow at the edge."""
    zoom = picture.width / REFERENCE_WIDTH
    glow_red, glow_green, glow_blue = GLOW
    row = bytearray()
    for x in range(len(above) - 1):
        height = above[x]
        right, down = above[x + 1] - height, below[x] - height
        slope = hypot(right, down) * zoom
        red, green, blue = PALETTE[int(log(height + 4.0) * CYCLES * COLOURS) % COLOURS]
        edge = slope / (slope + EDGE)
        edge *= edge
        light = (0.78 - 0.36 * (right + down) * zoom / sqrt(FLAT + slope * slope)) * (1.0 - edge)
        row += bytes(
            (
                min(255, int(red * light + glow_red * edge)),
                min(255, int(green * light + glow_green * edge)),
                min(255, int(blue * light + glow_blue * edge)),
            )
        )
    return row


def ramp(stops: Sequence[tuple[float, Colour]], size: int) -> list[Colour]:
    """A table of colours that passes through the stops and ends where it began."""
    table = []
    for index in range(size):
        at = index / size
        start, first = max(stop for stop in stops if stop[0] <= at)
        end, last = min((stop for stop in stops if stop[0] > at), default=(1.0, stops[0][1]))
        share = (at - start) / (end - start)
        share *= share * (3 - 2 * share)
        red, green, blue = (a + (b - a) * share for a, b in zip(first, last, strict=True))
        table.append((red, green, blue))
    return table


PALETTE = ramp(STOPS, COLOURS)


def main(arguments: Sequence[str]) -> None:
    """WIDTH HEIGHT COLUMNS ROWS INDEX: the tile's pixels, compressed, to stdout."""
    width, height, columns, rows, index = (int(text) for text in arguments)
    picture = Picture(width, height)
    tile = tiles_of(picture, columns, rows)[index]
    sys.stdout.buffer.write(zlib.compress(render(picture, tile), 6))


if __name__ == "__main__":
    main(sys.argv[1:])
