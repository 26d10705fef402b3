"""Files through a whole mesh on a LAN: in by the client, to a node, out again; and what breaks that."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest
from fleet import Fleet
from lan import REPOSITORY
from meshes import wait_until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(240)]

SCRIPT = REPOSITORY / "tests" / "system" / "mesh_files.py"
LARGE_BYTES = 150_000_000
END_SECONDS = 60.0
UNPLUGGED_SECONDS = 4.0
"""Not long enough for the node to count as gone."""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def client(fleet: Fleet, *arguments: str) -> str:
    process = fleet.desk._start(
        [sys.executable, str(SCRIPT), *arguments], subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE
    )
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error.decode()
    return out.decode()


def submit(fleet: Fleet, folder: Path, pattern: str, script: str, *names: str) -> str:
    return client(fleet, "submit", str(fleet.desk.home), str(folder), pattern, script, *names).strip()


def taken(fleet: Fleet, job: str) -> dict[str, str]:
    lines = client(fleet, "take", str(fleet.desk.home), job).splitlines()
    return {each["name"]: each["digest"] for each in map(json.loads, lines)}


def completed(fleet: Fleet, job: str) -> None:
    fleet.wait(job, END_SECONDS)
    fleet.assert_all_completed(job, 1)


def large(folder: Path) -> str:
    content = random.Random(4).randbytes(LARGE_BYTES)
    (folder / "large.bin").write_bytes(content)
    return sha256(content).hexdigest()


def arriving(home: Path) -> int:
    """Bytes of blobs that have partly come to a home."""
    total = 0
    for path in (home / "blobs" / "partial").glob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_files_go_out_and_come_home(fleet: Fleet, here: Path) -> None:
    fleet.start(agents=2)
    (here / "tree/a").mkdir(parents=True)
    (here / "tree/hollow").mkdir()
    for number in range(2000):
        (here / f"tree/a/{number}").write_bytes(b"%d" % number)
    (here / "tool").write_text("#!/bin/sh\ncat tree/a/* | sha256sum > out/sum\n")
    (here / "tool").chmod(0o755)
    (here / "größe.bin").write_bytes(b"x" * 3_000_000)
    script = "mkdir out && test -d tree/hollow && ./tool && cp größe.bin out/"
    script += " && seq 3000 | split -l 1 -a 4 - out/p"
    job = submit(fleet, here, "out/", script, "tree", "tool", "größe.bin")
    completed(fleet, job)
    found = taken(fleet, job)
    assert len(found) == 3002
    assert found["out/größe.bin"] == sha256(b"x" * 3_000_000).hexdigest()
    for agent in fleet.agents.values():
        assert "Traceback" not in agent.log
    assert "Traceback" not in fleet.desk.log


def test_what_is_not_made_fails_with_words(fleet: Fleet, here: Path) -> None:
    fleet.start(agents=1)
    job = submit(fleet, here, "*.png", "echo x > a.jpg; ln -s a.jpg b.txt")
    fleet.wait(job, END_SECONDS)
    (task,) = fleet.tasks(job)
    assert task["status"] == "FAILED"
    assert "made no file that matches '*.png'" in json.dumps(task)


def test_an_agent_killed_in_the_middle_of_a_fetch_goes_on_where_it_was(fleet: Fleet, here: Path) -> None:
    fleet.start(agents=1)
    digest = large(here)
    agent = fleet.agents["a1"]
    job = submit(fleet, here, "sum", "sha256sum < large.bin | cut -d' ' -f1 > sum; cat sum", "large.bin")
    wait_until(lambda: arriving(agent.home) > 1_000_000, 60, fleet.tell)
    agent.kill()
    agent.up("--name", "a1", "--no-mdns")
    completed(fleet, job)
    assert digest in fleet.desk.call("results", job).out
    assert not list((agent.home / "blobs" / "partial").iterdir())


def test_an_agent_killed_in_the_middle_of_an_upload_runs_the_task_again(fleet: Fleet, here: Path) -> None:
    fleet.start(agents=1)
    agent = fleet.agents["a1"]
    job = submit(fleet, here, "big", f"head -c {LARGE_BYTES} /dev/urandom > big")
    wait_until(lambda: arriving(fleet.desk.home) > 1_000_000, 60, fleet.tell)
    agent.kill()
    agent.up("--name", "a1", "--no-mdns")
    completed(fleet, job)
    assert list(taken(fleet, job)) == ["big"]


@pytest.mark.parametrize("how", ["restarted", "unplugged"])
def test_an_upload_outlives_its_coordinator(fleet: Fleet, here: Path, how: str) -> None:
    """The task is not run again: its file goes on from where it was."""
    fleet.start(agents=1)
    count = fleet.diary.file
    script = (
        f"echo start 0 $$ $(hostname) >> {count}; head -c {LARGE_BYTES} /dev/urandom > big; sha256sum < big"
    )
    job = submit(fleet, here, "big", script)
    wait_until(lambda: arriving(fleet.desk.home) > 1_000_000, 60, fleet.tell)
    if how == "restarted":
        fleet.desk.stop(signal.SIGKILL)
        fleet.desk.up("--no-agent", "--no-mdns")
    else:
        fleet.lan.unplug("h2")
        time.sleep(UNPLUGGED_SECONDS)
        fleet.lan.plug("h2")
    completed(fleet, job)
    assert fleet.diary.starts() == {"0": 1}
    assert taken(fleet, job)["big"] in fleet.desk.call("results", job).out
