"""`planetmesh service` as far as it goes without a service manager: what it refuses and what it would do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from planetmesh.cli.own_program import service_program
from planetmesh.cli.part import Part, Role, write_part
from planetmesh.install.guard import weak_spot
from planetmesh.install.service import manager_of_this_machine
from planetmesh.install.systemd import BOOTED, SYSTEM_UNITS, UNIT
from planetmesh.paths import Home

if sys.platform != "linux":
    pytest.skip("with systemd it is Linux's", allow_module_level=True)

PROGRAM = service_program()


@pytest.fixture
def member(home: Home, monkeypatch, tmp_path) -> Home:
    """A home that takes part, of a user without a service so far."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    if weak := weak_spot([Path(PROGRAM[0]), Path(sys.executable), home.root], os.geteuid()):
        pytest.skip(f"others could change this environment: {weak}")
    if os.path.lexists(SYSTEM_UNITS / UNIT):
        pytest.skip("this machine has the service")
    write_part(home, Part(role=Role.AGENT, name="desk"))
    return home


def test_a_dry_run_shows_the_file_and_the_commands(member: Home, say, tmp_path) -> None:
    said = say("service", "install", "--dry-run", "--env", "PATH=/opt/x y:/bin", "--env", "TZ=UTC")
    assert (said.status, said.error) == (0, "")
    lines = said.text.splitlines()
    is_root = os.geteuid() == 0
    unit = SYSTEM_UNITS / UNIT if is_root else tmp_path / "config" / "systemd" / "user" / UNIT
    systemctl = "systemctl" if is_root else "systemctl --user"
    assert lines[0] == f"# {unit}"
    assert 'Environment="PATH=/opt/x y:/bin"' in lines
    assert "Environment=TZ=UTC" in lines
    assert lines[-3:] == ["# then", f"{systemctl} daemon-reload", f"{systemctl} enable --now {UNIT}"]
    assert not unit.exists()

    document = say("service", "install", "--dry-run", "--json").json
    assert document.keys() == {"manager", "file", "changed", "text", "commands"}
    assert (document["manager"], document["file"], document["changed"]) == ("systemd", str(unit), True)
    assert f"ExecStart={PROGRAM[0]}" in document["text"]


def test_a_home_that_takes_no_part(member: Home, say) -> None:
    member.role_file.unlink()
    said = say("service", "install", "--dry-run")
    assert said.status == 5
    assert f"planetmesh up --home {member.root}" in said.error


@pytest.mark.parametrize("text", ["PATH", "=x", "A B=x", "1A=x", "Ä=x"])
def test_what_is_no_variable(member: Home, say, text: str) -> None:
    said = say("service", "install", "--dry-run", "--env", text)
    assert (said.status, "is no variable" in said.error) == (2, True)


def test_a_home_that_others_could_change(member: Home, say) -> None:
    below = Home(member.root / "open" / "home")
    below.prepare()
    write_part(below, Part(role=Role.AGENT, name="desk"))
    (member.root / "open").chmod(0o777)
    said = say("service", "install", "--dry-run", "--home", str(below.root))
    assert said.status == 2
    assert f"{member.root}/open can be changed by everybody, so others could change the home" in said.error


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_runs_no_home_of_a_user(member: Home, say) -> None:
    os.chown(member.root, 47_433, -1)
    said = say("service", "install", "--dry-run", "--json")
    os.chown(member.root, 0, -1)
    assert (said.status, said.json["error"]["code"]) == (2, "unsafe_home")
    assert "belongs to the user 47433" in said.json["error"]["message"]
    assert "as root" in said.json["error"]["message"]


@pytest.mark.skipif(BOOTED.is_dir(), reason="systemd runs this machine")
@pytest.mark.parametrize("command", ["install", "uninstall", "status"])
def test_without_systemd_it_says_what_to_do(member: Home, say, command: str) -> None:
    said = say("service", command)
    assert (said.status, said.text) == (2, "")
    assert "systemd does not run this machine" in said.error
    assert "planetmesh up --known" in said.error


@pytest.mark.parametrize(("platform", "word"), [("win32", "planetmesh login"), ("freebsd14", "up --known")])
def test_where_there_is_no_manager_that_we_know(monkeypatch, platform: str, word: str) -> None:
    from planetmesh.errors import Conflict

    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(Conflict) as caught:
        manager_of_this_machine({})
    assert word in caught.value.hint


def test_a_mac_has_launchd(monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    manager = manager_of_this_machine({})
    assert (manager.name, manager.is_for_all) == ("launchd", os.geteuid() == 0)


def test_it_stands_in_the_help(say) -> None:
    assert "Start `planetmesh up` whenever" in " ".join(say("--help").text.split())
    for command in ("install", "uninstall", "status"):
        assert "Example" in say("service", command, "--help").text


class TestUpKnown:
    """What a service runs."""

    def test_it_neither_founds_nor_joins(self, say, tmp_path) -> None:
        said = say("up", "--known", "--home", str(tmp_path / "gone"))
        assert said.status == 5
        assert "belongs to no mesh" in said.error
        assert not (tmp_path / "gone").exists()

    def test_it_is_not_for_a_new_mesh(self, say) -> None:
        assert say("up", "--known", "--new").status == 2
