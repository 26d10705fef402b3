"""What people get wrong about files, and what tasks do wrong with them: a whole mesh on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from meshes import Machine, Said, wait_until

pytestmark = [pytest.mark.system]

MIB = 1024 * 1024
COPY = """
import os
os.mkdir("out")
for name in os.listdir("in"):
    with open("in/" + name) as file, open("out/" + name, "w") as copy:
        copy.write(file.read() + "!")
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("mesh") / "desk")
    machine.up("--new", "--no-mdns", "--bind", "127.0.0.1", "--port", "0", "--name", "desk", "--cpus", "4")
    wait_until(lambda: [each["state"] for each in machine.json("nodes")] == ["HEALTHY"], 60)
    yield machine
    print(machine.log[-8000:])
    machine.kill()
    machine.close()


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def say(desk: Machine, here: Path, *arguments: str, seconds: float = 50.0) -> Said:
    """One command line, typed in that folder."""
    line = ["sh", "-c", 'cd "$0" && exec "$@"', str(here), sys.executable, "-m", "planetmesh", *arguments]
    process = desk._start(line, subprocess.DEVNULL, subprocess.PIPE, subprocess.PIPE)
    out, error = process.communicate(timeout=seconds)
    said = Said(process.returncode, out.decode(), error.decode())
    assert "Traceback" not in said.error + desk.log
    return said


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_two_tasks_that_make_one_file(desk: Machine, here: Path) -> None:
    said = say(desk, here, "run", "--out", "out", "echo {} > out", ":::", "a", "b")
    assert said.status == 2, said
    assert "Several tasks made files of one name" in said.error
    assert "'out' of tasks" in said.error
    assert "--by-task" in said.error
    assert names(here) == ["out"]
    (here / "out").unlink()
    assert say(desk, here, "fetch", "last", "--by-task", "-o", "all").status == 0
    assert {(here / f"all/{task}/out").read_text() for task in range(2)} == {"a\n", "b\n"}


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("ln -s /etc/passwd out", "it is a link"),
        ("mkdir real; echo x > real/out; ln -s real/out out", "it is a link"),
        ("ln /etc/hostname out 2>/dev/null || ln -s ../../../etc/hostname out", "cannot be taken"),
        ("mkfifo out", "it is a pipe"),
        ("echo x > other", "made no file that matches 'out'; its folder holds 'other'"),
        ("true", "made no file that matches 'out'; its folder holds nothing"),
    ],
)
def test_what_is_no_output_fails_its_task_alone(desk: Machine, here: Path, script: str, reason: str) -> None:
    line = f"if [ {{}} = bad ]; then {script}; else mkdir -p good; echo fine > good/file; fi"
    said = say(desk, here, "run", "--retries", "0", "--out", "out", "-o", "made", line, ":::", "bad")
    assert said.status == 1, said
    assert reason in said.error
    assert not (here / "made").exists() or names(here / "made") == []
    said = say(
        desk, here, "run", "--retries", "0", "--out", "good/", "-o", "made", line, ":::", "bad", "fine"
    )
    assert said.status == 1, said
    assert names(here / "made") == ["good", "good/file"]


def test_a_link_out_of_a_folder_that_goes_along_is_refused(desk: Machine, here: Path) -> None:
    (here / "data").mkdir()
    (here / "data/out").symlink_to("/etc/passwd")
    before = len(desk.json("jobs", "--limit", "1000"))
    said = say(desk, here, "run", "--in", "data", "cat data/out")
    assert said.status == 2, said
    assert "data/out leads out of the folder data" in said.error
    assert len(desk.json("jobs", "--limit", "1000")) == before


def test_an_input_that_grows_while_it_is_read_is_named_and_nothing_runs(desk: Machine, here: Path) -> None:
    (here / "log.bin").write_bytes(bytes(150 * MIB))
    over = threading.Event()

    def grow() -> None:
        with (here / "log.bin").open("ab", buffering=0) as file:
            while not over.wait(0.005):
                file.write(b"one more line\n")

    growing = threading.Thread(target=grow)
    growing.start()
    before = len(desk.json("jobs", "--limit", "1000"))
    try:
        said = say(desk, here, "run", "--in", "log.bin", "true")
    finally:
        over.set()
        growing.join()
    assert said.status == 2, said
    assert "log.bin changed while it was read" in said.error
    assert len(desk.json("jobs", "--limit", "1000")) == before


def test_no_file_matches_and_names_that_are_not_there(desk: Machine, here: Path) -> None:
    for arguments, sentence in (
        (("--in", "*.png"), "No file matches '*.png'"),
        (("--in", "nothing"), "There is no file or folder 'nothing'"),
        (("--out", "../x"), "leads out of the task's folder"),
    ):
        said = say(desk, here, "run", *arguments, "true")
        assert said.status in {2, 5}, said
        assert sentence in said.error


MANY = 100_000 if os.environ.get("PLANETMESH_LARGE") else 20_000
"""Of which the larger number takes minutes."""


@pytest.mark.parametrize(
    "count", [5_000, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_many_small_files_there_and_back(desk: Machine, here: Path, count: int) -> None:
    """In as a folder, changed by a task, out again; bounded by the test's own time."""
    (here / "in").mkdir()
    for number in range(count):
        (here / f"in/{number}").write_bytes(b"%d" % number)
    (here / "copy.py").write_text(COPY)
    command = ("--in", "in", "--in", "copy.py", "--out", "out/", "-o", "made", "python3", "copy.py")
    said = say(desk, here, "run", *command, seconds=550)
    assert said.status == 0, said
    made = {path.name: path.read_bytes() for path in (here / "made/out").iterdir()}
    assert len(made) == count
    assert all(made[str(number)] == b"%d!" % number for number in range(count))
