"""`--watch` and `top`: in place on a real terminal, JSON lines in a pipe, refused where it makes no sense."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
from api_double import Does
from terminal import Terminal

from planetmesh.model.node import NodeState
from planetmesh.paths import Home


@pytest.fixture
def job(double, say) -> str:
    """A job of three tasks that goes on until `double.go` is set."""
    double.go = False
    double.plan = lambda _spec, index: Does(until=(lambda: double.go) if index else None)
    return say("run", "--detach", "--name", "[red]字", "--range", "1..3", "true").text.strip()


@pytest.mark.slow
def test_jobs_are_drawn_in_place_and_stay_when_it_ends(home: Home, double, job):
    with Terminal.planetmesh(home.root, "jobs", "--watch", columns=80, rows=10) as terminal:
        shown = terminal.until(lambda text: "1/3" in text)
        assert shown.splitlines()[0].split()[:3] == ["JOB", "NAME", "STATUS"]
        assert "[red]字" in shown
        terminal.type("\r")
        double.go = True
        shown = terminal.until(lambda text: "COMPLETED" in text)
        assert len(shown.splitlines()) == 2
        terminal.type("\x03")
        assert terminal.end() == 130
        assert terminal.screen.text == shown


@pytest.mark.slow
def test_a_watched_job_shows_its_progress_and_ends_with_it(home: Home, double, job):
    with Terminal.planetmesh(home.root, "job", job, "-w", columns=60, rows=24) as terminal:
        assert "progress" in terminal.until(lambda text: "1/3" in text)
        double.go = True
        assert terminal.end() == 0
        assert "COMPLETED" in terminal.screen.text
        assert terminal.screen.text.count("progress") == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", [("nodes",), ("status",)])
def test_nodes_and_status_are_watched_too(home: Home, double, command):
    with Terminal.planetmesh(home.root, *command, "--watch", columns=40, rows=8) as terminal:
        terminal.until(lambda text: "HEALTHY" in text)
        terminal.resize(80, 10)
        double.node = msgspec.structs.replace(double.node, state=NodeState.OFFLINE, name="gone")
        if command == ("nodes",):
            terminal.until(lambda text: "gone  OFFLINE" in text)
        terminal.type("\x03")
        assert terminal.end() == 130


@pytest.mark.slow
def test_a_low_terminal_says_how_much_it_leaves_out(home: Home, double, say):
    for number in range(9):
        say("run", "--detach", "--name", f"n{number}", "--range", "1..2", "true")
    with Terminal.planetmesh(home.root, "jobs", "-w", columns=40, rows=6) as terminal:
        shown = terminal.until(lambda text: "more lines" in text)
        assert shown.splitlines()[-1] == "… 6 more lines; a higher terminal show…"


@pytest.mark.slow
def test_with_json_each_change_is_a_line(home: Home, double, job):
    argv = [sys.executable, "-m", "planetmesh", "--home", str(home.root), "job", job, "--watch", "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        first = msgspec.json.decode(watching.stdout.readline())
        double.go = True
        rest = [msgspec.json.decode(line) for line in watching.stdout]
    assert first["status"] == "RUNNING"
    assert rest[-1]["status"] == "COMPLETED"
    assert watching.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("jobs", "--watch"), "needs a terminal"),
        (("nodes", "--watch", "--quiet"), "does not go with --quiet"),
        (("job", "last", "--tasks", "--watch"), "shows the job itself"),
        (("status", "--watch", "--wait"), "choose one"),
    ],
)
def test_what_makes_no_sense_is_refused(say, double, arguments, reason):
    said = say(*arguments)
    assert said.status == 2
    assert reason in said.error


def test_without_a_mesh_a_watch_ends_at_once(say):
    said = say("jobs", "--watch", "--json")
    assert said.status == 4
    assert "planetmesh login" in said.json["error"]["hint"]


def test_top_on_a_terminal_obeys_its_keys_and_gives_the_terminal_back(home: Home, double, job):
    with Terminal.planetmesh(home.root, "top", columns=100, rows=20) as terminal:
        shown = terminal.until(lambda text: "desk" in text and "1/3" in text)
        assert terminal.screen.is_other
        assert "[red]字" in shown
        assert "1 HEALTHY" in shown
        terminal.type("s")
        terminal.until(lambda text: "(by running)" in text)
        double.go = True
        terminal.until(lambda text: "COMPLETED" in text)
        terminal.type("q")
        assert terminal.end() == 0
        assert not terminal.screen.is_other
        assert terminal.screen.text == ""
        assert terminal.seen.endswith(b"\x1b[?25h\x1b[?1049l")


@pytest.mark.slow
def test_ctrl_c_gives_the_terminal_back_too(home: Home, double):
    with Terminal.planetmesh(home.root, "top", columns=40, rows=8) as terminal:
        terminal.until(lambda text: "desk" in text)
        terminal.type("\x03")
        assert terminal.end() == 130
        assert not terminal.screen.is_other


def test_top_in_a_pipe_prints_once(say, double, job):
    said = say("top")
    assert said.status == 0
    tables = said.text.split("\n\n")
    assert tables[0].split()[:4] == ["NAME", "STATE", "RUNNING", "LOAD"]
    assert "desk" in tables[0]
    assert job in tables[1]
    assert "\x1b" not in said.text


@pytest.mark.slow
def test_top_as_json_is_one_object(say, double, job):
    found = say("top", "--json").json
    assert found["mesh"]["mesh"] == "home"
    assert found["nodes"][0]["name"] == "desk"
    assert found["jobs"][0]["id"] == job
    assert found["jobs"][0]["rate"] > 0
    assert found["jobs"][0]["left_seconds"] > 0
