"""Starting real meshes for system tests: `up` as real processes, paired with real codes.

    machine = Machine(home)                        # this machine's own network
    machine = Machine(home, lan=lan, host="h1")    # a host of a Lan
    machine.up("--new")                            # start `planetmesh up` and wait until it stands
    machine.call("nodes")                          # another command, in the same home and host
    join(coordinator, newcomer)                    # `code` there, `up --code-stdin` here

Programs are ended by the handle that started them; a fixture that makes machines must `close` each.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lan import REPOSITORY, Lan

from planetmesh.paths import Home, work_root

PROGRAM = [sys.executable, "-m", "planetmesh"]
START_SECONDS = 60.0
CALL_SECONDS = 60.0
STOP_SECONDS = 60.0
"""Patience, not promises: many of these run side by side, on machines that may do other things too."""
_ports = itertools.count(10_000 + 2 * (os.getpid() % 10_000), 2)
"""Below what systems give to outgoing connections."""


@dataclass(frozen=True)
class Said:
    """What one command line did."""

    status: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Machine:
    """One home, on this machine or on a host of a LAN, with at most one `up` at a time."""

    def __init__(
        self,
        home: Path,
        *,
        lan: Lan | None = None,
        host: str = "",
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
        program_options: Sequence[str] = (),
    ) -> None:
        """`env`: added to the environment of all it starts; `python` runs them (see open_python.py).

        `program_options`: those of the program itself for `up`, as `-v`.
        """
        self.home = home
        self._program = [python, *PROGRAM[1:]]
        self.env = dict(env or {})
        self._options = tuple(program_options)
        self.lan = lan
        self.host = host
        self.process: subprocess.Popen[bytes] | None = None
        self._log = home.parent / f"{home.name}.log"
        """stderr of every `up` of this home, one after the other; stdout (`--json` events) lies beside it."""
        self._events = home.parent / f"{home.name}.events"

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def events(self) -> list[dict[str, Any]]:
        """What `up --json` has said since it was started last."""
        lines = self._events.read_text().splitlines() if self._events.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def begin(self, *options: str, code: str | None = None) -> subprocess.Popen[bytes]:
        """Start `up --json` without waiting; a code goes to its stdin."""
        stdin = subprocess.PIPE if code is not None else subprocess.DEVNULL
        options += ("--code-stdin",) if code is not None else ()
        with self._log.open("ab") as log, self._events.open("wb") as events:
            self.process = self._start(
                [*self._program, "--json", *self._options, "up", *options], stdin, events, log
            )
        if code is not None:
            assert self.process.stdin is not None
            self.process.stdin.write(code.encode() + b"\n")
            self.process.stdin.close()
        return self.process

    def up(self, *options: str, code: str | None = None, seconds: float = START_SECONDS) -> None:
        """Start `up` and wait until it serves (coordinator) or has registered (agent)."""
        process = self.begin(*options, code=code)
        wait_until(lambda: self._stands or process.poll() is not None, seconds, lambda: self.log)
        assert self._stands, f"`up` ended with {process.poll()}:\n{self.log}{self.events}"

    @property
    def _stands(self) -> bool:
        return any(each.get("event") == "up" or each.get("state") == "registered" for each in self.events)

    def call(self, *arguments: str, stdin: str | None = None, seconds: float = CALL_SECONDS) -> Said:
        """Run one command to its end."""
        source = subprocess.PIPE if stdin is not None else subprocess.DEVNULL
        process = self._start([*self._program, *arguments], source, subprocess.PIPE, subprocess.PIPE)
        try:
            out, error = process.communicate(stdin.encode() if stdin is not None else None, timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        return Said(process.returncode, out.decode(errors="replace"), error.decode(errors="replace"))

    def json(self, *arguments: str, seconds: float = CALL_SECONDS) -> Any:
        """The document that a command prints with `--json`; it must succeed."""
        said = self.call("--json", *arguments, seconds=seconds)
        assert said.status == 0, f"{arguments}: {said.status}\n{said.out}{said.error}"
        return said.json

    def nodes(self) -> dict[str, dict[str, Any]]:
        """The mesh's nodes by name."""
        return {node["name"]: node for node in self.json("nodes")}

    def code(self, *options: str) -> dict[str, Any]:
        """Open a pairing window."""
        return dict(self.json("code", *options))

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = STOP_SECONDS) -> int:
        """Tell `up` to stop and wait for its end; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL for `up`, as a power cut would end it."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)

    def close(self) -> None:
        """End what still runs and remove what root's agents keep outside the home; harmless twice."""
        try:
            self._end()
        finally:
            for home in (Home(self.home), Home(Home(self.home).local_agent)):
                shutil.rmtree(work_root(home), ignore_errors=True)

    def _end(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                self.process.wait(STOP_SECONDS)
        self.kill()

    def _start(self, argv: Sequence[str], stdin: Any, stdout: Any, stderr: Any) -> subprocess.Popen[bytes]:
        env = {"PLANETMESH_HOME": str(self.home), "PYTHONPATH": str(REPOSITORY), **self.env}
        if self.lan is not None:
            return self.lan.run(self.host, argv, env, stdin=stdin, stdout=stdout, stderr=stderr)
        return subprocess.Popen(
            argv, env={**os.environ, **env}, stdin=stdin, stdout=stdout, stderr=stderr, cwd=REPOSITORY
        )


def free_port() -> str:
    """A port for a coordinator on this machine's own network, with the next one free for its pairing.

    No test process beside this one is given either of them, though nothing listens there yet.
    `--port 0` would do for the coordinator; but who joins by its address looks for the pairing next to it,
    and there another test's coordinator may stand.
    """
    return str(next(port for port in _ports if _claim(port) and _is_free(port) and _is_free(port + 1)))


def _claim(port: int) -> bool:
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0planetmesh-test-port-{port}")
    except OSError:
        claim.close()
        return False
    claim.detach()  # held until this process ends
    return True


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def join(coordinator: Machine, newcomer: Machine, *options: str) -> None:
    """Pair a machine with a fresh code and wait until it has registered."""
    newcomer.up(*options, code=coordinator.code()["code"])


def wait_until(reached: Callable[[], bool], seconds: float, story: Callable[[], str] = lambda: "") -> None:
    """Look again and again until it is so; fail with the story if it does not come true in time.

    A look that takes long, as one by a command does, is followed by as long a pause: the machine is
    somebody's whose progress we wait for.
    """
    end_at = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        if reached():
            return
        assert time.monotonic() < end_at, f"not reached within {seconds} s\n{story()}"
        time.sleep(min(max(0.05, time.monotonic() - began), 0.5))
