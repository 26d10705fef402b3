"""The demo's parts: the cut, the scene, the canvas, the pieces; the whole of it is a system test."""

from __future__ import annotations

import io
import random
import sys
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planetmesh.cli.demo import free_path, read_size
from planetmesh.cli.demo_canvas import EMPTY, Canvas, Preview
from planetmesh.cli.demo_job import TILES_LEAST, Assembly, Plan
from planetmesh.cli.demo_scene import Picture, Tile, main, render, tiles_of
from planetmesh.cli.demo_screen import NodeLine, PlainScreen, View
from planetmesh.errors import BadInput
from planetmesh.wire.api import OutputPiece

sides = st.integers(16, 500)


@given(sides, sides)
def test_the_tiles_cover_the_picture_once(width: int, height: int):
    plan = Plan.of(Picture(width, height))
    seen = [bytearray(width) for _ in range(height)]
    for tile in plan.tiles:
        for y in range(tile.top, tile.top + tile.height):
            for x in range(tile.left, tile.left + tile.width):
                seen[y][x] += 1
    assert all(set(row) == {1} for row in seen)
    assert len(plan.tiles) >= TILES_LEAST / 2


def test_the_full_picture_is_a_few_hundred_tiles():
    assert 200 <= len(Plan.of(Picture(3200, 2000)).tiles) <= 500


def test_a_picture_in_tiles_is_the_picture_in_one():
    picture = Picture(64, 40)
    whole = Canvas(picture)
    whole.put(Tile(0, 0, 64, 40), render(picture, Tile(0, 0, 64, 40)))
    pieces = Canvas(picture)
    for tile in tiles_of(picture, 3, 3):
        pieces.put(tile, render(picture, tile))
    assert pieces.png() == whole.png()
    assert not whole.is_blank()
    assert Canvas(picture).is_blank()


def test_the_png_is_one(tmp_path: Path):
    from PIL import Image

    picture = Picture(32, 20)
    canvas = Canvas(picture)
    pixels = render(picture, Tile(0, 0, 32, 20))
    canvas.put(Tile(0, 0, 32, 20), pixels)
    canvas.write(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.size == (32, 20)
        assert image.tobytes() == pixels


def test_a_tile_on_the_command_line_is_the_tile(monkeypatch: pytest.MonkeyPatch):
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out))
    main(["64", "40", "4", "2", "5"])
    sys.stdout.flush()
    picture = Picture(64, 40)
    assert zlib.decompress(out.getvalue()) == render(picture, tiles_of(picture, 4, 2)[5])


def piece(index: int, attempt: int, data: bytes, stream: int = 1) -> OutputPiece:
    return OutputPiece(1, index, attempt, stream, 0, data)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 400), max_size=5), st.randoms(use_true_random=False))
def test_a_tile_is_whole_with_its_last_piece(cuts: list[int], chance: random.Random):
    tiles = tiles_of(Picture(40, 40), 2, 2)
    pixels = chance.randbytes(20 * 20 * 3)
    packed = zlib.compress(pixels)
    edges = sorted({0, len(packed), *(cut for cut in cuts if cut < len(packed))})
    assembly = Assembly(tiles)
    parts = [packed[start:end] for start, end in pairwise(edges)]
    taken = [assembly.take(piece(2, 1, part)) for part in parts]
    assert taken[-1] == pixels
    assert set(taken[:-1]) <= {None}
    assert assembly.whole == {2: {1}}


def test_attempts_are_kept_apart():
    tiles = tiles_of(Picture(40, 40), 2, 2)
    packed = zlib.compress(bytes(20 * 20 * 3))
    assembly = Assembly(tiles)
    assert assembly.take(piece(0, 1, packed[:5])) is None
    assert assembly.take(piece(0, 2, packed)) == bytes(1200)
    assert assembly.whole == {0: {2}}


@pytest.mark.parametrize("data", [b"nonsense", zlib.compress(b"short"), zlib.compress(bytes(5000))])
def test_nonsense_is_no_tile(data: bytes):
    assembly = Assembly(tiles_of(Picture(40, 40), 2, 2))
    assert assembly.take(piece(0, 1, data)) is None
    assert assembly.take(piece(0, 1, zlib.compress(bytes(1200)), stream=2)) is None
    assert assembly.whole == {}


def test_the_preview_fills_where_the_tile_is():
    picture = Picture(64, 40)
    preview = Preview(picture, 16, 10)
    preview.put(Tile(0, 0, 32, 40), bytes((200, 100, 50)) * (32 * 40))
    assert {pixel for row in preview.rows for pixel in row[:8]} == {(200, 100, 50)}
    assert {pixel for row in preview.rows for pixel in row[8:]} == {EMPTY}
    assert set(preview.versions) == {1}


@pytest.mark.parametrize(
    "text", ["", "3200", "3200x", "x200", "0x0", "15x100", "9000x100", "-1x5", "1e3x100"]
)
def test_sizes_that_are_none(text: str):
    with pytest.raises(BadInput):
        read_size(text)


def test_sizes():
    assert read_size("3200x2000") == Picture(3200, 2000)


def test_an_earlier_picture_is_never_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    first = free_path(None)
    first.touch()
    assert free_path(None) != first
    with pytest.raises(BadInput):
        free_path(tmp_path)
    with pytest.raises(BadInput):
        free_path(tmp_path / "nowhere" / "x.png")


def test_plain_lines_tell_tenths(capsys: pytest.CaptureFixture[str]):
    view = View(100, [NodeLine("mars", "HEALTHY")])
    screen = PlainScreen(view, quiet=False)
    for done in range(101):
        view.done = done
        screen.refresh()
    lines = capsys.readouterr().err.splitlines()
    assert 10 <= len(lines) <= 11
    assert lines[-1].startswith("100%")
