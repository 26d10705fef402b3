"""Fixtures: an API double over real TLS, and a home that may use it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from api_double import Double

from planetmesh.paths import Home


@pytest.fixture
async def double(tmp_path: Path, home: Home) -> AsyncIterator[Double]:
    double = Double(tmp_path / "double")
    await double.start()
    double.operator(home)
    yield double
    await double.close()
