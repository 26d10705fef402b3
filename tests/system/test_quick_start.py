"""docs/quick-start.md, typed on three machines: what the page shows is what one sees.

Shown lines are compared with the real ones, but for what differs from mesh to mesh: addresses, ids, codes and
numbers.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lan import REPOSITORY, Lan
from meshes import PROGRAM, Machine, wait_until

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(360)]

PAGE = (REPOSITORY / "docs" / "quick-start.md").read_text(encoding="utf-8")
HOSTS = {"desk": "h1", "attic": "h2", "laptop": "h3"}
PATIENCE_SECONDS = 60.0
CODE = re.compile(r"\b[0-9A-Z]-[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]\b")
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[=>()][0-9A-Z]?)")
_DIFFERENT = (
    (CODE, "CODE"),
    (re.compile(r"\[fe80[^]]*\]"), "[ADDRESS]"),
    (re.compile(r"\d+\.\d+\.\d+\.\d+"), "ADDRESS"),
    (re.compile(r"\b[0-9a-f]{4}(?: [0-9a-f]{4}){3}\b"), "FINGERPRINT"),
    (re.compile(r"\b[0-9a-f]{8}\b"), "MESH"),
    (re.compile(r"\d+(?:\.\d+)?"), "N"),
    (re.compile(r"\b(?:desk|attic|laptop)\b"), "HOST"),
    (re.compile(r"\s+"), " "),
)
TABLES = ("planetmesh nodes", "planetmesh job last --tasks")
"""Of these the first two columns are compared: the others depend on the machines."""


def shape(line: str, *, table: bool = False) -> str:
    if table:
        line = " ".join(line.split()[:2])
    for pattern, word in _DIFFERENT:
        line = pattern.sub(word, line)
    return line.strip()


def transcript(section: str) -> list[tuple[str, str, list[str]]]:
    """(machine, command, shown lines) of each prompt in a section."""
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    found: list[tuple[str, str, list[str]]] = []
    for block in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if prompt := re.match(r"(desk|attic|laptop)\$ (.+)", line):
                found.append((prompt[1], prompt[2], []))
            elif found and line.strip() and not line.startswith("──"):
                found[-1][2].append(line)
    return found


class Terminal:
    """One program on a terminal of one machine."""

    def __init__(self, lan: Lan, machine: str, command: str, folder: Path) -> None:
        home = folder / machine
        home.mkdir(exist_ok=True)
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        # A session of its own, or what draws on the terminal would take itself for a background job.
        named = [
            "setsid",
            "--ctty",
            "unshare",
            "--uts",
            "sh",
            "-c",
            'hostname "$0" && exec sh -c "$1"',
            machine,
        ]
        env = {
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PLANETMESH_HOME": str(home / "state"),
            "PYTHONPATH": str(REPOSITORY),
            "TERM": "xterm",
        }
        self.process = lan.run(
            HOSTS[machine],
            [*named, f"exec {command}"],
            env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=home,
        )
        os.close(slave)
        self._heard: list[bytes] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        try:
            while piece := os.read(self._master, 65536):
                self._heard.append(piece)
        except OSError:  # the other end is closed
            return

    @property
    def text(self) -> str:
        return _ESCAPES.sub("", b"".join(self._heard).decode(errors="replace")).replace("\r", "\n")

    def wait_for(self, words: str) -> None:
        wait_until(lambda: words in self.text, PATIENCE_SECONDS, lambda: self.text)

    def type(self, line: str) -> None:
        os.write(self._master, line.encode() + b"\n")

    def end(self) -> None:
        self.process.wait(PATIENCE_SECONDS)
        self._thread.join(PATIENCE_SECONDS)
        assert self.process.returncode == 0, self.text

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_SECONDS)
        self._thread.join(PATIENCE_SECONDS)
        os.close(self._master)


Type = Callable[[str, str], Terminal]


@pytest.fixture
def type_on(lan: Lan, tmp_path: Path) -> Iterator[Type]:
    program = tmp_path / "bin" / "planetmesh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m planetmesh "$@"\n')
    program.chmod(0o755)
    opened: list[Terminal] = []

    def type_on(machine: str, command: str) -> Terminal:
        opened.append(Terminal(lan, machine, command, tmp_path))
        return opened[-1]

    yield type_on
    for terminal in reversed(opened):
        terminal.close()
    for machine in HOSTS:
        Machine(tmp_path / machine / "state").close()


def check_shown(terminal: Terminal, command: str, shown: list[str]) -> None:
    """All of it, sooner or later: a panel fills as machines arrive."""
    table = command in TABLES

    def missing() -> list[str]:
        rows = {shape(line, table=True) for line in terminal.text.splitlines()}
        # Sentences wrap where the terminal ends, which is not where the page's lines do.
        whole = shape(terminal.text)
        return [line for line in shown if shape(line, table=table) not in (rows if table else whole)]

    wait_until(lambda: not missing(), PATIENCE_SECONDS, lambda: f"{missing()}\nnot in\n{terminal.text}")


def test_what_the_page_shows_is_what_one_sees(type_on: Type, tmp_path: Path) -> None:
    assert PROGRAM[1:] == ["-m", "planetmesh"]
    (desk_up, up, up_shown), (_, code, code_shown) = transcript("2. The first machine")
    first = type_on(desk_up, up)
    check_shown(first, up, up_shown)
    window = type_on("desk", code)
    check_shown(window, code, code_shown)

    ((attic, up, up_shown),) = transcript("3. The second machine")
    second = type_on(attic, up)
    second.wait_for("Pairing code:")
    second.type(CODE.search(window.text)[0])
    second.wait_for("takes part in the mesh")
    check_shown(second, up, up_shown)
    window.wait_for("attic joined.")

    for number in range(1, 5):
        note = tmp_path / "desk" / "notes" / f"part{number}.txt"
        note.parent.mkdir(exist_ok=True)
        note.write_text("".join(f"{line}\n" for line in range(number, 20_001)))
    first_job = transcript("4. A first job")
    assert len(first_job) == 4
    for machine, command, shown in first_job:
        terminal = type_on(machine, command)
        terminal.end()
        check_shown(terminal, command, shown)
    assert len(list((tmp_path / "desk" / "packed" / "notes").glob("*.gz"))) == 4

    window = type_on("desk", "planetmesh code --role operator")
    window.wait_for("Waiting at")
    ((laptop, login, login_shown),) = transcript("You on your laptop")
    person = type_on(laptop, login)
    person.wait_for("Pairing code:")
    person.type(CODE.search(window.text)[0])
    person.end()
    check_shown(person, login, login_shown)
    status = type_on("laptop", "planetmesh run hostname")
    status.end()

    second.type("\x03")
    second.end()
    ((attic, leave, leave_shown),) = transcript("Leaving")
    left = type_on(attic, leave)
    left.end()
    check_shown(left, leave, leave_shown)
    type_on("desk", "planetmesh node forget attic").end()
