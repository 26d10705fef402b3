"""The demo's job: what each task runs, and its pieces put together into tiles.

From the source tree or a wheel the scene travels as a script and is run by a plain Python. The one-file
binary needs none: there each task is the program itself, `planetmesh _tile`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

from planetmesh.agent.sandbox.folders import task_user
from planetmesh.cli.demo_scene import Picture, Tile, tiles_of
from planetmesh.cli.own_program import is_frozen
from planetmesh.errors import Unreachable
from planetmesh.model.job import JobSpec, Range
from planetmesh.model.resources import MILLIS, Resources
from planetmesh.wire.api import OutputPiece

PYTHONS = ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10")
SYSTEM_FOLDERS = "/usr/local/bin:/usr/bin:/bin"
TRY_SECONDS = 10.0
TILE_PIXELS = 200 * 100
"""A fifth of a second of work: long beside the start of a task, short enough to watch."""
TILE_PIXELS_FROZEN = 500 * 320
"""The one-file binary unpacks itself for each task: 0.35 s of work before the work."""
TILES_LEAST = 30
"""Fewer would be over before anybody could be killed."""


@dataclass(frozen=True)
class Plan:
    """A picture cut into tiles."""

    picture: Picture
    columns: int
    rows: int

    @classmethod
    def of(cls, picture: Picture) -> Plan:
        """Tiles of about the same number of pixels, twice as wide as high."""
        most = min(
            TILE_PIXELS_FROZEN if is_frozen() else TILE_PIXELS, picture.width * picture.height / TILES_LEAST
        )
        height = max(1.0, (most / 2) ** 0.5)
        return cls(
            picture, max(1, round(picture.width / (2 * height))), max(1, round(picture.height / height))
        )

    @property
    def tiles(self) -> list[Tile]:
        return tiles_of(self.picture, self.columns, self.rows)

    def job(self) -> JobSpec:
        """One task for each tile."""
        numbers = (self.picture.width, self.picture.height, self.columns, self.rows)
        arguments = (*(str(number) for number in numbers), "{}")
        kind, payload = _program(arguments)
        return JobSpec(
            type=kind,
            payload=payload,
            name="julia",
            inputs=Range(0, self.columns * self.rows - 1),
            requests=Resources(MILLIS, 0, 0),
        )


class Assembly:
    """Output as it streams in, attempt by attempt, until a tile is whole."""

    def __init__(self, tiles: list[Tile]) -> None:
        self.tiles = tiles
        self._open: dict[tuple[int, int], tuple[zlib._Decompress, bytearray]] = {}
        self.whole: dict[int, set[int]] = {}
        """Attempts that delivered the whole tile, by index."""

    def take(self, piece: OutputPiece) -> bytes | None:
        """The tile's pixels if this piece completes it."""
        if piece.stream != 1:
            return None
        key = (piece.index, piece.attempt)
        unpacker, pixels = self._open.setdefault(key, (zlib.decompressobj(), bytearray()))
        try:
            pixels += unpacker.decompress(piece.data)
        except zlib.error:
            return None
        tile = self.tiles[piece.index]
        if not unpacker.eof or len(pixels) != tile.width * tile.height * 3:
            return None
        del self._open[key]
        self.whole.setdefault(piece.index, set()).add(piece.attempt)
        return bytes(pixels)


def _program(arguments: tuple[str, ...]) -> tuple[str, dict[str, object]]:
    if is_frozen():
        return "command", {"argv": [sys.executable, "_tile", *arguments]}
    from importlib.resources import files

    source = files("planetmesh.cli").joinpath("demo_scene.py").read_text(encoding="utf-8")
    return "script", {
        "source": source,
        "interpreter": [find_python(), "-I", "-S"],
        "args": list(arguments),
        "name": "scene.py",
    }


def find_python() -> str:
    """A Python that a task may run: as root, tasks are another user, who may not see root's own."""
    base = getattr(sys, "_base_executable", sys.executable) or sys.executable
    found = [shutil.which(name, path=SYSTEM_FOLDERS) for name in PYTHONS]
    candidates = [sys.executable, str(Path(base).resolve()), *(path for path in found if path)]
    for candidate in candidates:
        if _runs(candidate):
            return candidate
    raise Unreachable(
        "No Python here can be run by the user that tasks run as.",
        hint="Run the demo as an ordinary user, or install a system Python (3.10 or later).",
    )


def _runs(python: str) -> bool:
    user = task_user()
    who = {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}
    argv = [python, "-I", "-S", "-c", "import sys, zlib; sys.exit(sys.version_info < (3, 10))"]
    try:
        done = subprocess.run(
            argv,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRY_SECONDS,
            check=False,
            **who,  # type: ignore[call-overload]  # mypy cannot tell which of the keywords these are
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(done.returncode == 0)
