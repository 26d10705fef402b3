"""`fetch`, and what `run --out` brings by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from api_double import Does, Double

from planetmesh.errors import MissingBlobs


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
    assert [path.read_bytes() for path in here.iterdir()] == [b"0"]
    (here / "out").unlink()
    assert say("fetch", job_id, "--by-task", "-o", "all").status == 0
    assert (here / "all/1/out").read_bytes() == b"1"
    assert say("fetch", f"{job_id}/1").status == 0
    assert (here / "out").read_bytes() == b"1"
    said = say("fetch", f"{job_id}/0")
    assert (said.status, "out exists already with other content" in said.error) == (2, True)
    assert say("fetch", f"{job_id}/0", "--overwrite").status == 0
    assert (here / "out").read_bytes() == b"0"


def test_a_file_that_several_tasks_made_alike_is_counted_once(say, double: Double, here) -> None:
    double.plan = lambda _spec, index: Does(files={"LICENSE": b"same", f"out{index % 2}": b"x"})
    said = say("run", "--out", "*", "-o", "res", "x", ":::", "a", "b", "c", "d")
    assert (said.status, said.error) == (0, "3 files, 6 B, are in res.\n")
    assert len(list((here / "res").iterdir())) == 3
    (job_id,) = double.jobs
    assert say("fetch", job_id, "-o", "res").error == "3 files, 6 B, are in res (3 were there already).\n"
    assert len(say("fetch", job_id, "-o", "res", "-q").text.splitlines()) == 3
    assert len(say("fetch", job_id, "-o", "res", "--json").json) == 8


def test_files_come_while_other_tasks_still_run(say, double: Double, here) -> None:
    def plan(_spec, index: int) -> Does:
        above = (lambda: (here / f"out{index - 1}").exists()) if index else None
        return Does(files={f"out{index}": b"%d" % index, "LICENSE": b"same"}, until=above)

    double.plan = plan
    said = say("run", "--out", "*", "--json", "x", ":::", "a", "b", "c")
    assert said.status == 0
    kinds = [(line["kind"], line.get("file", {}).get("name")) for line in said.lines]
    assert ("file", "out0") in kinds[: kinds.index(("file", "out2"))]
    assert sum(name == "LICENSE" for _kind, name in kinds) == 3
    assert sorted(path.name for path in here.iterdir()) == ["LICENSE", "out0", "out1", "out2"]


def test_what_may_not_be_replaced_is_told_at_once_and_the_job_goes_on(say, double: Double, here) -> None:
    (here / "out0").write_bytes(b"mine")

    def plan(_spec, index: int) -> Does:
        return Does(files={f"out{index}": b"x"}, seconds=0.3 * index, pieces=((1, b"%d" % index),))

    double.plan = plan
    said = say("run", "--out", "*", "x", ":::", "a", "b")
    assert (said.status, said.text) == (2, "01")
    (job_id,) = double.jobs
    assert double.jobs[job_id].counts.completed == 2
    assert said.error.count("out0 exists already with other content; nothing more was fetched.") == 2
    assert "The job goes on, and its files stay on the mesh." in said.error
    assert f"planetmesh fetch {job_id} -o DIR" in said.error
    assert {path.name: path.read_bytes() for path in here.iterdir()} == {"out0": b"mine"}


@pytest.mark.slow
def test_an_interrupted_run_leaves_whole_files_and_says_how_to_go_on(double: Double, here, home) -> None:
    double.plan = lambda _spec, index: Does(
        files={f"out{index}": b"x" * 3_000_000}, seconds=60.0 if index else 0.0
    )
    with running("run", "--out", "*", "-o", "my films", "x", ":::", "a", "b", home=home) as process:
        until = time.monotonic() + 20
        while not (here / "my films/out0").exists() and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        error = process.stderr.read().decode()
        assert process.wait(10) == 130
    (job,) = double.jobs.values()
    assert job.cancelled == "interrupted by its user"
    assert f"1 file is in my films. To fetch all that its tasks have made: planetmesh fetch {job.id}" in error
    assert "-o 'my films'" in error
    assert (here / "my films/out0").read_bytes() == b"x" * 3_000_000
    assert len(list((here / "my films").iterdir())) == 1


def test_files_that_were_swept_before_the_submit_are_sent_once_more(say, double: Double, here) -> None:
    (here / "a.txt").write_bytes(b"A")
    real, refused = double._post_jobs, []

    async def swept_once(request, *rest):
        if not refused:
            refused.append(True)
            double.blobs.clear()
            raise MissingBlobs("Of the files that this job names 1 is not here.")
        return await real(request, *rest)

    double._post_jobs = swept_once
    assert say("run", "--in", "a.txt", "x").status == 0
    assert list(double.blobs.values()) == [b"A"]
    refused.clear()
    double._post_jobs = swept_once
    assert say("run", "--detach", "--in", "a.txt", "x").status == 0
    assert list(double.blobs.values()) == [b"A"]


def test_a_mesh_that_loses_the_files_again_is_told(say, double: Double, here) -> None:
    (here / "a.txt").write_bytes(b"A")

    async def never(_request, *_rest):
        raise MissingBlobs("Of the files that this job names 1 is not here.")

    double._post_jobs = never
    said = say("run", "--in", "a.txt", "x")
    assert said.status == 2
    assert "is not here" in said.error


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


def running(*arguments: str, home) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "planetmesh", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PLANETMESH_HOME": str(home.root)},
    )
