"""`planetmesh service` with a real systemd, of the machine and of a user."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from booted import UID, USER, Booted, why_not

pytestmark = [pytest.mark.system, pytest.mark.timeout(480)]
PROGRAM = (sys.executable, "-m", "planetmesh")
NAME = "ho me%h$HOME'\"\\\n;"
"""What systemd would read as specifiers, variables, quotes, escapes and lines of their own."""
PATIENCE_SECONDS = 60.0
UNTIL_KEPT = '"$@" & until [ -e "$0" ]; do kill -0 $! || exit 1; sleep 0.1; done; kill $!; wait $!'
"""A shell's script: runs a program until it has made a file, then stops it."""
DROP_IN = "[Service]\nStandardError=append:{log}\n"


@pytest.fixture
def machine() -> Iterator[Booted]:
    if reason := why_not():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="planetmesh-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with Booted(folder) as machine:
            yield machine
    except OSError as error:
        pytest.skip(str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Service:
    """The command in that machine, with one home."""

    def __init__(self, machine: Booted, home: Path, *, user: bool) -> None:
        self._machine = machine
        self._user = user
        self.home = home
        self.log = home.parent / "log"

    def found(self) -> None:
        """What a person does first: `up` once in a terminal."""
        options = ("--new", "--no-mdns", "--bind", "127.0.0.1", "--port", "0")
        up = (*PROGRAM, "up", "--home", self.home, *options)
        self._machine.run("sh", "-c", UNTIL_KEPT, self.home / "role.json", *up, user=self._user)

    def say(self, *argv: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = self._machine.run(*PROGRAM, "--home", self.home, *argv, check=False, user=self._user)
        log = self.log.read_text() if self.log.exists() else ""
        assert done.returncode == status, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{log}"
        return done

    def status(self, status: int = 0) -> dict[str, object]:
        return json.loads(self.say("service", "status", "--json", status=status).stdout)

    def wait_for(self, is_so: Callable[[dict[str, object]], bool], status: int) -> dict[str, object]:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            done = self._machine.run(
                *PROGRAM, "--home", self.home, "service", "status", "--json", check=False, user=self._user
            )
            seen = json.loads(done.stdout)
            if is_so(seen):
                assert done.returncode == status
                return seen
            assert time.monotonic() < end, seen
            time.sleep(0.2)

    def environment_of(self, pid: object) -> dict[str, str]:
        read = self._machine.run("cat", f"/proc/{pid}/environ").stdout
        return dict(each.split("=", 1) for each in read.split("\0") if each)


@pytest.fixture
def service(machine: Booted) -> Service:
    service = Service(machine, machine.user_home.parent / NAME, user=False)
    drop_in = "/etc/systemd/system/planetmesh.service.d/log.conf"
    machine.run("mkdir", "-p", str(Path(drop_in).parent))
    machine.run("sh", "-c", f"printf '%s' '{DROP_IN.format(log=service.log)}' > {drop_in}")
    return service


def test_the_service_of_a_machine_from_its_first_day_to_its_last(service: Service, machine: Booted) -> None:
    assert "belongs to no mesh" in service.say("service", "install", status=5).stderr
    service.found()
    assert service.status(5)["installed"] is False

    # Installed, and a task runs.
    said = service.say("service", "install")
    assert "runs as coordinator now and at every boot" in said.stdout
    seen = service.status()
    assert seen | {
        "manager": "systemd", "scope": "system", "installed": True, "ours": True, "enabled": True,
        "running": True, "matches": True, "home": str(service.home), "note": "",
    } == seen  # fmt: skip
    argv = machine.run("cat", f"/proc/{seen['pid']}/cmdline").stdout.split("\0")
    assert argv[-5:-1] == ["up", "--home", str(service.home), "--known"]
    service.say("status", "--wait", "--timeout", "30s")
    told = service.say("run", "--", "sh", "-c", "id -un; umask").stdout.split()
    assert told in (["nobody", "0077"], ["planetmesh", "0077"])

    # Again: nothing happens.
    again = json.loads(service.say("service", "install", "--json").stdout)
    assert (again["changed"], again["pid"]) == (False, seen["pid"])

    # Another variable: written anew, started again, and kept from then on.
    value = "a'b\"c\\d$HOME %n\tz"
    changed = json.loads(service.say("service", "install", "--json", "--env", f"LANG={value}").stdout)
    assert changed["changed"] is True
    assert changed["pid"] != seen["pid"]
    assert service.environment_of(changed["pid"])["LANG"] == value
    assert json.loads(service.say("service", "install", "--json").stdout)["changed"] is False

    # Killed: it comes back by itself.
    machine.run("kill", "-9", str(changed["pid"]))
    back = service.wait_for(lambda seen: seen["running"] is True and seen["pid"] != changed["pid"], 0)
    assert back["matches"] is True

    # Gone, and the home stays; another service can begin with it.
    assert "stays as it is" in service.say("service", "uninstall").stdout
    assert service.status(5)["running"] is False
    assert (service.home / "role.json").exists()
    service.say("service", "uninstall", status=5)
    assert machine.run("systemctl", "list-units", "--all", "--failed", "--quiet").stdout.strip() == ""


def test_a_home_that_has_left_its_mesh_is_not_tried_for_ever(service: Service, machine: Booted) -> None:
    service.found()
    service.say("service", "install")
    machine.run("systemctl", "stop", "planetmesh")
    for name in ("role.json", "authority", "operator", "local-agent"):
        machine.run("rm", "-rf", str(service.home / name))
    machine.run("systemctl", "start", "planetmesh")
    seen = service.wait_for(lambda seen: seen["state"] == "failed (failed)", 1)
    assert "It says why: journalctl" in str(seen["note"])
    ended = machine.run("systemctl", "show", "-p", "ExecMainStatus,NRestarts", "planetmesh").stdout
    assert ended.split() == ["NRestarts=0", "ExecMainStatus=5"]
    assert not (service.home / "role.json").exists()


def test_not_beside_an_up_in_a_terminal(service: Service, machine: Booted) -> None:
    service.found()
    unit = ("systemd-run", "--unit=by-hand", "--quiet", f"--setenv=PLANETMESH_HOME={service.home}")
    machine.run(*unit, *PROGRAM, "up")
    service.say("status", "--wait", "--timeout", "30s")
    said = service.say("service", "install", status=2)
    assert "Stop it first" in said.stderr
    assert service.status(5)["installed"] is False


def test_a_home_in_somebody_elses_hands(service: Service, machine: Booted) -> None:
    service.found()
    machine.run("chown", f"{UID}:{UID}", str(service.home.parent))
    said = service.say("service", "install", status=2)
    assert f"belongs to {USER}, so others could change the home" in said.stderr
    assert service.status(5)["installed"] is False


def test_a_service_of_a_user(machine: Booted) -> None:
    service = Service(machine, machine.user_home / "mesh", user=True)
    assert "Log in as this user" in service.say("service", "status", status=2).stderr
    machine.start_user_manager()
    service.found()
    said = service.say("service", "install")
    assert "loginctl enable-linger" in said.stderr
    seen = service.status()
    assert (seen["scope"], seen["enabled"]) == ("user", True)
    assert seen["file"] == str(machine.user_home / ".config/systemd/user/planetmesh.service")
    assert Path(str(seen["file"])).stat().st_uid == UID
    assert machine.run("stat", "-c", "%u", f"/proc/{seen['pid']}").stdout.strip() == str(UID)
    machine.run("mkdir", "-p", "/var/lib/systemd/linger")
    machine.run("touch", f"/var/lib/systemd/linger/{USER}")
    assert "enable-linger" not in service.say("service", "install").stderr
    service.say("service", "uninstall")
    service.status(5)


def test_what_systemd_cannot_start_is_told(service: Service, machine: Booted) -> None:
    service.found()
    machine.run("mkdir", "-p", "/etc/systemd/system/planetmesh.service.d")
    machine.run(
        "sh",
        "-c",
        "printf '[Service]\\nUser=nosuchuser\\n' > /etc/systemd/system/planetmesh.service.d/x.conf",
    )
    said = service.say("service", "install", status=1)
    assert "Job for planetmesh.service failed" in said.stderr
    assert "journalctl -u planetmesh" in said.stderr
    assert service.status(1)["running"] is False
    machine.run("rm", "/etc/systemd/system/planetmesh.service.d/x.conf")
    # systemd has to read the file again, and does.
    assert "started now and at every boot" in service.say("service", "install").stdout
    machine.run("sh", "-c", "echo '[Service]' > /etc/systemd/system/planetmesh.service")
    said = service.say("service", "install", status=2)
    assert "was not written by" in said.stderr
    service.say("service", "uninstall", status=2)
