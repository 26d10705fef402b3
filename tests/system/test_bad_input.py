"""What people get wrong, and disks that fill: one clear sentence, a hint, the exit code of the contract."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleet import Fleet, Watched, is_alive
from meshes import Machine, wait_until

pytestmark = [pytest.mark.system]

STOPPED_SECONDS = 5.0
DISK_MIB = 24


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[[str], Machine]]:
    made: list[Machine] = []

    def make(name: str, home: Path | None = None) -> Machine:
        made.append(Machine(home or tmp_path / name))
        return made[-1]

    yield make
    for each in reversed(made):
        print(f"──── {each.home.name}\n{each.log[-8000:]}")
        each.kill()
        each.close()


@pytest.fixture
def desk(machine: Callable[..., Machine]) -> Machine:
    """A whole mesh of one machine on loopback."""
    return stand_up(machine("desk"))


def stand_up(desk: Machine) -> Machine:
    desk.up("--new", "--no-mdns", "--bind", "127.0.0.1", "--port", "0", "--name", "desk", "--cpus", "4")
    wait_until(lambda: [each["state"] for each in desk.json("nodes")] == ["HEALTHY"], 60, lambda: desk.log)
    return desk


def test_what_is_not_known_is_said(desk: Machine) -> None:
    commands = (
        ("job", "nope"),
        ("wait", "nope"),
        ("logs", "nope"),
        ("logs", "nope/3"),
        ("cancel", "nope"),
        ("node", "drain", "nope"),
        ("node", "revoke", "nope"),
        ("node", "rename", "nope", "other"),
        ("run", "--node", "nope", "true"),
        ("job", "last"),
    )
    for command in commands:
        said = desk.call(*command)
        assert said.status == 5, (command, said)
        assert said.out == ""
        assert said.error.startswith("error: "), (command, said.error)
        assert "Traceback" not in said.error
        if command[-1] != "last":
            assert "hint: " in said.error, (command, said.error)
    assert desk.json("jobs") == []


def test_a_command_that_is_nowhere_is_127_and_a_sentence(desk: Machine) -> None:
    name = f"no-such-{secrets.token_hex(4)}"
    said = desk.call("run", name, "--flag")
    assert said.status == 127, said
    assert name in said.error
    assert "desk" in said.error
    assert "Traceback" not in said.error
    assert desk.call("run", name, ":::", "a", "b").status == 1


def test_a_program_that_may_not_be_run_is_126(desk: Machine) -> None:
    said = desk.call("run", "/etc/passwd")
    assert said.status == 126, said
    assert "/etc/passwd" in said.error


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_ctrl_c_cancels_on_the_mesh_and_says_so(desk: Machine, many: bool) -> None:
    mark = f"mark-{secrets.token_hex(4)}"
    script = f": {mark} {{}}; trap '' TERM; while :; do sleep 0.1; done"
    run = Watched(desk, ("sh", "-c", script, *((":::", "1", "2", "3") if many else ())))
    try:
        wait_until(lambda: _running(mark), 60, lambda: run.error)
        run.process.send_signal(signal.SIGINT)
        interrupted_at = time.monotonic()
        assert run.wait(60) == 130
        told = time.monotonic() - interrupted_at
        wait_until(lambda: not _running(mark), STOPPED_SECONDS, lambda: f"left: {_running(mark)}")
        print(f"left {told:.2f} s after Ctrl-C, tasks gone after {time.monotonic() - interrupted_at:.2f} s")
        assert "cancelling job" in run.error
        assert "is cancelled" in run.error
    finally:
        run.close()
    (job,) = desk.json("jobs")
    assert job["status"] == "CANCELLED"
    assert job["tasks"]["cancelled"] == job["tasks"]["total"]


def _running(mark: str) -> list[int]:
    """Tasks with the mark in their command line; the `run` that asked for them is not one."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal() and is_alive(int(each.name)):
            try:
                arguments = (each / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if arguments[0].endswith(b"sh") and any(mark.encode() in part for part in arguments):
                found.append(int(each.name))
    return found


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_full_disk_is_said_and_loses_nothing(
    fleet: Fleet, small_disk: Path, make_lan: Callable[[int], object]
) -> None:
    """The coordinator's disk; its agents are elsewhere."""
    fleet.lan = make_lan(2)  # type: ignore[assignment]
    fleet.start_desk(home=small_disk / "desk")
    fleet.add_agent("a1", "h2")
    before = [fleet.submit("echo", str(number)) for number in range(3)]
    running = fleet.submit("--range", "1..4", *fleet.task("6"))
    fleet.wait_for_starts(4)
    filler = small_disk / "filler"
    _fill(filler)
    refused = _submit_until_refused(fleet, filler)
    assert refused.status == 1, refused
    assert "disk" in refused.error.lower() or "space" in refused.error.lower(), refused.error
    assert "hint: " in refused.error
    assert "Traceback" not in refused.error + fleet.desk.log
    assert fleet.desk.process is not None
    wait_until(lambda: fleet.diary.ends().total() == 4, 60, fleet.tell)
    assert fleet.desk.process.poll() is None
    assert fleet.desk.call("jobs").status == 0, "questions are still answered"

    filler.unlink()
    freed_at = time.monotonic()
    wait_until(lambda: fleet.desk.call("run", "--detach", "true").status == 0, 60, fleet.tell)
    print(f"submits were taken again {time.monotonic() - freed_at:.1f} s after space was freed")
    assert fleet.wait(running) == 0
    fleet.assert_all_completed(running, 4)
    assert set(fleet.diary.starts().values()) == {1}
    jobs = {job["id"] for job in fleet.desk.json("jobs")}
    assert {*before, running} <= jobs
    for number, job in enumerate(before):
        assert fleet.desk.call("logs", job).out == f"{number}\n"


def _fill(filler: Path) -> None:
    with filler.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


def _submit_until_refused(fleet: Fleet, filler: Path):
    """SQLite has a little room in its files; it is used up soon."""
    end_at = time.monotonic() + 60
    while time.monotonic() < end_at:
        said = fleet.desk.call("run", "--detach", "--env", f"FILL={'x' * 60_000}", "true")
        if said.status:
            return said
        _fill(filler)
    raise AssertionError("the disk never was full")
