"""`fetch`, and what `run --out` brings by itself."""

from __future__ import annotations

import pytest
from api_double import Does, Double


@pytest.fixture
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_run_brings_what_its_tasks_made(say, double: Double, here) -> None:
    double.plan = lambda _spec, index: Does(files={f"out{index}.txt": b"%d" % index})
    said = say("run", "--out", "*.txt", "-o", "made", "x", ":::", "a", "b")
    assert (said.status, said.text) == (0, "")
    assert said.error == "2 files, 2 B, are in made.\n"
    assert (here / "made/out1.txt").read_bytes() == b"1"
    lines = say("run", "--out", "*.txt", "-o", "made", "--json", "x").lines
    assert [line["file"]["present"] for line in lines if line["kind"] == "file"] == [True]


def test_a_failing_task_does_not_keep_the_others_files_back(say, double: Double, here) -> None:
    double.plan = lambda _spec, index: (
        Does(exit_code=3, outcome="exit_code") if index == 0 else Does(files={f"out{index}": b"x"})
    )
    said = say("run", "--out", "*", "x", ":::", "a", "b", "c")
    assert said.status == 1
    assert "2 files, 2 B, are in this folder." in said.error
    assert sorted(path.name for path in here.iterdir()) == ["out1", "out2"]
    assert say("run", "--out", "*", "x").status == 3


def test_clashes_and_conflicts_name_the_command_that_gets_the_files_later(say, double: Double, here) -> None:
    double.plan = lambda _spec, index: Does(files={"out": b"%d" % index})
    said = say("run", "--out", "*", "x", ":::", "a", "b")
    assert said.status == 2
    assert "'out' of tasks 0 and 1" in said.error
    (job_id,) = double.jobs
    assert f"planetmesh fetch {job_id} -o DIR" in said.error
    assert list(here.iterdir()) == []
    assert say("fetch", job_id, "--by-task", "-o", "all").status == 0
    assert (here / "all/1/out").read_bytes() == b"1"
    assert say("fetch", f"{job_id}/1").status == 0
    assert (here / "out").read_bytes() == b"1"
    said = say("fetch", f"{job_id}/0")
    assert (said.status, "out exists already with other content" in said.error) == (2, True)
    assert say("fetch", f"{job_id}/0", "--overwrite").status == 0
    assert (here / "out").read_bytes() == b"0"


def test_detached_jobs_leave_their_files_for_fetch(say, double: Double, here) -> None:
    double.plan = lambda _spec, index: Does(files={f"d/out{index}": b"xyz"})
    job_id = say("run", "--detach", "--out", "**", "x", ":::", "a", "b").text.strip()
    say("wait", job_id)
    assert list(here.iterdir()) == []
    said = say("fetch", "last", "--list")
    assert [line.split() for line in said.text.splitlines()[1:]] == [
        ["0", "3", "B", "d/out0"],
        ["1", "3", "B", "d/out1"],
    ]
    assert [file["name"] for file in say("fetch", "last", "--list", "--json").json] == ["d/out0", "d/out1"]
    files = say("fetch", "last", "-o", "made", "--json").json
    assert [(file["index"], file["name"], file["path"], file["present"]) for file in files] == [
        (0, "d/out0", "made/d/out0", False),
        (1, "d/out1", "made/d/out1", False),
    ]
    assert say("fetch", "last", "-o", "made", "-q").text == "made/d/out0\nmade/d/out1\n"


def test_what_fetch_refuses(say, double: Double, here) -> None:
    job_id = say("run", "--detach", "x").text.strip()
    said = say("fetch", job_id)
    assert (said.status, "brings no files back" in said.error) == (2, True)
    assert say("fetch", "nothing").status == 5
    assert say("fetch", "last", "--list", "-o", "x").status == 2
    job_id = say("run", "--detach", "--out", "*", "x").text.strip()
    assert say("fetch", f"{job_id}/7").status == 2
    say("wait", job_id)
    said = say("fetch", job_id)
    assert (said.status, said.error) == (0, "No task has brought a file.\n")
