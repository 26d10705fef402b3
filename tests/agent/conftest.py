"""Fixtures: a coordinator double with a mesh of its own, and an agent's home in it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from coordinator_double import CoordinatorDouble


@pytest.fixture
async def coordinator(tmp_path):
    double = CoordinatorDouble(tmp_path)
    await double.open()
    yield double
    await double.close()
