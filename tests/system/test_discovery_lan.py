"""Discovery between machines: real namespaces on a bridge, real multicast."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
from lan import INTERFACE, REPOSITORY, Lan

pytestmark = [pytest.mark.system, pytest.mark.slow]

HOST = str(Path(__file__).with_name("discovery_host.py"))
ENV = {"PYTHONPATH": str(REPOSITORY)}
MESH, OTHER_MESH = "0a1b2c3d", "ffee0011"
NODE, OTHER_NODE = "deadbeef", "00c0ffee"
MIB = 1024 * 1024
LONG = 30
"""Seconds: for what is found in one or two where a machine has nothing else to do."""


class Speaker:
    """A discovery_host.py in a host of the LAN; `line()` waits for its next line."""

    def __init__(self, lan: Lan, host: str, *arguments: str) -> None:
        argv = [sys.executable, HOST, *arguments]
        self._process = lan.run(host, argv, ENV, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lines: Queue[str] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def line(self, seconds: float = 60.0) -> Any:
        return json.loads(self._lines.get(timeout=seconds))

    def until(self, wanted: Any, seconds: float = 60.0) -> Any:
        """The first line that `wanted` says yes to."""
        end_at = time.monotonic() + seconds
        last = None
        while True:
            try:
                last = self.line(max(end_at - time.monotonic(), 0.01))
            except Empty:
                pytest.fail(f"not heard in {seconds} s; last was {last}")
            if wanted(last):
                return last

    def stop(self) -> None:
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._process.wait(60) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(60)

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)


def announce(lan: Lan, host: str, *arguments: str) -> Speaker:
    speaker = Speaker(lan, host, "announce", *arguments)
    assert speaker.line() == "announced"
    return speaker


def find(lan: Lan, host: str, *arguments: str) -> dict[str, Any]:
    return json.loads(lan.check(host, [sys.executable, HOST, "find", *arguments], ENV, 90))


def test_one_host_announces_and_another_finds_it_at_once(lan: Lan) -> None:
    announce(lan, "h1", MESH, NODE, "7433", "40001", "2")
    result = find(lan, "h2", str(LONG), "count", "1")
    assert result["found"] == [
        {
            "mesh8": MESH,
            "node8": NODE,
            "addresses": [lan.address("h1")],
            "port": 7433,
            "pair_port": 40001,
            "slots": ["2"],
            "version": 1,
        }
    ]
    assert result["seconds"] < LONG, "not at the end of its time only"


def test_two_coordinators_are_both_seen_after_the_first_matched(lan: Lan) -> None:
    announce(lan, "h1", MESH, NODE, "7433", "40001", "2")
    announce(lan, "h2", OTHER_MESH, OTHER_NODE, "7433", "40002", "2")
    result = find(lan, "h3", str(LONG), "slot", "2")
    assert {one["mesh8"] for one in result["found"]} == {MESH, OTHER_MESH}
    assert result["seconds"] < LONG


def test_nobody_there_ends_with_the_time(lan: Lan) -> None:
    result = find(lan, "h1", "1")
    assert result["found"] == []
    assert 0.9 < result["seconds"] < LONG


def test_goodbye_takes_it_off_the_list_and_a_crash_does_not_keep_it_from_coming_back(lan: Lan) -> None:
    listener = Speaker(lan, "h2", "browse")
    coordinator = announce(lan, "h1", MESH, NODE, "7433")
    listener.until(bool)
    coordinator.stop()
    listener.until(lambda found: found == [])
    crashing = announce(lan, "h1", MESH, NODE, "7433")
    listener.until(bool)
    crashing.kill()
    announce(lan, "h1", MESH, NODE, "7444")
    assert listener.until(lambda found: found and found[0]["port"] == 7444)


def test_pairing_window_shows_without_a_new_search(lan: Lan) -> None:
    listener = Speaker(lan, "h2", "browse")
    announce(lan, "h1", MESH, NODE, "7433").stop()
    announce(lan, "h1", MESH, NODE, "7433", "40001", "7")
    assert listener.until(lambda found: found and found[0]["slots"] == ["7"])


@pytest.mark.parametrize("side", ["h1", "h2"])
def test_interface_down_and_up_again(lan: Lan, side: str) -> None:
    lan.down(side)
    coordinator = announce(lan, "h1", MESH, NODE, "7433")
    listener = Speaker(lan, "h2", "browse")
    time.sleep(1)
    lan.up(side)
    listener.until(lambda found: [one["addresses"] for one in found] == [[lan.address("h1")]])
    lan.down(side)
    time.sleep(6)  # both look at their adapters meanwhile
    lan.up(side)
    coordinator.stop()
    announce(lan, "h1", MESH, NODE, "7444")
    assert listener.until(lambda found: found and found[0]["port"] == 7444)
    assert find(lan, "h3", str(LONG), "count", "1")["found"]


def test_a_cable_pulled_and_plugged_again(lan: Lan) -> None:
    listener = Speaker(lan, "h2", "browse")
    lan.unplug("h1")
    announce(lan, "h1", MESH, NODE, "7433")
    with pytest.raises(Empty):
        listener.line(2)
    lan.plug("h1")
    assert listener.until(bool)


def test_new_address_is_announced_in_place_of_the_old(lan: Lan) -> None:
    listener = Speaker(lan, "h2", "browse")
    announce(lan, "h1", MESH, NODE, "7433")
    listener.until(bool)
    lan.readdress("h1", 77)
    assert listener.until(lambda found: found and found[0]["addresses"] == [lan.address("h1")])


def test_stick_plugged_anew_with_its_old_address(lan: Lan) -> None:
    """The address is the same, the interface is another: a socket that compares addresses stays deaf."""
    listener = Speaker(lan, "h2", "browse")
    coordinator = announce(lan, "h1", MESH, NODE, "7433")
    listener.until(bool)
    namespace = lan.namespace("h1")
    for command in (
        f"ip -n {namespace} link del {INTERFACE}",
        f"ip link add {INTERFACE} netns {namespace} type veth peer name p1 netns {lan.switch}",
        f"ip -n {lan.switch} link set p1 master br0 up",
        f"ip -n {namespace} addr add {lan.address('h1')}/24 dev {INTERFACE}",
        f"ip -n {namespace} link set {INTERFACE} up",
    ):
        subprocess.run(command.split(), check=True)
    time.sleep(7)
    assert find(lan, "h3", str(LONG), "count", "1")["found"]
    coordinator.stop()


def test_without_ipv4_the_link_local_address_carries_its_zone(lan: Lan) -> None:
    for host in ("h1", "h2"):
        subprocess.run(["ip", "-n", lan.namespace(host), "-4", "addr", "flush", "dev", INTERFACE], check=True)
    time.sleep(2.5)  # duplicate address detection of IPv6
    announce(lan, "h1", MESH, NODE, "7433")
    (one,) = find(lan, "h2", str(LONG), "count", "1")["found"]
    assert one["addresses"][0].startswith("fe80::")
    assert "%" in one["addresses"][0]


def test_bridges_of_containers_are_not_announced(lan: Lan) -> None:
    namespace = lan.namespace("h1")
    for command in (
        "link add docker0 type veth peer name docker1",
        "link set docker1 up",
        "addr add 172.17.0.1/16 dev docker0",
        "link set docker0 up",
    ):
        subprocess.run(["ip", "-n", namespace, *command.split()], check=True)
    announce(lan, "h1", MESH, NODE, "7433")
    (one,) = find(lan, "h2", str(LONG), "count", "1")["found"]
    assert one["addresses"] == [lan.address("h1")]


@pytest.mark.parametrize("kind", ["invalid", "valid"])
def test_true_coordinator_is_found_through_a_flood_in_bounded_memory(lan: Lan, kind: str) -> None:
    quiet = find(lan, "h2", "1")["memory_bytes"]
    assert Speaker(lan, "h3", "flood", kind).line() == "flooding"
    time.sleep(1)
    announce(lan, "h1", MESH, NODE, "7433", "40001", "Z")
    result = find(lan, "h2", str(LONG), "slot", "Z")
    (true,) = [one for one in result["found"] if one["slots"] == ["Z"]]
    assert true["addresses"] == [lan.address("h1")]
    assert result["seconds"] < LONG
    assert len(result["found"]) <= 512
    assert result["memory_bytes"] - quiet < 50 * MIB
    if kind == "invalid":
        assert len(result["found"]) == 1
    if "PLANETMESH_MEASURE" in os.environ:
        grown = (result["memory_bytes"] - quiet) / MIB
        print(kind, f"{result['seconds']:.2f} s, {grown:.1f} MiB, {len(result['found'])} found")


def test_probe_hears_itself_and_whether_anybody_else_is_there(lan: Lan) -> None:
    alone = json.loads(lan.check("h2", [sys.executable, HOST, "probe", "1"], ENV))
    assert [report["heard_itself"] for report in alone["interfaces"]] == [True]
    assert not alone["heard_others"]
    announce(lan, "h1", MESH, NODE, "7433")
    assert json.loads(lan.check("h2", [sys.executable, HOST, "probe", "3"], ENV))["heard_others"]


def test_lan_leaves_nothing_behind() -> None:
    with Lan(1) as lan:
        namespaces = [lan.namespace("h1"), lan.switch]
        program = lan.run("h1", ["sleep", "60"])
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        assert all(name in listed for name in namespaces)
    assert program.returncode == -9
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert not any(name in listed for name in namespaces)
