"""`doctor` finds what really goes wrong on a LAN: each fault is made here, and the next command is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from firewall import open_again, shut
from fleet import PORT, Fleet
from lan import INTERFACE, REPOSITORY
from meshes import Machine, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

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
    shut(fleet.lan, "h1", PORT)
    found = doctor(shelf)
    assert "Nothing comes back from" in found["coordinator"]["detail"]
    assert f"TCP port {PORT}" in found["coordinator"]["hint"]

    # Or it says that it does so.
    argv = [sys.executable, str(Path(__file__).with_name("firewall.py")), INTERFACE, PORT]
    wall = fleet.lan.run("h1", argv, stdout=subprocess.PIPE)
    assert wall.stdout.readline() == b"ready\n"
    found = doctor(shelf)
    assert f"{fleet.lan.address('h1')} is there, but a firewall" in found["coordinator"]["detail"]
    assert f"ufw allow {PORT}/tcp" in found["coordinator"]["hint"]
    wall.terminate()
    wall.wait(60)
    open_again(fleet.lan, "h1")

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
    assert "one version" in found["version"]["hint"]

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
    assert "is not of the mesh 'desk'" in found["coordinator"]["detail"]
    assert "planetmesh up --join" in found["coordinator"]["hint"]
    assert "planetmesh leave" in found["coordinator"]["hint"]
    # That somebody answers does not mean that multicast is at fault.
    assert "is not heard by mDNS" in found["announcement"]["detail"]
    assert "blocked" not in found["announcement"]["detail"]


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
    wait_until(lambda: fleet.state_of("shelf") == "HEALTHY", 60, fleet.tell)
    found = doctor(shelf)
    assert found["identity"]["status"] == "fail"
    assert "was copied" in found["identity"]["detail"]
    assert "planetmesh leave" in found["identity"]["hint"]


SPEAKS_OTHERWISE = """
import sys
import planetmesh
import planetmesh.wire.codec
planetmesh.__version__ = "9.9.9"
planetmesh.wire.codec.PROTOCOL += 1
from planetmesh.cli.main import run
sys.exit(run(["up"]))
"""


def test_versions_that_do_not_fit_together(fleet: Fleet, shelf: Machine, tmp_path: Path) -> None:
    assert shelf.stop() == 0
    assert "`planetmesh up` does not run here" in doctor(shelf)["agent"]["detail"]
    said = tmp_path / "other.log"
    argv = [sys.executable, "-c", SPEAKS_OTHERWISE]
    with said.open("wb") as log:
        fleet.lan.run("h2", argv, {"PLANETMESH_HOME": str(shelf.home)}, stdout=log, stderr=log)
    wait_until(lambda: "same version" in said.read_text(), 60, said.read_text)
    found = doctor_by(shelf, OF_ANOTHER_VERSION)
    assert found["agent"]["status"] == "fail"
    assert "Different versions" in found["agent"]["detail"]
    assert "one version" in found["agent"]["hint"]


def second_network(fleet: Fleet, here: str, there: str) -> None:
    """A cable between two hosts, with a network of its own."""
    names = [fleet.lan.namespace(host) for host in (here, there)]
    cable = ["ip", "-n", names[0], "link", "add", "eth1", "type", "veth", "peer", "name", "eth1"]
    subprocess.run([*cable, "netns", names[1]], check=True, timeout=20)
    for number, host in enumerate((here, there), 1):
        inside(fleet, host, "addr", "add", f"10.99.1.{number}/24", "dev", "eth1")
        inside(fleet, host, "link", "set", "eth1", "up")
    for host in (here, there):
        wait_until(lambda: "state UP" in fleet.lan.check(host, ["ip", "addr", "show", "eth1"]), 60)  # noqa: B023


def test_a_machine_that_was_bound_to_the_wrong_network(fleet: Fleet, shelf: Machine) -> None:
    second_network(fleet, "h2", "h3")
    here = fleet.lan.address("h2")
    assert shelf.stop() == 0
    shelf.up("--bind", "10.99.1.1")
    found = doctor(shelf)
    assert "Only 10.99.1.1 (eth1) is used" in found["addresses"]["detail"]
    assert found["announcement"]["status"] == "warn"
    assert (
        f"mDNS is used on eth1 only (--bind), but the coordinator is behind {here}"
        in (found["announcement"]["detail"])
    )
    assert f"planetmesh up --bind {here}" in found["announcement"]["hint"]
    assert found["coordinator"]["status"] == "ok"

    # The next lease brought another address.
    inside(fleet, "h2", "addr", "flush", "dev", "eth1")
    found = doctor(shelf)
    assert found["addresses"]["status"] == "fail"
    assert "no such address any more: --bind 10.99.1.1" in found["addresses"]["detail"]
    assert f"planetmesh up --bind {here}" in found["addresses"]["hint"]


def test_a_coordinator_that_was_bound_to_the_wrong_network(fleet: Fleet, shelf: Machine) -> None:
    second_network(fleet, "h1", "h3")
    assert fleet.desk.stop() == 0
    fleet.desk.up("--bind", "10.99.1.1")
    found = doctor(fleet.desk)
    assert found["addresses"]["status"] == "warn"
    assert f"in the network of {fleet.lan.address('h1')}" in found["addresses"]["detail"]
    assert "--bind ''" in found["addresses"]["hint"]
    found = doctor(shelf)
    assert "nothing listens on its port" in found["coordinator"]["detail"]
    assert "planetmesh doctor" in found["coordinator"]["hint"]


@pytest.mark.parametrize(
    ("user", "status", "says"),
    [
        # As in a user's own home: nothing but Landlock could keep his tasks from his files.
        (["unshare", "--user", "--map-user=1000", "--map-group=1000"], "warn", "unconfined: A task got at: "),
        # Root's tasks run as somebody else, so they are kept from its secrets all the same.
        ([], "ok", "user: "),
    ],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_kernel_without_landlock(tmp_path: Path, user: list[str], status: str, says: str) -> None:
    script = Path(__file__).with_name("without_landlock.py")
    program = [sys.executable, "-m", "planetmesh", "--home", str(tmp_path / "home"), "--json", "doctor"]
    done = subprocess.run(
        [*user, sys.executable, str(script), *program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = by_check(done.stdout)["sandbox"]
    assert (found["status"], found["detail"][: len(says)]) == (status, says)
    assert ("Landlock" in found["hint"]) == (status == "warn")
