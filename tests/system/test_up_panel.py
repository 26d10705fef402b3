"""`up` on a real terminal: its panel, what is said above it, and how it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from meshes import PROGRAM, Machine, free_port, join
from terminal import Terminal

pytestmark = pytest.mark.system

ALONE = ("--new", "--no-mdns", "--bind", "127.0.0.1", "--name", "desk")


def up(home: Path, *options: str, **size) -> Terminal:
    return Terminal.planetmesh(home, "up", *options, **size)


@pytest.fixture
def desk(machine: Callable[..., Machine]) -> Machine:
    """A coordinator without an agent, elsewhere."""
    made = machine("desk")
    made.up(*ALONE, "--no-agent", "--port", free_port())
    return made


def test_a_coordinator_shows_its_mesh_and_keeps_above_what_is_said(machine: Callable[..., Machine]):
    home = machine("desk")
    with up(home.home, *ALONE, "--port", free_port(), columns=80, rows=20) as terminal:
        terminal.until(lambda text: "1 HEALTHY" in text and "here: planetmesh code" in text)
        terminal.until(lambda text: "coordinator of 'desk'" in text)
        terminal.until(lambda text: "node.healthy node=desk" in text)
        assert terminal.screen.text.index("node.healthy") < terminal.screen.text.index(
            "coordinator of 'desk'"
        )
        code = home.code()["code"]
        assert f"{code[0]}-…" in terminal.until(lambda text: "code open" in text)
        assert code.encode() not in terminal.seen
        home.call("run", "--detach", "sleep", "30")
        terminal.until(lambda text: "1 task running (1 here)" in text)
        terminal.resize(40, 10)
        terminal.until(lambda text: "── planetmesh: coordinator of 'desk' ──" in text)
        terminal.type("\x03")
        terminal.until(lambda text: "Finishing 1 task;" in text)
        terminal.type("\x03")
        assert terminal.end() == 130


def test_stopping_a_coordinator_takes_the_panel_away(tmp_path: Path):
    with up(tmp_path / "desk", *ALONE, "--no-agent", "--port", free_port()) as terminal:
        terminal.until(lambda text: "add a node" in text)
        terminal.type("\r\r")
        terminal.type("\x03")
        assert terminal.end() == 0
        assert b"Stopping." in terminal.seen
        assert "add a node" not in terminal.screen.text
        assert terminal.screen.text.endswith("Stopped. `planetmesh up` goes on where it was.")


@pytest.mark.parametrize("way", [{"env": {"TERM": "dumb"}}, {}], ids=["dumb", "json"])
def test_no_panel_where_nothing_can_be_drawn(tmp_path: Path, way):
    options = () if way else ("--log-format", "json")
    with up(tmp_path / "desk", *ALONE, "--no-agent", "--port", free_port(), *options, **way) as terminal:
        terminal.until(lambda text: "Add a machine" in text)
        os.kill(terminal.process.pid, signal.SIGTERM)
        assert terminal.end() == 0
        assert b"\x1b" not in terminal.seen


def test_an_agent_shows_its_link_and_why_it_is_gone(desk: Machine, machine: Callable[..., Machine]):
    shelf = machine("shelf")
    port = next(each["port"] for each in desk.events if each.get("event") == "up")
    join(desk, shelf, "--join", f"127.0.0.1:{port}", "--name", "shelf", "--no-mdns")
    shelf.stop()
    with up(shelf.home, rows=20) as terminal:
        shown = terminal.until(lambda text: "connected  since" in text and "0 running" in text)
        assert "'shelf' in 'desk'" in shown
        desk.stop()
        terminal.until(lambda text: "reconnecting  since" in text)
        terminal.until(lambda text: "Connection refused" in text)
        desk.up()
        terminal.until(lambda text: "connected  since" in text)
        terminal.type("\x03")
        assert terminal.end() == 0
        assert "link  " not in terminal.screen.text


def test_an_agent_whose_terminal_goes_away_lets_its_task_end(desk: Machine, tmp_path: Path):
    shelf, log = Machine(tmp_path / "shelf"), tmp_path / "shelf.log"
    port = next(each["port"] for each in desk.events if each.get("event") == "up")
    join(desk, shelf, "--join", f"127.0.0.1:{port}", "--name", "shelf", "--no-mdns")
    shelf.stop()
    with up(shelf.home, "--log-file", str(log), rows=20) as terminal:
        terminal.until(lambda text: "connected  since" in text)
        job = desk.json("run", "--detach", "--", "sh", "-c", "sleep 3; echo all of it")["id"]
        terminal.until(lambda text: "1 running" in text)
        terminal.hang_up()
        os.kill(terminal.process.pid, signal.SIGHUP)  # the shell says it as well
        assert terminal.process.wait(30) == 0
    assert '"event": "agent.stopping"' in log.read_text()
    [task] = desk.json("job", job, "--tasks")
    assert (task["status"], task["attempts"]) == ("COMPLETED", 1)


def test_a_coordinator_that_ignores_hangups_outlives_its_terminal(tmp_path: Path):
    home = Machine(tmp_path / "desk")
    start = ["/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "nohup", *PROGRAM, "up", *ALONE, "--no-agent"]
    with Terminal([*start, "--port", free_port()], {"PLANETMESH_HOME": str(home.home)}) as terminal:
        terminal.until(lambda text: "add a node" in text)
        terminal.hang_up()
        os.kill(terminal.process.pid, signal.SIGHUP)
        assert home.json("nodes") == []
        os.kill(terminal.process.pid, signal.SIGTERM)
        assert terminal.process.wait(30) == 0
