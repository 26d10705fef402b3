"""`up` and `code` at a real terminal: what is asked, what a typing error costs, how Ctrl-C ends."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lan import REPOSITORY, Lan
from meshes import PROGRAM, Machine, free_port, wait_until

pytestmark = pytest.mark.system

READ_SECONDS = 60.0


class Terminal:
    """A program at a pseudo-terminal; `text` is all that it has shown."""

    def __init__(self, machine: Machine, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        settings = termios.tcgetattr(slave)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        env = {"PLANETMESH_HOME": str(machine.home), "PYTHONPATH": str(REPOSITORY), "TERM": "xterm"}
        argv = [*PROGRAM, *arguments]
        if machine.lan is not None:
            self.process = machine.lan.run(
                machine.host, argv, env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
            )
        else:
            self.process = subprocess.Popen(
                argv,
                env={**os.environ, **env},
                stdin=slave,
                stdout=slave,
                stderr=slave,
                cwd=REPOSITORY,
                start_new_session=True,
            )
        os.close(slave)
        os.set_blocking(self._master, False)
        self.text = ""

    def expect(self, wanted: str, seconds: float = READ_SECONDS) -> None:
        """Wait until it is shown; what was shown before is then forgotten."""
        end_at = time.monotonic() + seconds
        while wanted not in self.text:
            assert time.monotonic() < end_at, f"no '{wanted}' in:\n{self.text}"
            self._read()
            time.sleep(0.02)
        self.text = self.text[self.text.index(wanted) + len(wanted) :]

    def type(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(60)
        self._read()
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
        os.close(self._master)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            while data := os.read(self._master, 65536):
                self.text += data.decode(errors="replace")


@pytest.fixture
def opened() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def machine_of(stack: contextlib.ExitStack, home: Path, **where: object) -> Machine:
    return stack.enter_context(contextlib.closing(Machine(home, **where)))


def terminal_of(stack: contextlib.ExitStack, machine: Machine, *arguments: str) -> Terminal:
    return stack.enter_context(contextlib.closing(Terminal(machine, *arguments)))


@pytest.mark.slow
def test_up_finds_asks_and_joins(lan: Lan, opened: contextlib.ExitStack, tmp_path: Path) -> None:
    desk = machine_of(opened, tmp_path / "desk", lan=lan, host="h1")
    shelf = machine_of(opened, tmp_path / "shelf", lan=lan, host="h2")
    desk.up("--new", "--no-agent", "--name", "desk")
    screen = terminal_of(opened, shelf, "up", "--name", "shelf")
    screen.expect("Looking for a mesh")
    screen.expect(f"at {lan.address('h1')}:7433")
    screen.expect("planetmesh code")
    screen.expect("Pairing code")
    screen.type("hello")
    screen.expect("not a pairing code")
    screen.expect("Pairing code")
    screen.type(desk.code()["code"].lower().replace("-", " "))
    screen.expect("Joined the mesh 'desk'")
    screen.expect("takes part in the mesh")
    wait_until(lambda: desk.nodes()["shelf"]["state"] == "HEALTHY", 60, lambda: desk.log)
    assert screen.end() == 0


@pytest.mark.slow
def test_the_user_chooses_between_two_meshes(lan: Lan, opened: contextlib.ExitStack, tmp_path: Path) -> None:
    desk = machine_of(opened, tmp_path / "desk", lan=lan, host="h1")
    shelf = machine_of(opened, tmp_path / "shelf", lan=lan, host="h2")
    for each in (desk, shelf):
        each.up("--new", "--no-agent", "--name", each.home.name)
    attic = machine_of(opened, tmp_path / "attic", lan=lan, host="h3")
    screen = terminal_of(opened, attic, "up")
    screen.expect("Several meshes")
    wait_until(lambda: screen._read() or "Which one" in screen.text, 60, lambda: screen.text)
    mine = next(line for line in screen.text.splitlines() if lan.address("h2") in line)
    screen.type(mine.split()[0])
    screen.expect("Pairing code")
    screen.type(shelf.code()["code"])
    screen.expect("Joined the mesh 'shelf'")
    screen.expect("takes part in")
    assert screen.end() == 0


def test_three_wrong_codes_are_enough(opened: contextlib.ExitStack, tmp_path: Path) -> None:
    from planetmesh.trust.codes import new_code

    desk = machine_of(opened, tmp_path / "desk")
    desk.up("--new", "--no-mdns", "--no-agent", "--bind", "127.0.0.1", "--port", free_port())
    port = next(each["port"] for each in desk.events if each.get("event") == "up")
    slot = int(desk.code()["code"].split("-")[0])
    screen = terminal_of(opened, machine_of(opened, tmp_path / "shelf"), "up", "--join", f"127.0.0.1:{port}")
    for _ in range(3):
        screen.expect("Pairing code")
        screen.type(new_code(slot).text)
        screen.expect("did not match")
    assert screen.process.wait(60) == 4


def test_code_stays_and_says_who_came(opened: contextlib.ExitStack, tmp_path: Path) -> None:
    desk, shelf = machine_of(opened, tmp_path / "desk"), machine_of(opened, tmp_path / "shelf")
    desk.up("--new", "--no-mdns", "--no-agent", "--bind", "127.0.0.1", "--port", free_port())
    port = next(each["port"] for each in desk.events if each.get("event") == "up")
    screen = terminal_of(opened, desk, "code")
    wait_until(lambda: screen._read() or "Waiting at" in screen.text, 60, lambda: screen.text)
    code = next(line.strip() for line in screen.text.splitlines() if line.startswith("    "))
    assert "planetmesh up --join 127.0.0.1" in screen.text
    shelf.up("--join", f"127.0.0.1:{port}", "--name", "shelf", code=code)
    screen.expect("shelf joined")
    assert screen.process.wait(60) == 0
    assert code not in desk.log
    assert code not in shelf.log


def test_ctrl_c_at_the_prompt_leaves_no_trace(opened: contextlib.ExitStack, tmp_path: Path) -> None:
    shelf = machine_of(opened, tmp_path / "shelf")
    screen = terminal_of(opened, shelf, "up", "--join", "127.0.0.1:9")
    screen.expect("Pairing code")
    assert screen.end() == 130
    assert not (shelf.home / "role.json").exists()
