"""Files in and out by the command line alone: a person's commands, real nodes, no shared folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fleet import Fleet

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    return folder


def say(fleet: Fleet, here: Path, *arguments: str) -> tuple[int, str]:
    """One command line, typed in that folder; its status and what it said on stderr."""
    line = ["sh", "-c", 'cd "$0" && exec "$@"', str(here), sys.executable, "-m", "planetmesh"]
    process = fleet.desk._start(
        [*line, "--home", str(fleet.desk.home), *arguments],
        subprocess.DEVNULL,
        subprocess.PIPE,
        subprocess.PIPE,
    )
    _out, error = process.communicate(timeout=60)
    return process.returncode, error.decode()


def test_inputs_and_a_program_go_along_and_what_they_make_comes_back(fleet: Fleet, here: Path) -> None:
    fleet.start(agents=2)
    names = ["a.txt", "sub/ü b.txt", "Title: Part 2.txt"]
    for number, name in enumerate(names):
        (here / name).write_text(f"TEXT {number}\n")
    (here / "lower.sh").write_text('#!/bin/sh\ntr A-Z a-z < "$1" > "$2"\n')
    command = ("--out", "**/*.low", "-o", "made", "./lower.sh", "{}", "{.}.low", ":::", *names)
    status, said = say(fleet, here, "run", *command)
    assert status == 0, said
    assert "'Title: Part 2.txt' is 'Title_ Part 2.txt'" in said
    assert "3 files, 21 B, are in made." in said
    made = {path.relative_to(here / "made").as_posix(): path for path in (here / "made").rglob("*.low")}
    assert {name: path.read_text() for name, path in made.items()} == {
        "a.low": "text 0\n",
        "sub/ü b.low": "text 1\n",
        "Title_ Part 2.low": "text 2\n",
    }


def test_a_folder_goes_along_and_a_failing_task_keeps_no_file_back(fleet: Fleet, here: Path) -> None:
    fleet.start(agents=1)
    (here / "data").mkdir()
    (here / "data/table").write_text("1\n2\n")
    line = "mkdir -p out/{} && cp data/table out/{}/copy && test {} != b"
    status, said = say(
        fleet, here, "run", "--retries", "0", "--in", "data", "--out", "out/", line, ":::", "a", "b", "c"
    )
    assert status == 1, said
    assert sorted(path.relative_to(here).as_posix() for path in here.glob("out/*/*")) == [
        "out/a/copy",
        "out/c/copy",
    ]
    status, said = say(fleet, here, "fetch", "last", "--by-task", "-o", "all")
    assert status == 1, said
    assert "1 failed" in said
    assert (here / "all/2/out/c/copy").read_text() == "1\n2\n"
