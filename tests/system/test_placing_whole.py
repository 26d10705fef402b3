"""Work goes to the machine that has its large files already, and `explain` says so."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from fleet import Fleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(360)]

LARGE_BYTES = 40_000_000
CALM = {"weights": {"rtt": 0.0, "load": 0.0}}
"""A busy test machine must not outweigh the file."""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_work_goes_where_its_input_lies(fleet: Fleet, tmp_path: Path, kind: str) -> None:
    large = tmp_path / "data" / "large.bin"
    large.parent.mkdir()
    large.write_bytes(random.Random(6).randbytes(LARGE_BYTES))
    what = str(large if kind == "file" else large.parent)
    fleet.start(agents=3, settings=CALM)
    first = fleet.submit("--in", what, "--node", "a3", "hostname")
    fleet.wait(first, 60)
    for _ in range(3):
        job = fleet.submit("--in", what, "hostname")
        fleet.wait(job, 60)
        assert node_of(fleet, job) == "a3", fleet.tell()
    said = fleet.desk.call("explain", f"{job}/0").out
    assert "It was the cheapest: cost" in said
    assert "input to fetch" not in said
    job = fleet.submit("--in", what, "--node", "a1", "hostname")
    fleet.wait(job, 60)
    assert "from input to fetch 0.28" in fleet.desk.call("explain", f"{job}/0").out


def node_of(fleet: Fleet, job: str) -> str:
    (task,) = fleet.tasks(job)
    return str(task["node"])
