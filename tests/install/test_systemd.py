"""What is asked of `systemctl`, against a program that answers as it does.

The real one is met in tests/system/test_service_whole.py.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from planetmesh.errors import Conflict, ServiceFailed
from planetmesh.install.order import Order
from planetmesh.install.service import Commands, try_program
from planetmesh.install.systemd import UNIT, Systemd

if os.name != "posix":
    pytest.skip("systemd is Linux's", allow_module_level=True)

ORDER = Order(("/opt/planetmesh/bin/planetmesh",), Path("/var/lib/planetmesh"))
SYSTEMCTL = """#!/bin/sh
echo "$@" >> {folder}/said
for word; do
  if [ -e "{folder}/fail-$word" ]; then cat "{folder}/fail-$word" >&2; exit 1; fi
done
case "$*" in *show*) cat {folder}/state 2>/dev/null;; esac
exit 0
"""
GONE = (
    "LoadState=not-found\nActiveState=inactive\nUnitFileState=\nSubState=dead\nMainPID=0\n"
    "NeedDaemonReload=no\n"
)
RUNS = (
    "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nSubState=running\nMainPID=71\n"
    "NeedDaemonReload=no\n"
)
NO_BUS = "Failed to connect to bus: No medium found"


class World:
    """A folder of units and a systemctl."""

    def __init__(self, folder: Path, *, is_for_all: bool = True) -> None:
        self.folder = folder
        self.unit = folder / "units" / UNIT
        tool = folder / "bin" / "systemctl"
        tool.parent.mkdir()
        tool.write_text(SYSTEMCTL.format(folder=folder))
        tool.chmod(0o755)
        (folder / "booted").mkdir()
        commands = Commands({"PATH": f"{tool.parent}:/usr/bin:/bin"})
        self.systemd = Systemd(self.unit.parent, commands, is_for_all=is_for_all, booted=folder / "booted")
        self.answer(GONE)

    def answer(self, state: str) -> None:
        """To `systemctl show`."""
        (self.folder / "state").write_text(state)

    def fail(self, word: str, text: str) -> None:
        (self.folder / f"fail-{word}").write_text(text)

    def install(self, order: Order = ORDER) -> list[str]:
        """What systemctl was told, but for questions."""
        (self.folder / "said").write_text("")
        self.systemd.carry_out(self.systemd.plan(order, self.systemd.look()))
        return self.told()

    def told(self) -> list[str]:
        lines = (self.folder / "said").read_text().splitlines()
        return [line for line in lines if " show " not in f" {line} "]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_first_time_it_is_written_and_started(world: World) -> None:
    before = os.umask(0o077)
    try:
        assert world.install() == ["daemon-reload", f"enable --now {UNIT}"]
    finally:
        os.umask(before)
    assert world.unit.stat().st_mode & 0o777 == 0o644
    assert world.systemd.look().order == ORDER
    assert list(world.unit.parent.iterdir()) == [world.unit]


def test_the_second_time_nothing_is_done(world: World) -> None:
    world.install()
    world.answer(RUNS)
    before = world.unit.stat()
    assert world.install() == []
    assert world.unit.stat().st_mtime_ns == before.st_mtime_ns


def test_what_is_stopped_or_not_enabled_is_started(world: World) -> None:
    world.install()
    ended = RUNS.replace("=active", "=failed").replace("=71", "=0")
    tried = RUNS.replace("=active", "=activating").replace("=running", "=auto-restart").replace("=71", "=0")
    for state in (GONE, RUNS.replace("=enabled", "=disabled"), ended, tried):
        world.answer(state)
        assert world.install() == [f"enable --now {UNIT}"]


def test_a_change_is_written_and_started_anew(world: World) -> None:
    world.install()
    world.answer(RUNS)
    other = replace(ORDER, home=Path("/srv/mesh"))
    assert world.install(other) == ["daemon-reload", f"enable {UNIT}", f"restart {UNIT}"]
    assert world.systemd.look().order == other


def test_what_systemd_has_not_read_yet_it_is_made_to_read(world: World) -> None:
    world.install()
    world.answer(RUNS.replace("Reload=no", "Reload=yes"))
    assert world.install() == ["daemon-reload", f"enable {UNIT}", f"restart {UNIT}"]


def test_it_goes_away(world: World) -> None:
    world.install()
    world.answer(RUNS)
    (world.folder / "said").write_text("")
    world.fail("reset-failed", f"Failed to reset failed state of unit {UNIT}: Unit {UNIT} not loaded.")
    world.systemd.remove()
    assert world.told() == [f"disable --now {UNIT}", "daemon-reload", f"reset-failed {UNIT}"]
    assert not world.unit.exists()


def test_what_cannot_be_stopped_stays(world: World) -> None:
    world.install()
    world.fail("disable", f"Failed to stop {UNIT}: Transport endpoint is not connected")
    with pytest.raises(ServiceFailed, match="Transport endpoint"):
        world.systemd.remove()
    assert world.unit.exists()


def test_a_refusal_is_told_in_its_own_words(world: World) -> None:
    world.fail("enable", "Failed to enable unit: Access\n denied")
    with pytest.raises(ServiceFailed, match=r"`systemctl enable .*` failed \(1\): .* Access denied"):
        world.install()


def test_what_it_says_of_a_running_one(world: World) -> None:
    world.install()
    world.answer(RUNS)
    state = world.systemd.look()
    assert (state.enabled, state.is_active, state.pid, state.word) == (True, True, 71, "active (running)")
    world.answer(RUNS.replace("=active", "=activating").replace("=running", "=auto-restart"))
    assert world.systemd.look().is_failing


@pytest.mark.parametrize("kind", ["foreign", "link", "folder"])
def test_what_somebody_else_made_is_not_ours(world: World, kind: str) -> None:
    world.unit.parent.mkdir()
    if kind == "link":  # as `systemctl mask` leaves it
        world.unit.symlink_to("/dev/null")
    elif kind == "folder":
        world.unit.mkdir()
    else:
        world.unit.write_text("[Service]\nExecStart=/bin/true\n")
    state = world.systemd.look()
    assert (state.exists, state.is_ours, state.order) == (True, False, None)


def test_a_machine_without_systemd(world: World) -> None:
    (world.folder / "booted").rmdir()
    with pytest.raises(Conflict, match="not process 1") as caught:
        world.systemd.check()
    assert "planetmesh up --known" in caught.value.hint


def test_a_user_whose_systemd_does_not_run(tmp_path: Path) -> None:
    world = World(tmp_path, is_for_all=False)
    world.systemd.check()
    world.fail("show", NO_BUS)
    with pytest.raises(Conflict, match=NO_BUS):
        world.systemd.check()
    with pytest.raises(Conflict, match=NO_BUS):
        world.systemd.look()
    assert not world.systemd.look(blindly=True).is_active


def test_a_users_commands_are_for_his_own(tmp_path: Path) -> None:
    world = World(tmp_path, is_for_all=False)
    assert world.install() == ["--user daemon-reload", f"--user enable --now {UNIT}"]
    assert world.systemd.log_command("-f") == "journalctl --user -u planetmesh -f"


def test_no_systemctl_at_all(tmp_path: Path) -> None:
    systemd = Systemd(tmp_path, Commands({"PATH": str(tmp_path)}), is_for_all=True)
    with pytest.raises(ServiceFailed, match="`systemctl` cannot be run"):
        systemd.look()
    assert systemd.look(blindly=True).word == "not asked"


def test_a_unit_that_cannot_be_written(world: World) -> None:
    world.unit.parent.write_text("a file where the folder should be")
    with pytest.raises(ServiceFailed, match="Cannot write"):
        world.install()


def test_a_program_is_tried_as_a_service_starts_it(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text('#!/bin/sh\n[ "$PWD" = / ] && [ -z "$SECRET" ] && echo "planetmesh 1"\n')
    tool.chmod(0o755)
    try_program((str(tool),), "1")
    with pytest.raises(Conflict, match="does not start planetmesh 2"):
        try_program((str(tool),), "2")
    with pytest.raises(Conflict, match="No such file"):
        try_program((str(tmp_path / "gone"),), "1")
