"""Fixtures: the API double on a thread of its own, and the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "client"))

from api_double import Double, running_double

from planetmesh.cli.main import run
from planetmesh.paths import Home


@dataclass
class Said:
    """What one command line did."""

    status: int
    out: bytes
    error: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self):
        return msgspec.json.decode(self.out)

    @property
    def lines(self):
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


Say = Callable[..., Said]


@pytest.fixture
def say(home: Home, capfdbinary, monkeypatch) -> Say:
    """Run one command line with this test's home."""
    monkeypatch.setenv("PLANETMESH_HOME", str(home.root))

    def say(*arguments: str) -> Said:
        capfdbinary.readouterr()
        status = run(arguments)
        sys.stderr.flush()
        out, error = capfdbinary.readouterr()
        return Said(status, out, error.decode())

    return say


@pytest.fixture
def double(tmp_path: Path, home: Home) -> Iterator[Double]:
    with running_double(tmp_path / "double", home) as double:
        yield double
