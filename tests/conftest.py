"""Fixtures that many rooms use, and the Hypothesis profiles.

`quick` (the default) draws the same examples in every run, so a red test is red for everybody; set
HYPOTHESIS_PROFILE=explore for fresh ones.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from planetmesh.paths import Home

sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("transcript", "mesh_world")

from transcript import Transcript  # noqa: E402  its folder and its asserts had to be made known first

_NO_CHECKS = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile(
    "quick", max_examples=50, derandomize=True, deadline=None, suppress_health_check=_NO_CHECKS
)
settings.register_profile(
    "explore", max_examples=1000, deadline=timedelta(seconds=5), suppress_health_check=_NO_CHECKS
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture
def mesh() -> Iterator[Transcript]:
    """A mesh without a network; at the end its tables are checked and no effect may be left unseen."""
    mesh = Transcript()
    yield mesh
    mesh.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A state directory of its own."""
    home = Home(tmp_path / "home")
    home.prepare()
    return home
