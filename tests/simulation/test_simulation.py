"""A bounded number of simulated hours in every run of the tests; `python -m tests.simulation` does more.

PLANETMESH_SIMULATED_HOURS=300 makes the slow test longer.

In processes of their own: clocks and chance are replaced in the whole program (see `sim_stand_ins`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
HOURS = os.environ.get("PLANETMESH_SIMULATED_HOURS", "20")


def simulate(*options: str) -> dict[str, list[int]]:
    argv = [sys.executable, "-m", "tests.simulation", "--json", *options]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    story, _, last = done.stdout.rstrip().rpartition("\n")
    assert done.returncode == 0, f"{story[-6000:]}\n{last}\n{done.stderr}"
    found: dict[str, list[int]] = json.loads(last)
    return found


@pytest.mark.slow
def test_some_hours_lose_nothing_and_a_seed_replays_exactly():
    once = simulate("--seeds", "3", "--hours", "0.2")
    again = simulate("--seeds", "1", "--first", "2", "--hours", "0.2")
    assert once["failed"] == []
    assert again["digests"] == [once["digests"][2]]
    assert len(set(once["digests"])) == 3


@pytest.mark.slow
@pytest.mark.timeout(300 + 10 * int(HOURS))
def test_many_hours_lose_nothing():
    assert simulate("--seeds", HOURS, "--first", "1000", "--hours", "1", "-j", "2")["failed"] == []
