"""The demo's picture as it forms: whole for the file, small for the terminal. No I/O but the one write."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from planetmesh.cli.demo_scene import Picture, Tile
from planetmesh.errors import BadInput

Pixel = tuple[int, int, int]
EMPTY: Pixel = (16, 16, 20)


class Canvas:
    """Takes tiles in any order."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self._rows = [bytearray(picture.width * 3) for _ in range(picture.height)]

    def put(self, tile: Tile, pixels: bytes) -> None:
        stride = tile.width * 3
        for line in range(tile.height):
            row = self._rows[tile.top + line]
            row[tile.left * 3 : tile.left * 3 + stride] = pixels[line * stride : (line + 1) * stride]

    def is_blank(self) -> bool:
        """A picture of one colour is none."""
        return len({bytes(row) for row in self._rows}) == 1

    def png(self) -> bytes:
        """Put together by hand: three chunks are all that a true-colour PNG needs."""
        header = struct.pack(">IIBBBBB", self.picture.width, self.picture.height, 8, 2, 0, 0, 0)
        packer = zlib.compressobj(6)
        parts = [packer.compress(b"\0" + row) for row in self._rows]
        body = b"".join((*parts, packer.flush()))
        return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")

    def write(self, path: Path) -> None:
        try:
            path.write_bytes(self.png())
        except OSError as error:
            raise BadInput(f"The picture cannot be written to {path}: {error.strerror}.") from error


class Preview:
    """The picture in few pixels: each the mean of some of the points that it stands for."""

    def __init__(self, picture: Picture, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._picture = picture
        self.rows: list[list[Pixel]] = [[EMPTY] * width for _ in range(height)]
        self.versions = [0] * height
        """Counted up with each change of a row, so that the others need not be drawn again."""

    def put(self, tile: Tile, pixels: bytes) -> None:
        """Fill the preview's pixels whose middle lies in the tile."""
        for y in range(self.height):
            top = (y + 0.5) * self._picture.height / self.height - tile.top
            if not 0 <= top < tile.height:
                continue
            for x in range(self.width):
                left = (x + 0.5) * self._picture.width / self.width - tile.left
                if 0 <= left < tile.width:
                    self.rows[y][x] = self._mean(tile, pixels, int(left), int(top))
            self.versions[y] += 1

    def _mean(self, tile: Tile, pixels: bytes, left: int, top: int) -> Pixel:
        reach = max(1, self._picture.width // self.width // 3)
        total = [0, 0, 0]
        count = 0
        for y in (max(0, top - reach), top, min(tile.height - 1, top + reach)):
            for x in (max(0, left - reach), left, min(tile.width - 1, left + reach)):
                at = (y * tile.width + x) * 3
                for part in range(3):
                    total[part] += pixels[at + part]
                count += 1
        return (total[0] // count, total[1] // count, total[2] // count)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
