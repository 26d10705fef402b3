"""A running coordinator for each test."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from api_world import Client, World, running_world

from planetmesh.model.identity import Role


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(tmp_path) as world:
        yield world


@pytest.fixture
async def operator(world: World) -> Client:
    return await world.client(Role.OPERATOR)


@pytest.fixture
async def viewer(world: World) -> Client:
    return await world.client(Role.VIEWER)
