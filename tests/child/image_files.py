"""Pictures for the tests, good and evil, made here; and a call that keeps what its function says."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from functools import cache
from pathlib import Path

from PIL import Image, ImageCms

from planetmesh.child.call import Call
from planetmesh.wire.calls import read_frames


def make(path: Path, size=(64, 48), mode="RGB", **options) -> Path:
    """Left half one colour, right half another; the format is that of the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left, right = COLOURS[mode]
    image = Image.new(mode, size, left)
    image.paste(Image.new(mode, (size[0] - size[0] // 2, size[1]), right), (size[0] // 2, 0))
    image.save(path, **options)
    return path


COLOURS = {
    "RGB": ((200, 30, 40), (20, 60, 180)),
    "RGBA": ((200, 30, 40, 255), (20, 60, 180, 0)),
    "L": (30, 220),
    "LA": ((30, 255), (220, 0)),
    "1": (0, 1),
    "P": (3, 200),
    "CMYK": ((0, 200, 180, 20), (200, 100, 0, 30)),
    "I;16": (1000, 60_000),
    "F": (0.25, 0.75),
    "LAB": ((128, 100, 100), (90, 120, 110)),
}


@cache
def srgb_profile() -> bytes:
    """Once: the second in which it was made stands in it."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def bomb(path: Path, side: int = 60_000) -> Path:
    """A small PNG that says it has 3.6 thousand million pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 100_000)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def moving(path: Path, frames: int = 4, size=(40, 30)) -> Path:
    images = [Image.new("RGB", size, (60 * number, 20, 200 - 40 * number)) for number in range(frames)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=[50, 60, 70, 80][:frames], loop=3)
    return path


def encoded(kind: str, **options) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(out, kind, **options)
    return out.getvalue()


class Kept:
    """A call on a folder, run at once."""

    def __init__(self, function, folder: Path, payload, items=(), index=0, most_bytes=10_000_000) -> None:
        with tempfile.TemporaryFile() as file:
            call = Call(payload, tuple(items), index, str(folder), file.fileno(), most_bytes)
            function(call)
            self.exit_code, self.sentence = call.end()
            self.has_bad_inputs = call.has_bad_inputs
            file.seek(0)
            frames = read_frames(file.read(), call.count)
        import msgspec

        self.values = {n: msgspec.json.decode(frame.v) for n, frame in frames.items() if frame.v}
        self.faults = {n: frame.e.sentence for n, frame in frames.items() if frame.e}
