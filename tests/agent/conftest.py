"""Fixtures: a coordinator double with a mesh of its own, an agent's home in it, and the session's zygote."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from coordinator_double import CoordinatorDouble


@pytest.fixture(scope="session")
def zygote():
    """One for all agents of the session: it knows nothing of any, and to start it costs a whole Python."""
    from planetmesh.agent.sandbox.handle import Zygote  # there is none but on Linux

    started = Zygote.start()
    yield started
    started.close()


@pytest.fixture
async def coordinator(tmp_path):
    double = CoordinatorDouble(tmp_path)
    await double.open()
    yield double
    await double.close()
