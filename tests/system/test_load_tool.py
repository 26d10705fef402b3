"""The load tool of `tests/benchmarks/` works: a few simulated agents against a real coordinator process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "benchmarks" / "load_mesh.py"
SMALL = ("--agents", "20", "--tasks", "4000", "--seconds", "1", "--warm-seconds", "0.5", "--slots", "8")


def load(out: Path, *options: str) -> dict[str, dict[str, float]]:
    """What it found, by row."""
    done = subprocess.run(
        [sys.executable, str(TOOL), *SMALL, "--out", str(out), *options],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    rows: dict[str, dict[str, float]] = {}
    for line in out.read_text().splitlines():
        found = json.loads(line)
        rows.setdefault(found.pop("row"), {}).update(found)
    return rows


@pytest.mark.system
def test_agents_work_off_what_is_queued_and_come_back_after_a_restart(tmp_path: Path) -> None:
    rows = load(tmp_path / "out", "--parts", "forms,half", "--forms", "many", "--task-seconds", "0.1..0.2")
    many, half = rows["many"], rows["half"]
    assert many["submit_s"] > 0
    assert many["tasks_per_s"] > 0
    assert many["heartbeat_ms_count"] > 0
    assert many["lost_links"] == 0
    assert half["all_back_s"] >= half["load_s"] > 0
    assert half["ended_before"] >= 2000


@pytest.mark.system
def test_too_few_open_files_are_told_with_what_to_do(tmp_path: Path) -> None:
    limited = f'ulimit -n 256; exec "{sys.executable}" "{TOOL}" --agents 1000 --tasks 10'
    done = subprocess.run(["sh", "-c", limited], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode != 0
    assert "--agents" in done.stderr
    assert "Traceback" not in done.stderr
