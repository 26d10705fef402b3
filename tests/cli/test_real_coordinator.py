"""The command line against the real coordinator (without any agent): both sides of the wire agree."""

from __future__ import annotations

import select
import signal
import subprocess
import sys

import pytest


def test_a_job_from_submit_to_cancel(say, coordinator: None) -> None:
    status = say("status", "--json").json
    assert (status["mesh"], status["role"], status["reachable"]) == ("den", "operator", True)
    assert say("nodes", "--json").json == []
    assert "planetmesh up" in say("nodes").error

    said = say("run", "--detach", "--name", "wide", "--env", "A=1", "echo", "{}", ":::", "a", "b")
    assert said.status == 0
    assert "No machine has joined" in said.error
    job_id = said.text.strip()
    assert say("jobs", "--mine", "-q").text == f"{job_id}\n"
    job = say("job", "last", "--json").json
    assert (job["status"], job["tasks"]["queued"], job["spec"]["env"]) == ("QUEUED", 2, {"A": "1"})
    shown = say("job", job_id[:5]).text
    assert "waiting" in shown
    assert "submitter  operator on den" in shown
    tasks = say("job", "wide", "--tasks", "--json").json
    assert [(task["index"], task["status"], task["payload"]) for task in tasks] == [
        (0, "QUEUED", "a"),
        (1, "QUEUED", "b"),
    ]
    assert say("logs", "last").out == b""
    assert say("wait", "last", "--timeout", "0.2s").status == 1
    assert say("cancel", "last", "--reason", "enough").status == 0
    assert say("wait", "last", "--json").json[0]["cancel_reason"] == "enough"
    assert say("cancel", "last").status == 0
    assert say("logs", "last", "-f").status == 0
    assert say("node", "drain", "nobody").status == 5
    assert say("job", "zzzzz").status == 5


def test_with_automatic_chunks_it_is_inputs_that_are_counted(say, coordinator: None) -> None:
    said = say("run", "--detach", "--chunk", "auto", "echo", ":::", "a", "b", "c")
    job_id = said.text.strip()
    assert "inputs     3: 3 queued" in say("job", job_id).text
    assert "0/3 inputs" in say("jobs").text
    said = say("results", job_id)
    assert (said.status, "Of 3 inputs 3 have not ended yet" in said.error) == (1, True)
    assert "has 3 inputs; they are counted from 0" in say("logs", f"{job_id}/9").error
    assert say("cancel", job_id).status == 0
    assert "0 of 3 inputs completed" in say("explain", job_id).text


def test_names_with_blanks_slashes_and_percent_signs_reach_the_coordinator_as_typed(say, coordinator) -> None:
    for name in ("my job", "50% ü", "a/b c"):
        job_id = say("run", "--detach", "--name", name, "true").text.strip()
        assert say("wait", name, "--timeout", "0.05s").status == 1, name
        assert say("cancel", name, "--json").json["id"] == job_id, name
    assert "'no such'" in say("node", "drain", "no such").error


@pytest.mark.slow
def test_who_leaves_a_code_is_not_told_of_an_error(coordinator: None, home) -> None:
    command = [sys.executable, "-m", "planetmesh", "--home", str(home.root), "code", "--wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        heard = ""
        while "Waiting at" not in heard:
            line = process.stderr.readline()
            assert line, heard
            heard += line
        assert "Good for one machine" in heard
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""


@pytest.mark.slow
def test_who_closed_a_code_is_said_to_who_waits_for_its_end(coordinator: None, home, say) -> None:
    command = [
        sys.executable, "-m", "planetmesh", "--home", str(home.root), "code", "--wait", "--role", "viewer"
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while "Waiting at" not in (line := process.stderr.readline()):
            assert line
        assert len(say("code", "--close", "--json").json["closed"]) == 1
        assert process.wait(20) == 1
        said = process.stderr.read()
        assert said == "warning: operator on den closed the window. `planetmesh code` opens a new one.\n"


@pytest.mark.slow
def test_the_log_of_the_mesh_ends_by_ctrl_c_and_says_nothing_of_it(coordinator, home, say) -> None:
    command = [sys.executable, "-m", "planetmesh", "--home", str(home.root), "logs", "--mesh"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        # Whatever happens before it listens is not told.
        while not select.select([process.stdout], [], [], 0.2)[0]:
            say("run", "--detach", "--name", "films", "true")
        assert "'films' is QUEUED" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""


def test_what_has_ended_cannot_be_changed_any_more(say, coordinator: None) -> None:
    job_id = say("run", "--detach", "true").text.strip()
    say("cancel", job_id)
    said = say("edit", job_id, "--priority", "9")
    assert (said.status, said.text) == (2, "")
    assert f"error: Job {job_id} has ended, so nothing of it can be changed any more." in said.error
    said = say("edit", job_id, "--priority", "9", "--json")
    assert (said.status, said.json["error"]["code"]) == (2, "conflict")
    assert say("job", job_id, "--json").json["priority"] == 0


def test_what_the_coordinator_refuses_is_a_usage_error(say, coordinator: None) -> None:
    said = say("run", "--detach", "--tag", "not a tag", "x")
    assert said.status == 2
    assert "not a tag" in said.error
    assert say("run", "--detach", "--node", "nobody", "x").status == 5
    for odd in ("a/b", "50%", "..", "?x=1", "#", "\udcff", "\x1b[0m", "x" * 5000):
        assert say("job", odd).status in {2, 5}, odd
    assert say("run", "--detach", "--name", "\udcff", "x").status == 2
    assert say("run", "--detach", "\udcff").status == 2


def test_a_job_is_paused_changed_explained_and_resumed(say, coordinator: None) -> None:
    job_id = say("run", "--detach", "--name", "wide", "echo", "{}", ":::", "a", "b").text.strip()
    assert say("pause", "wide").text == f"Job {job_id} is paused.\n"
    explained = say("explain", "last")
    assert explained.status == 0
    assert f"job {job_id} is QUEUED" in explained.text
    assert f"It is paused.\n      → planetmesh resume {job_id}" in explained.text
    assert say("explain", f"{job_id}/1", "--json").json["subject"] == f"task {job_id}/1"
    assert say("edit", "last", "--priority", "9", "--max-running", "1", "--json").json["priority"] == 9
    assert say("edit", "last", "--max-running", "none").status == 0
    assert say("edit", "last").status == 2
    assert say("edit", "last", "--max-running", "0").status == 2
    second = say("run", "--detach", "true").text.strip()
    assert say("edit", second, "--after", "wide").status == 0
    said = say("edit", "wide", "--after", second)
    assert (said.status, "in a circle" in said.error) == (2, True)
    assert say("edit", second, "--after-nothing").status == 0
    assert say("resume", "wide", second).status == 0
    assert "No machine has joined" in say("explain", "wide").text
    said = say("retry", "wide")
    assert (said.status, "has failed" in said.error) == (2, True)
    assert say("cancel", "wide").status == 0
    said = say("edit", "wide", "--priority", "1")
    assert (said.status, "has ended" in said.error) == (2, True)
    assert say("explain", "nobody").status == 5
    said = say("resume", "attic")
    assert (said.status, "planetmesh node resume NAME" in said.error) == (5, True)
