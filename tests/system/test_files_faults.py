"""Files on their way while machines die and disks fill: nothing is lost, and little is sent twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO

import pytest
from fleet import Fleet
from lan import Lan
from meshes import Machine, wait_until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300)]

LARGE_BYTES = 40_000_000
RATE = "40mbit"
"""Eight seconds for such a file: time enough to break something in the middle, on a busy machine too."""
BEGUN_BYTES = 3_000_000
DISK_MIB = 96


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is filled soon."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0755", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Not a byte is free on it while the block runs."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    yield
    filler.unlink()


def make_large(folder: Path) -> str:
    content = random.Random(11).randbytes(LARGE_BYTES)
    (folder / "large.bin").write_bytes(content)
    return sha256(content).hexdigest()


def slow(lan: Lan, host: str, card: str) -> None:
    """What leaves the host by that card goes no quicker than RATE."""
    tbf = ["rate", RATE, "burst", "256kb", "latency", "100ms"]
    lan.check(host, ["tc", "qdisc", "add", "dev", card, "root", "tbf", *tbf])


def quick(lan: Lan, host: str, card: str) -> None:
    lan.check(host, ["tc", "qdisc", "del", "dev", card, "root"])


def passed(lan: Lan, host: str, card: str) -> int:
    """Bytes out of that card so far."""
    lines = lan.check(host, ["cat", "/proc/net/dev"]).splitlines()[2:]
    cards = dict(line.split(":", 1) for line in lines)
    return next(int(numbers.split()[8]) for name, numbers in cards.items() if name.strip() == card)


def arrived(folder: Path) -> int:
    """Bytes of what has partly come there."""
    total = 0
    for top, _folders, names in os.walk(folder):  # pathlib's own fails where a folder goes while it looks
        for name in names:
            if Path(top).name == "partial" or name.endswith(".part"):
                with suppress(FileNotFoundError):
                    total += Path(top, name).stat().st_size
    return total


def begin(
    machine: Machine, here: Path, *arguments: str, error: int | IO[bytes] = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    """A command, typed in that folder, that runs while the test goes on."""
    line = ["sh", "-c", 'cd "$0" && exec "$@"', str(here), sys.executable, "-m", "planetmesh", *arguments]
    return machine._start(line, subprocess.DEVNULL, subprocess.PIPE, error)


def end_of(process: subprocess.Popen[bytes], seconds: float = 60) -> tuple[int, str]:
    _out, error = process.communicate(timeout=seconds)
    said = error.decode()
    assert "Traceback" not in said
    return process.returncode, said


def restart(fleet: Fleet) -> None:
    fleet.desk.up("--no-agent", "--no-mdns")


# Who is killed


def test_a_coordinator_killed_in_the_middle_of_an_upload(fleet: Fleet, here: Path) -> None:
    """Its user gives up; the same command later sends only the rest."""
    fleet.start(agents=0)
    make_large(here)
    slow(fleet.lan, "h1", "lo")
    command = ("run", "--detach", "--in", "large.bin", "true")
    told = here.parent / "told"
    with told.open("wb") as error:
        process = begin(fleet.desk, here, *command, error=error)
    wait_until(lambda: arrived(fleet.desk.home) > LARGE_BYTES / 2, 60, fleet.tell)
    fleet.desk.kill()
    # Who has lost the coordinator looks for it on the LAN first.
    wait_until(lambda: "trying again" in told.read_text(), 60, told.read_text)
    assert process.poll() is None, "it waits for the coordinator"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    said = told.read_text()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "the same command goes on there" in said
    restart(fleet)
    have, before = arrived(fleet.desk.home), passed(fleet.lan, "h1", "lo")
    assert have > LARGE_BYTES / 3
    status, said = end_of(begin(fleet.desk, here, *command))
    assert status == 0, said
    assert passed(fleet.lan, "h1", "lo") - before < 1.1 * (LARGE_BYTES - have) + 1_000_000
    assert fleet.desk.json("job", "last")["status"] == "QUEUED"


def test_an_upload_outlives_a_coordinator_that_is_started_again(fleet: Fleet, here: Path) -> None:
    fleet.start(agents=1)
    digest = make_large(here)
    slow(fleet.lan, "h1", "lo")
    process = begin(fleet.desk, here, "run", "--in", "large.bin", "--out", "sum", "sha256sum large.bin > sum")
    wait_until(lambda: arrived(fleet.desk.home) > LARGE_BYTES / 2, 60, fleet.tell)
    fleet.desk.kill()
    before = passed(fleet.lan, "h1", "lo")
    restart(fleet)
    status, said = end_of(process)
    assert status == 0, said
    assert passed(fleet.lan, "h1", "lo") - before < 0.8 * LARGE_BYTES
    assert (here / "sum").read_text().split()[0] == digest


def test_at_most_once_holds_for_an_agent_killed_while_it_brings_files(fleet: Fleet) -> None:
    """What it made is lost, and that is said: run again it would have run twice."""
    fleet.start(agents=1)
    agent = fleet.agents["a1"]
    slow(fleet.lan, "h2", "eth0")
    note = f"echo start 0 $$ $(hostname) >> {fleet.diary.file}"
    script = f"{note}; head -c {LARGE_BYTES} /dev/urandom > big"
    job = fleet.submit("--at-most-once", "--out", "big", "sh", "-c", script)
    wait_until(lambda: arrived(fleet.desk.home) > BEGUN_BYTES, 60, fleet.tell)
    agent.kill()
    quick(fleet.lan, "h2", "eth0")
    agent.up("--name", "a1", "--no-mdns")
    assert fleet.wait(job) == 1
    (task,) = fleet.tasks(job)
    assert (task["status"], task["attempts"]) == ("FAILED", 1)
    assert "run at most once" in task["last_error"], task
    assert fleet.diary.starts() == {"0": 1}
    said = fleet.desk.call("fetch", job, "-o", str(fleet.desk.home.parent / "made"))
    assert said.status == 1
    assert "No task has brought a file." in said.error


# Whose disk is full


def test_the_nodes_disk_fills_up_while_it_fetches(
    fleet: Fleet, here: Path, small_disk: Path, make_lan: Callable[[int], Lan]
) -> None:
    """The task is not lost: it goes on with what has come once there is room; others do not notice."""
    fleet.lan = make_lan(3)
    fleet.start_desk(settings={"retry_first_seconds": 1.0, "retry_longest_seconds": 1.0})
    full_home = small_disk / "a1"
    full_home.mkdir(mode=0o700)
    (full_home / "settings.json").write_text(f'{{"blob_cache_bytes": {2 * LARGE_BYTES}}}')
    agent = fleet.agents["a1"] = Machine(full_home, lan=fleet.lan, host="h2")
    agent._log, agent._events = fleet.desk.home.parent / "a1.log", fleet.desk.home.parent / "a1.events"
    address = f"{fleet.lan.address('h1')}:7433"
    agent.up("--join", address, "--no-mdns", "--name", "a1", code=fleet.desk.code()["code"])
    fleet.add_agent("a2", "h3")
    digest = make_large(here)
    slow(fleet.lan, "h1", "eth0")
    sum_of = ("sh", "-c", "sha256sum < large.bin")
    job = fleet.submit("--node", "a1", "--retries", "99", "--in", str(here / "large.bin"), *sum_of)
    wait_until(lambda: arrived(full_home) > BEGUN_BYTES, 60, fleet.tell)
    with full(small_disk):
        wait_until(lambda: "is full" in str(fleet.tasks(job)[0]["last_error"]), 60, fleet.tell)
        have = arrived(full_home)
        assert fleet.desk.call("run", "--node", "a2", "echo", "fine").out == "fine\n"
        assert agent.process is not None
        assert agent.process.poll() is None
    assert have >= BEGUN_BYTES
    assert fleet.wait(job) == 0, fleet.tell()
    assert digest in fleet.desk.call("results", job).out
    assert "Traceback" not in agent.log + fleet.desk.log


def test_the_coordinators_disk_fills_up_while_a_file_comes(
    fleet: Fleet, here: Path, small_disk: Path, make_lan: Callable[[int], Lan]
) -> None:
    fleet.lan = make_lan(2)
    fleet.start_desk(home=small_disk / "desk", settings={"disk_reserve_bytes": 0, "blob_quota_bytes": 2**30})
    fleet.add_agent("a1", "h2")
    digest = make_large(here)
    slow(fleet.lan, "h1", "lo")
    command = ("run", "--in", "large.bin", "--out", "sum", "sha256sum large.bin > sum")
    process = begin(fleet.desk, here, *command)
    wait_until(lambda: arrived(fleet.desk.home) > BEGUN_BYTES, 60, fleet.tell)
    with full(small_disk):
        status, said = end_of(process)
        assert status == 1, said
        assert "is full" in said
        assert "hint: " in said
        have = arrived(fleet.desk.home)
        assert fleet.desk.call("nodes").status == 0
    assert have >= BEGUN_BYTES
    before = passed(fleet.lan, "h1", "lo")
    status, said = end_of(begin(fleet.desk, here, *command))
    assert status == 0, said
    assert passed(fleet.lan, "h1", "lo") - before < 1.1 * (LARGE_BYTES - have) + 2_000_000
    assert (here / "sum").read_text().split()[0] == digest
    assert "Traceback" not in fleet.desk.log


def test_the_users_disk_fills_up_while_files_come(fleet: Fleet, here: Path, small_disk: Path) -> None:
    fleet.start(agents=1)
    digest = make_large(here)
    job = fleet.submit("--in", str(here / "large.bin"), "--out", "copy", "cp large.bin copy")
    assert fleet.wait(job) == 0
    slow(fleet.lan, "h1", "lo")
    target = small_disk / "made"
    process = begin(fleet.desk, here, "fetch", job, "-o", str(target))
    wait_until(lambda: arrived(small_disk) > BEGUN_BYTES, 60, fleet.tell)
    with full(small_disk):
        status, said = end_of(process)
        assert status == 1, said
        assert f"The disk of {target} is full." in said
        assert "the same command goes on with what has arrived" in said
        assert not (target / "copy").exists()
        have = arrived(small_disk)
        status, said = end_of(begin(fleet.desk, here, "fetch", job, "-o", str(target)))
        assert status == 1, said
    assert have >= BEGUN_BYTES
    before = passed(fleet.lan, "h1", "lo")
    status, said = end_of(begin(fleet.desk, here, "fetch", job, "-o", str(target)))
    assert status == 0, said
    assert passed(fleet.lan, "h1", "lo") - before < 1.1 * (LARGE_BYTES - have) + 1_000_000
    assert sha256((target / "copy").read_bytes()).hexdigest() == digest
    assert [path.name for path in target.iterdir()] == ["copy"]
