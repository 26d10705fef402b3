"""Try the one-file binary as a stranger's machine would: `python packaging/selftest.py BINARY`.

Runs it with an empty environment and a PATH without Python: its version, the refusal of nonsense, a mesh with
a dashboard for browsers, and the demo, in which it is coordinator, agents, zygotes and tasks. Then looks at
the picture, and for what is left behind: processes, temporary files, files in the home.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

SIZE = (1280, 800)
TOOLS = ("sh", "cat", "ls", "head", "kill", "env")
"""The sandbox tries itself out with these; a machine without them has no shell either."""
LIBRARIES = "/nowhere/lib"
"""What stood in LD_LIBRARY_PATH before the binary put its own folder there."""
SHORT_SECONDS = 30.0
DEMO_SECONDS = 120.0
GONE_SECONDS = 10.0


def main() -> None:
    binary = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="selftest-") as folder:
        room = Room(binary, Path(folder))
        for test in (
            room.tells_its_version,
            room.refuses_nonsense,
            room.gives_programs_their_own_libraries,
            room.serves_the_dashboard,
            room.shows_the_demo,
        ):
            began = time.monotonic()
            test()
            print(f"  {test.__name__.replace('_', ' ')}: {time.monotonic() - began:.1f} s", flush=True)
    print("selftest passed")


class Room:
    """A folder in which the binary runs: its own home, temporary folder and PATH."""

    def __init__(self, binary: Path, folder: Path) -> None:
        folder.chmod(0o755)  # as root, the demo's tasks are another user
        self.binary = binary
        self.work_folders_before = _work_folders()
        self.temporary = folder / "tmp"
        self.home = folder / "home"
        self.here = folder / "here"
        tools = folder / "bin"
        for each in (self.temporary, self.home, self.here, tools):
            each.mkdir()
        self.temporary.chmod(0o1777)
        for tool in TOOLS:
            found = shutil.which(tool)
            if found:
                (tools / tool).symlink_to(found)
        self.env = {"PATH": str(tools), "HOME": str(self.home), "TMPDIR": str(self.temporary)}

    def tells_its_version(self) -> None:
        done = self._run("--version")
        assert done.returncode == 0, done
        assert done.stdout.startswith("planetmesh "), done

    def refuses_nonsense(self) -> None:
        done = self._run("nonsense")
        assert done.returncode == 2, done
        assert "Traceback" not in done.stderr, done

    def gives_programs_their_own_libraries(self) -> None:
        """A task sees nothing of the binary."""
        self.env["LD_LIBRARY_PATH"] = LIBRARIES
        with self._mesh() as home:
            done = self._run(*home, "run", "env")
            assert done.returncode == 0, done
            assert f"LD_LIBRARY_PATH={LIBRARIES}" in done.stdout.splitlines(), done.stdout
            assert "_MEI" not in done.stdout, done.stdout
            assert "_PYI" not in done.stdout, done.stdout
        del self.env["LD_LIBRARY_PATH"]

    def serves_the_dashboard(self) -> None:
        """To a browser; one without the token gets nothing but the page."""
        helped = self._run("dashboard", "--help")
        assert helped.returncode == 0, helped
        assert "--web" in helped.stdout, helped
        with self._mesh() as home, self._started(*home, "--json", "dashboard", "--web") as web:
            assert web.stdout is not None
            address, _, token = json.loads(web.stdout.readline())["url"].partition("/#")
            with urllib.request.urlopen(address, timeout=SHORT_SECONDS) as page:
                assert b"client.mjs" in page.read()
            with urllib.request.urlopen(f"{address}/xterm.mjs", timeout=SHORT_SECONDS) as script:
                assert len(script.read()) > 100_000
            assert opened_session(address, "A" * len(token), b"") == 403
            assert opened_session(address, token, b"HEALTHY") == 101

    @contextmanager
    def _mesh(self) -> Iterator[list[str]]:
        """A mesh of one machine, whose local agent is the binary too; gives how to name it."""
        home = ["--home", str(self.temporary / "mesh")]
        options = ["--new", "--no-mdns", "--bind", "127.0.0.1", "--port", "0"]
        with self._started(*home, "up", *options):
            ready = self._run(*home, "status", "--wait", "--timeout", "20s")
            assert ready.returncode == 0, ready
            yield home
        shutil.rmtree(self.temporary / "mesh")
        shutil.rmtree(_work_folder(self.temporary / "mesh" / "local-agent"), ignore_errors=True)

    @contextmanager
    def _started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on until it is told to end, and then ends well."""
        argv = [str(self.binary), *arguments]
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, env=self.env, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                _, said = process.communicate(timeout=SHORT_SECONDS)
        assert process.returncode == 0, f"{process.returncode}\n{said}"

    def shows_the_demo(self) -> None:
        width, height = SIZE
        picture = self.here / "picture.png"
        done = self._run(
            *("demo", "--json", "--size", f"{width}x{height}", "-o", str(picture)), seconds=DEMO_SECONDS
        )
        print(done.stderr, file=sys.stderr)
        assert done.returncode == 0, f"{done.returncode}\n{done.stdout}"
        check_summary(json.loads(done.stdout))
        check_picture(picture, width, height)
        self.leaves_nothing_but(picture)
        assert _work_folders() <= self.work_folders_before, _work_folders() - self.work_folders_before

    def leaves_nothing_but(self, picture: Path) -> None:
        end_at = time.monotonic() + GONE_SECONDS
        while left := self._processes():
            assert time.monotonic() < end_at, f"still running: {left}"
            time.sleep(0.1)
        assert list(self.here.iterdir()) == [picture]
        assert not list(self.temporary.iterdir()), list(self.temporary.iterdir())
        assert not list(self.home.rglob("*")), list(self.home.rglob("*"))

    def _run(self, *arguments: str, seconds: float = SHORT_SECONDS) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.binary), *arguments],
            env=self.env,
            cwd=self.here,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def _processes(self) -> list[str]:
        """Everything that runs this binary."""
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,args="],
            capture_output=True,
            text=True,
            timeout=SHORT_SECONDS,
            check=True,
        )
        return [line.strip() for line in listed.stdout.splitlines() if _program_of(line) == str(self.binary)]


def opened_session(address: str, token: str, drawn: bytes) -> int:
    """The status with which a session is answered; if it is opened, once this was drawn in it."""
    host = address.removeprefix("http://")
    name, port = host.split(":")
    lines = (
        "GET /session HTTP/1.1",
        f"Host: {host}",
        f"Origin: {address}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Sec-WebSocket-Protocol: planetmesh-dashboard, {token}",
    )
    with socket.create_connection((name, int(port)), timeout=SHORT_SECONDS) as connection:
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        said = b""
        while b"\r\n\r\n" not in said or (said.startswith(b"HTTP/1.1 101") and drawn not in said):
            piece = connection.recv(65536)
            assert piece, said
            said += piece
    return int(said.split()[1])


def check_summary(summary: dict[str, Any]) -> None:
    assert summary["complete"] is True, summary
    assert summary["killed"], summary
    assert sum(summary["by_node"].values()) == summary["tiles"], summary
    assert len(summary["by_node"]) >= 2, summary


def check_picture(path: Path, width: int, height: int) -> None:
    """A PNG of that size whose lines are not all the same, read without any library for pictures."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n"), content[:16]
    assert struct.unpack(">II", content[16:24]) == (width, height), content[16:24]
    start = content.index(b"IDAT")
    (length,) = struct.unpack(">I", content[start - 4 : start])
    pixels = zlib.decompress(content[start + 4 : start + 4 + length])
    stride = 1 + 3 * width
    assert len(pixels) == stride * height, len(pixels)
    lines = {pixels[at : at + stride] for at in range(0, len(pixels), stride)}
    assert len(lines) > height * 0.9, f"{len(lines)} different lines"
    assert len(set(zip(*[iter(pixels[stride * 5 + 1 : stride * 6])] * 3, strict=False))) > 20


def _program_of(line: str) -> str:
    """`PID PROGRAM ARGUMENTS…` → PROGRAM."""
    return [*line.split(maxsplit=2), "", ""][1]


def _work_folder(home: Path) -> Path:
    """Where root's agent of that home keeps its tasks' folders; other meshes of this machine have theirs."""
    return Path("/var/tmp") / f"planetmesh-{sha256(os.fsencode(home)).hexdigest()[:12]}"


def _work_folders() -> set[Path]:
    """Where root's agents keep their tasks' folders."""
    return set(Path("/var/tmp").glob("planetmesh-*"))


if __name__ == "__main__":
    main()
