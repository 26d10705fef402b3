"""A LAN inside this machine: network namespaces on a bridge, for tests of the whole system.

Linux and root only; nothing of the root namespace is touched. Used by the `lan` fixture in conftest.py.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

REPOSITORY = Path(__file__).resolve().parents[2]
INTERFACE = "eth0"
"""Name of the one network interface in every host."""
COMMAND_SECONDS = 60.0
KILL_SECONDS = 60.0


def why_not() -> str:
    """Why no `Lan` can be made here, or an empty string."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the `ip` command (package iproute2)"
    return ""


class Lan:
    """Some hosts on one Ethernet segment, each a network namespace with its own addresses and loopback.

    A bridge stands in a namespace of its own (the switch). Host number N (from 1) is called `hN`, has the
    interface `eth0` with the address 10.77.x.N/24 and an IPv6 link-local one. Files and processes are shared
    with the machine: give each host its own `--home`.

        with Lan(hosts=3) as lan:
            argv = [sys.executable, "-m", "planetmesh", "up", "--new"]
            up = lan.run("h1", argv, env={"PLANETMESH_HOME": home})
            lan.check("h2", ["ping", "-c1", lan.address("h1")])
            lan.down("h1")      # the interface goes down, as if somebody switched Wi-Fi off; address stays
            lan.up("h1")
            lan.unplug("h1")    # the switch's end goes down: no carrier, as if somebody pulled the cable
            lan.plug("h1")
            lan.readdress("h1", 77)   # a new address from "DHCP": 10.77.x.77

    `run` starts a program in a host and returns its Popen (started from the repository's root, environment
    inherited plus `env`); `check` runs one to its end and returns its stdout. Leaving the `with` kills
    whatever still runs in the hosts (`ip netns pids`) and deletes the namespaces; also if a test fails.
    """

    def __init__(self, hosts: int = 2) -> None:
        self._tag = f"pm{secrets.token_hex(3)}"
        self._network = f"10.77.{secrets.randbelow(254) + 1}"
        self._numbers = {f"h{number}": number for number in range(1, hosts + 1)}
        self._ports = {host: f"p{number}" for host, number in self._numbers.items()}
        self._namespaces: list[str] = []
        self._started: list[subprocess.Popen[Any]] = []

    @property
    def hosts(self) -> list[str]:
        return list(self._numbers)

    @property
    def switch(self) -> str:
        """The switch's namespace. Its bridge is `br0`, the port of host N is `pN`."""
        return f"{self._tag}sw"

    def namespace(self, host: str) -> str:
        """The name for `ip netns exec` and `ip -n`."""
        if host not in self._numbers:
            raise KeyError(host)
        return f"{self._tag}{host}"

    def address(self, host: str) -> str:
        """The host's IPv4 address, as it is now."""
        return f"{self._network}.{self._numbers[host]}"

    def __enter__(self) -> Self:
        try:
            self._add_namespace(self.switch)
            self._ip("-n", self.switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
            self._ip("-n", self.switch, "link", "set", "br0", "up")
            for host in self._numbers:
                self._add_host(host)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self, host: str, argv: Sequence[str], env: Mapping[str, str] | None = None, **popen: Any
    ) -> subprocess.Popen[Any]:
        """Start a program in a host. `popen` goes to subprocess.Popen (stdout=…, text=…, cwd=…)."""
        command = ["ip", "netns", "exec", self.namespace(host), *argv]
        settings: dict[str, Any] = {"cwd": REPOSITORY, "stdin": subprocess.DEVNULL, **popen}
        program = subprocess.Popen(command, env={**os.environ, **(env or {})}, **settings)
        self._started.append(program)
        return program

    def check(
        self, host: str, argv: Sequence[str], env: Mapping[str, str] | None = None, seconds: float = 60.0
    ) -> str:
        """Run a program in a host to its end; its stdout. Raises on another exit status than 0."""
        program = self.run(host, argv, env, stdout=subprocess.PIPE, text=True)
        try:
            stdout, _ = program.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            program.kill()
            program.communicate()
            raise
        if program.returncode:
            raise subprocess.CalledProcessError(program.returncode, list(argv), stdout)
        return str(stdout)

    def run_on_switch(self, argv: Sequence[str], **popen: Any) -> subprocess.Popen[Any]:
        """Start a program where all frames pass: a capture on `br0` sees the whole LAN."""
        program = subprocess.Popen(
            ["ip", "netns", "exec", self.switch, *argv], **{"stdin": subprocess.DEVNULL, **popen}
        )
        self._started.append(program)
        return program

    def pids(self, host: str) -> list[int]:
        """Every process of a host, whoever started it."""
        return _pids(self.namespace(host))

    def down(self, host: str) -> None:
        """The host's interface goes down."""
        self._ip("-n", self.namespace(host), "link", "set", INTERFACE, "down")

    def up(self, host: str) -> None:
        """The host's interface comes back; routes that went with it are set again."""
        namespace = self.namespace(host)
        self._ip("-n", namespace, "link", "set", INTERFACE, "up")
        self._ip("-n", namespace, "route", "replace", "224.0.0.0/4", "dev", INTERFACE)

    def unplug(self, host: str) -> None:
        """Pull the host's cable out of the switch."""
        self._ip("-n", self.switch, "link", "set", self._ports[host], "down")

    def plug(self, host: str) -> None:
        self._ip("-n", self.switch, "link", "set", self._ports[host], "up")

    def readdress(self, host: str, number: int) -> None:
        """The host loses its IPv4 address and gets another; `address(host)` follows."""
        if number in self._numbers.values():
            raise ValueError(f"{self._network}.{number} is taken")
        namespace = self.namespace(host)
        self._ip("-n", namespace, "-4", "addr", "flush", "dev", INTERFACE)
        self._numbers[host] = number
        self._ip("-n", namespace, "addr", "add", f"{self.address(host)}/24", "dev", INTERFACE)
        self._ip("-n", namespace, "route", "replace", "224.0.0.0/4", "dev", INTERFACE)

    def close(self) -> None:
        """End what still runs in the hosts and delete them. Harmless twice."""
        try:
            self._kill_all()
        finally:
            for namespace in reversed(self._namespaces):
                subprocess.run(["ip", "netns", "del", namespace], check=False, timeout=COMMAND_SECONDS)
            self._namespaces.clear()

    def _add_namespace(self, name: str) -> None:
        self._ip("netns", "add", name)
        self._namespaces.append(name)
        self._ip("-n", name, "link", "set", "lo", "up")

    def _add_host(self, host: str) -> None:
        namespace, port = self.namespace(host), self._ports[host]
        self._add_namespace(namespace)
        self._ip(
            *("link", "add", INTERFACE, "netns", namespace, "type", "veth"),
            *("peer", "name", port, "netns", self.switch),
        )
        self._ip("-n", self.switch, "link", "set", port, "master", "br0", "up")
        self._ip("-n", namespace, "addr", "add", f"{self.address(host)}/24", "dev", INTERFACE)
        self.up(host)

    def _kill_all(self) -> None:
        """Everything in our namespaces is ours: they exist for us alone."""
        for program in self._started:
            # It may be on its way into its namespace yet, where it would not be found.
            program.kill()
        end_at = time.monotonic() + KILL_SECONDS
        while pids := [pid for namespace in self._namespaces for pid in _pids(namespace)]:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for program in self._started:
                program.poll()
            if time.monotonic() > end_at:
                raise TimeoutError(f"still running in the test's namespaces: {pids}")
            time.sleep(0.02)
        for program in self._started:
            program.wait(KILL_SECONDS)
            for stream in (program.stdout, program.stderr, program.stdin):
                if stream is not None:
                    stream.close()
        self._started.clear()

    @staticmethod
    def _ip(*arguments: str) -> None:
        done = subprocess.run(
            ["ip", *arguments], capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
        if done.returncode:
            raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _pids(namespace: str) -> list[int]:
    done = subprocess.run(
        ["ip", "netns", "pids", namespace],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    return [int(line) for line in done.stdout.split()]
