"""`doctor` finds what really goes wrong on a LAN: each fault is made here, and the next command is named."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from fleet import PORT, Fleet
from lan import INTERFACE
from meshes import Machine, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(150)]

Findings = dict[str, dict[str, Any]]
OTHER_MACHINE = "0123456789abcdef0123456789abcdef"
IN_ANOTHER_TIME = """
import sys, time
true_time = time.time
time.time = lambda: true_time() + float(sys.argv[1])
from planetmesh.cli.main import run
sys.exit(run(["--json", "doctor"]))
"""
OF_ANOTHER_VERSION = """
import sys
import planetmesh
planetmesh.__version__ = "9.9.9"
from planetmesh.cli.main import run
sys.exit(run(["--json", "doctor"]))
"""


def by_check(text: str) -> Findings:
    """The worst of each check."""
    found: Findings = {}
    for each in json.loads(text):
        known = found.get(each["check"])
        if known is None or ["ok", "warn", "fail"].index(each["status"]) > ["ok", "warn", "fail"].index(
            known["status"]
        ):
            found[each["check"]] = each
    return found


def doctor(machine: Machine) -> Findings:
    return by_check(machine.call("--json", "doctor", seconds=60).out)


def doctor_by(machine: Machine, script: str, *arguments: str) -> Findings:
    """In a process that sees the world otherwise."""
    argv = [sys.executable, "-c", script, *arguments]
    assert machine.lan is not None
    return by_check(
        machine.lan.run(machine.host, argv, {"PLANETMESH_HOME": str(machine.home)}, stdout=-1).communicate(
            timeout=60
        )[0]
    )


def assert_all_well(found: Findings) -> None:
    # Where the Python that runs the tests lies is not theirs to say.
    wrong = {name: each for name, each in found.items() if each["status"] != "ok" and name != "python"}
    assert not wrong, wrong


def inside(fleet: Fleet, host: str, *arguments: str) -> None:
    fleet.lan.check(host, ["ip", *arguments])


def on_switch(fleet: Fleet, *argv: str) -> None:
    assert fleet.lan.run_on_switch(argv).wait(10) == 0, argv


@pytest.fixture
def shelf(fleet: Fleet) -> Machine:
    """A machine that takes part, beside a coordinator that announces itself."""
    fleet.lan = fleet._make_lan(3)
    fleet.desk = Machine(fleet._folder / "desk", lan=fleet.lan, host="h1")
    fleet.desk.up("--new", "--no-agent", "--port", PORT, "--name", "desk")
    shelf = fleet.agents["shelf"] = Machine(fleet._folder / "shelf", lan=fleet.lan, host="h2")
    shelf.up("--name", "shelf", code=fleet.desk.code()["code"])
    return shelf


def test_all_is_well_then_the_network_is_not(fleet: Fleet, shelf: Machine) -> None:
    found = doctor(shelf)
    assert_all_well(found)
    assert "'shelf' is HEALTHY" in found["agent"]["detail"]
    assert_all_well(doctor(fleet.desk))

    # Multicast does not pass, all else does.
    on_switch(fleet, "ip", "link", "set", "p2", "type", "bridge_slave", "mcast_flood", "off")
    found = doctor(shelf)
    assert (found["announcement"]["status"], found["coordinator"]["status"]) == ("warn", "ok")
    assert "multicast is blocked" in found["announcement"]["detail"]
    assert "planetmesh up --join" in found["announcement"]["hint"]
    on_switch(fleet, "ip", "link", "set", "p2", "type", "bridge_slave", "mcast_flood", "on")

    # Without IPv6, or each fault would have to be made twice.
    fleet.lan.check("h2", ["sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{INTERFACE}/disable_ipv6"])

    # The access point keeps its clients apart.
    for port in ("p1", "p2"):
        on_switch(fleet, "bridge", "link", "set", "dev", port, "isolated", "on")
    inside(fleet, "h2", "neigh", "flush", "dev", INTERFACE)
    found = doctor(shelf)
    assert found["coordinator"]["status"] == "fail"
    assert f"No machine answers at {fleet.lan.address('h1')}" in found["coordinator"]["detail"]
    assert "client isolation" in found["coordinator"]["hint"]
    for port in ("p1", "p2"):
        on_switch(fleet, "bridge", "link", "set", "dev", port, "isolated", "off")

    # Nothing comes back: what a firewall does.
    inside(fleet, "h1", "route", "add", "blackhole", f"{fleet.lan.address('h2')}/32")
    found = doctor(shelf)
    assert "Nothing comes back from" in found["coordinator"]["detail"]
    assert f"TCP port {PORT}" in found["coordinator"]["hint"]
    inside(fleet, "h1", "route", "del", "blackhole", f"{fleet.lan.address('h2')}/32")

    # Another network: the guest Wi-Fi, a VPN.
    inside(fleet, "h2", "-4", "addr", "flush", "dev", INTERFACE)
    inside(fleet, "h2", "addr", "add", "10.99.1.2/24", "dev", INTERFACE)
    found = doctor(shelf)
    assert f"has no way to {fleet.lan.address('h1')}; it is in 10.99.1.0/24" in found["coordinator"]["detail"]
    assert "one network" in found["coordinator"]["hint"]
    inside(fleet, "h2", "-4", "addr", "flush", "dev", INTERFACE)
    inside(fleet, "h2", "addr", "add", f"{fleet.lan.address('h2')}/24", "dev", INTERFACE)

    # Nobody listens there.
    fleet.desk.kill()
    found = doctor(shelf)
    assert "nothing listens on its port" in found["coordinator"]["detail"]
    assert "planetmesh up" in found["coordinator"]["hint"]
    assert doctor(fleet.desk)["port"]["status"] == "warn"


def test_clocks_versions_certificates_and_disks(fleet: Fleet, shelf: Machine, tmp_path: Path) -> None:
    found = doctor_by(shelf, IN_ANOTHER_TIME, "3600")
    assert found["clock"]["status"] == "warn"
    assert "ahead of the coordinator's" in found["clock"]["detail"]
    assert "NTP" in found["clock"]["hint"]
    found = doctor_by(shelf, IN_ANOTHER_TIME, str(100 * 86400))
    assert "has expired" in found["certificate"]["detail"]
    assert "planetmesh code" in found["certificate"]["hint"]
    found = doctor_by(shelf, OF_ANOTHER_VERSION)
    assert found["version"]["status"] == "warn"
    assert "this machine has 9.9.9" in found["version"]["detail"]

    # A home without room.
    small = tmp_path / "small"
    small.mkdir()
    script = f'mount -t tmpfs -o size=64m none {small} && exec "$0" "$@"'
    argv = ["sh", "-c", script, sys.executable, "-m", "planetmesh", "--home", str(small / "home")]
    program = fleet.lan.run("h3", [*argv, "--json", "doctor"], stdout=-1)
    found = by_check(program.communicate(timeout=60)[0])
    assert found["disk"]["status"] == "fail"
    assert "Coordinators are heard" in found["announcement"]["detail"]

    # Thrown out.
    assert fleet.desk.call("node", "revoke", "shelf").status == 0
    found = doctor(shelf)
    assert found["coordinator"]["status"] == "fail"
    assert "revoked" in found["coordinator"]["detail"]
    assert "planetmesh code" in found["coordinator"]["hint"]

    # At the old address stands another mesh.
    fleet.desk.kill()
    other = fleet.agents["other"] = Machine(tmp_path / "other", lan=fleet.lan, host="h1")
    other.up("--new", "--no-agent", "--port", PORT, "--name", "other", "--no-mdns")
    found = doctor(shelf)
    assert found["coordinator"]["status"] == "fail"
    assert "certificate" in found["coordinator"]["detail"] or "another mesh" in found["coordinator"]["detail"]


def test_a_copied_home_is_told_from_the_machine(fleet: Fleet, shelf: Machine, tmp_path: Path) -> None:
    assert shelf.stop() == 0
    copy = fleet.agents["copy"] = Machine(tmp_path / "copy", lan=fleet.lan, host="h3")
    shutil.copytree(shelf.home, copy.home, symlinks=True)
    machine_id = tmp_path / "machine-id"
    machine_id.write_text(f"{OTHER_MACHINE}\n")
    script = f'mount --bind {machine_id} /etc/machine-id && exec "$0" "$@"'
    argv = ["sh", "-c", script, sys.executable, "-m", "planetmesh", "up"]
    with (tmp_path / "copy.log").open("wb") as log:
        fleet.lan.run("h3", argv, {"PLANETMESH_HOME": str(copy.home)}, stdout=log, stderr=log)
    wait_until(lambda: fleet.state_of("shelf") == "HEALTHY", 20, fleet.tell)
    found = doctor(shelf)
    assert found["identity"]["status"] == "fail"
    assert "was copied" in found["identity"]["detail"]
    assert "planetmesh leave" in found["identity"]["hint"]
