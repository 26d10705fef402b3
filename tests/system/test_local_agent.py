"""The agent beside the coordinator when `up` is killed: its tasks end once, and a new `up` takes over."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from meshes import Machine, wait_until

pytestmark = pytest.mark.system

TASK = (
    "echo start >> {}/$PLANETMESH_TASK; until [ -e {}/../enough ]; do sleep 0.1; done; "
    "echo end >> {}/$PLANETMESH_TASK"
)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture
def diary() -> Iterator[Path]:
    """A shared folder in which each task writes down its start and its end; tasks are another user."""
    folder = Path(tempfile.mkdtemp(prefix="planetmesh-test-", dir="/var/tmp"))
    path = folder / "diary"
    path.mkdir()
    folder.chmod(0o755)
    path.chmod(0o777)
    yield path
    shutil.rmtree(folder)


def up(machine: Machine, diary: Path) -> None:
    here = ("--port", "0", "--bind", "127.0.0.1", "--no-mdns")
    shares = ("--share", str(diary.parent), "--share", f"{diary}:rw")
    machine.up(*here, "--cpus", "2", *shares)


def local_agents(machine: Machine) -> list[psutil.Process]:
    place = str(machine.home / "local-agent")
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if place in line and "_agent" in line and process.ppid() in {1, os.getpid(), _up(machine)}:
            found.append(process)
    return found


def _up(machine: Machine) -> int:
    return machine.process.pid if machine.process is not None else 0


def test_tasks_beside_a_killed_coordinator_run_once(machine: Machine, diary: Path) -> None:
    up(machine, diary)
    wait_until(lambda: "HEALTHY" in {n["state"] for n in machine.nodes().values()}, 60, lambda: machine.log)
    script = TASK.replace("{}", str(diary))
    job = machine.call("run", "--detach", "--range", "1..4", f"{script}; true").out.strip()
    wait_until(lambda: len(list(diary.iterdir())) == 2, 60, lambda: machine.log)

    machine.kill()
    up(machine, diary)
    wait_until(lambda: "local_agent.finishing" in machine.log, 60, lambda: machine.log)
    (diary.parent / "enough").touch()
    assert machine.call("wait", job, seconds=60).status == 0, machine.log
    written = {path.name: path.read_text().split() for path in diary.iterdir()}
    assert written == {str(index): ["start", "end"] for index in range(4)}
    nodes = machine.nodes()
    assert [node["state"] for node in nodes.values()] == ["HEALTHY"]


def test_an_idle_agent_goes_when_its_coordinator_was_killed(machine: Machine, diary: Path) -> None:
    up(machine, diary)
    wait_until(lambda: "HEALTHY" in {n["state"] for n in machine.nodes().values()}, 60, lambda: machine.log)
    agents = local_agents(machine)
    assert agents
    assert machine.process is not None
    machine.process.send_signal(signal.SIGKILL)
    machine.process.wait(60)
    _gone, alive = psutil.wait_procs(agents, 60)
    assert not alive, machine.log
