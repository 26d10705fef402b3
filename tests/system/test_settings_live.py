"""Settings changed under a real agent with work in hand: it is told on its link and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from meshes import Machine, wait_until

pytestmark = [pytest.mark.system, pytest.mark.slow]

TIMES = ("heartbeat_seconds=30s", "suspect_after_seconds=1m", "offline_after_seconds=2m")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "home")
    yield made
    made.close()


def test_a_running_agent_goes_by_new_numbers(machine: Machine, shared: Path) -> None:
    here = ("--port", "0", "--bind", "127.0.0.1", "--no-mdns")
    machine.up(*here, "--cpus", "2", "--share", str(shared))
    wait_until(lambda: "HEALTHY" in {n["state"] for n in machine.nodes().values()}, 60, lambda: machine.log)
    until_told = f"until [ -e {shared}/enough ]; do sleep 0.1; done"
    job = machine.call("run", "--detach", "sh", "-c", until_told).out.strip()
    wait_until(lambda: machine.json("job", job)["status"] == "RUNNING", 60, lambda: machine.log)

    assert machine.call("settings", *TIMES, "output_most_bytes=1KiB").status == 0
    assert machine.call("settings", "--reset", *(each.split("=")[0] for each in TIMES)).status == 0
    said = machine.call("run", "sh", "-c", "head -c 5000 /dev/zero | tr '\\0' x")
    assert said.status == 0, said.error
    assert said.out.count("x") == 1024

    (shared / "enough").touch()
    assert machine.call("wait", job).status == 0
    (task,) = machine.json("job", job, "--tasks")
    assert (task["status"], task["attempts"]) == ("COMPLETED", 1)
    assert [node["state"] for node in machine.nodes().values()] == ["HEALTHY"]
    assert machine.log.count("link.up") == 1, machine.log
