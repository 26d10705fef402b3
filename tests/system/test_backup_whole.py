"""A mesh moves to another machine by its backup: nodes go on, who came later pairs again (T40)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lan import Lan
from meshes import Machine, free_port, join, wait_until
from test_up_asks import Terminal

pytestmark = pytest.mark.system

WORDS = "five words nobody puts together"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words"
    path.touch(0o600)
    path.write_text(WORDS)
    return path


def test_a_lost_coordinator_comes_back_elsewhere(
    machine: Callable[..., Machine], tmp_path: Path, words: Path
) -> None:
    desk, shelf, late = machine("desk"), machine("shelf"), machine("late")
    port = free_port()
    desk.up("--new", "--port", port, "--bind", "127.0.0.1", "--no-mdns", "--no-agent")
    join(desk, shelf, "--name", "shelf", "--bind", "127.0.0.1", "--no-mdns", "--join", f"127.0.0.1:{port}")
    desk.call("run", "--", "true")
    file = tmp_path / "mesh.backup"
    said = desk.call("backup", str(file), "--passphrase-file", str(words))
    assert said.status == 0, said.error
    # A job that the backup does not know: its task runs on and its end is not believed.
    desk.call("run", "--detach", "--", "sleep", "300")
    wait_until(lambda: desk.nodes()["shelf"]["running"] == 1, 60, lambda: desk.log)
    join(desk, late, "--name", "late", "--bind", "127.0.0.1", "--no-mdns", "--join", f"127.0.0.1:{port}")
    desk.kill()
    shutil.rmtree(desk.home)

    spare = machine("spare")
    said = spare.call("restore", str(file), "--passphrase-file", str(words))
    assert said.status == 0, said.error
    assert "1 node" in said.out
    spare.up()
    wait_until(lambda: spare.nodes()["shelf"]["state"] == "HEALTHY", 60, lambda: spare.log + shelf.log)
    assert set(spare.nodes()) == {"shelf"}
    wait_until(lambda: spare.nodes()["shelf"]["running"] == 0, 60, lambda: shelf.log)
    assert spare.call("run", "--", "echo", "on we go").out == "on we go\n"
    assert spare.json("jobs")[0]["status"] == "COMPLETED"
    assert [row["action"] for row in spare.json("audit")].count("restore") == 1

    wait_until(lambda: "not in the coordinator's table" in late.log, 60, lambda: late.log)
    assert "planetmesh code" in late.log
    assert "Traceback" not in spare.log + shelf.log + late.log


def test_the_old_coordinator_is_not_started_beside_the_new_one(
    lan: Lan, machine: Callable[..., Machine], tmp_path: Path, words: Path
) -> None:
    old, new = machine("old", lan=lan, host="h1"), machine("new", lan=lan, host="h2")
    old.up("--new", "--no-agent")
    file = tmp_path / "mesh.backup"
    assert old.call("backup", str(file), "--passphrase-file", str(words)).status == 0
    assert new.call("restore", str(file), "--passphrase-file", str(words)).status == 0
    said = new.call("up")
    assert said.status == 2
    assert f"answers at {lan.address('h1')}" in said.error
    assert "Only one may run" in said.error
    assert old.json("status")["reachable"] is True
    assert old.stop() == 0
    new.up()
    said = old.call("up")
    assert said.status == 2
    assert f"answers at {lan.address('h2')}" in said.error
    # What it announced itself before it was killed is no other one.
    new.kill()
    new.up()


def test_at_a_terminal(machine: Callable[..., Machine], tmp_path: Path) -> None:
    desk, spare = machine("desk"), machine("spare")
    desk.up("--new", "--port", free_port(), "--bind", "127.0.0.1", "--no-mdns", "--no-agent")
    file = tmp_path / "mesh.backup"
    terminal = Terminal(desk, "backup", str(file))
    terminal.expect("Passphrase for the backup")
    terminal.type("short")
    terminal.expect("12 letters")
    terminal.expect("Passphrase for the backup")
    terminal.type("")
    terminal.expect("Passphrase: ")
    terminal.expect("holds the mesh")
    assert terminal.process.wait(60) == 0
    terminal = Terminal(desk, "backup", str(file), "--overwrite")
    terminal.expect("Passphrase for the backup")
    terminal.type(WORDS)
    terminal.expect("The same again")
    terminal.type(WORDS)
    terminal.expect("holds the mesh")
    assert terminal.process.wait(60) == 0

    terminal = Terminal(spare, "restore", str(file))
    terminal.expect("Passphrase of the backup")
    terminal.type("five words nobody puts together!")
    terminal.expect("The passphrase is wrong")
    assert terminal.process.wait(60) == 4
    terminal = Terminal(spare, "restore", str(file))
    terminal.expect("Passphrase of the backup")
    terminal.type(WORDS)
    terminal.expect("This home is now the coordinator's")
    assert terminal.process.wait(60) == 0
