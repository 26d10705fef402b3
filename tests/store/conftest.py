"""Real SQLite in a temporary home; after each test the counters are compared with the rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from store_rows import verify

from planetmesh.paths import Home
from planetmesh.settings import Settings
from planetmesh.store.outputs import Outputs
from planetmesh.store.store import Store


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
async def store(home: Home) -> AsyncIterator[Store]:
    store = await Store.open(home)
    yield store
    await store.close()
    verify(home)


@pytest.fixture
async def outputs(home: Home, store: Store) -> AsyncIterator[Outputs]:
    outputs = await Outputs.open(home, Settings())
    yield outputs
    await outputs.close()
