"""Which service manager this machine has, and how its commands are run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from planetmesh.errors import Conflict, ServiceFailed
from planetmesh.install.order import Argv, Manager

COMMAND_SECONDS = 120.0
"""A stop takes up to `STOP_SECONDS`."""
TRY_SECONDS = 60.0
"""For the program to say its version: the one-file binary unpacks itself on a slow card first."""


class Answer(NamedTuple):
    """What a command came to."""

    status: int
    out: str
    error: str


class Commands:
    """Runs a service manager's own programs."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {**environment, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}

    def find_user_manager(self, folder: Path) -> None:
        """Where its socket is, if the shell does not say so (after su)."""
        if "XDG_RUNTIME_DIR" not in self._environment and folder.is_dir():
            self._environment["XDG_RUNTIME_DIR"] = str(folder)

    def ask(self, argv: Argv) -> Answer:
        """Whatever its exit status; raises ServiceFailed if it cannot be run or does not end."""
        try:
            done = subprocess.run(
                argv,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="backslashreplace",
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except OSError as error:
            raise ServiceFailed(
                f"`{argv[0]}` cannot be run: {error.strerror}.",
                hint=f"Have {argv[0]} in PATH, or `planetmesh up --known` started at boot by other means.",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise ServiceFailed(
                f"`{shlex.join(argv)}` did not end within {COMMAND_SECONDS:.0f} s.",
                hint="See how the service stands with `planetmesh service status`.",
            ) from error
        return Answer(done.returncode, done.stdout, done.stderr)

    def tell(self, argv: Argv, hint: str, *, also_well: tuple[int, ...] = ()) -> None:
        """Raise ServiceFailed with what it said and the hint, unless it went well."""
        answer = self.ask(argv)
        if answer.status and answer.status not in also_well:
            said = " ".join((answer.error.strip() or answer.out.strip()).split())
            raise ServiceFailed(
                f"`{shlex.join(argv)}` failed ({answer.status}): {said or 'it said nothing'}", hint=hint
            )


def manager_of_this_machine(environment: Mapping[str, str]) -> Manager:
    """Raises Conflict where there is none that could start `up`."""
    commands = Commands(environment)
    if sys.platform == "linux":
        from planetmesh.install.systemd import systemd_here

        return systemd_here(commands)
    if sys.platform == "darwin":
        from planetmesh.install.launchd import launchd_here

        return launchd_here(commands)
    if sys.platform == "win32":
        raise Conflict(
            "There is no service on Windows: tasks cannot be run here yet.",
            hint="Use this machine with `planetmesh login`. As a coordinator without tasks it runs in a "
            "terminal: planetmesh up --no-agent",
        )
    raise Conflict(
        f"There is no service manager that planetmesh knows on {sys.platform}.",
        hint="Have your system run `planetmesh up --known` at boot.",
    )


def try_program(program: Argv, version: str) -> None:
    """Raise Conflict unless it starts as a service does: in another folder, without a shell's variables."""
    bare = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    try:
        done = subprocess.run(
            [*program, "--version"], cwd="/", env=bare, stdin=subprocess.DEVNULL, capture_output=True,
            encoding="utf-8", errors="backslashreplace", timeout=TRY_SECONDS, check=False,
        )  # fmt: skip
        said = done.stdout.strip() or done.stderr.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if said == f"planetmesh {version}":
        return
    raise Conflict(
        f"`{shlex.join(program)}` does not start planetmesh {version} as a service would: "
        f"{said.splitlines()[-1] if said else 'it says nothing'}",
        hint="Install planetmesh into an environment of its own, and use the command from there: "
        "python3 -m venv DIR && DIR/bin/pip install .",
    )


def write_file(path: Path, text: bytes) -> None:
    """For all to read; whole or not at all, and on the disk before it returns. Raises ServiceFailed."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(temporary, flags, 0o644), "wb") as file:
            if sys.platform != "win32":
                os.fchmod(file.fileno(), 0o644)  # whatever the umask is
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise ServiceFailed(
            f"Cannot write {path}: {error.strerror}.", hint="Mend that folder, and install the service again."
        ) from error


def remove_file(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ServiceFailed(
            f"Cannot remove {path}: {error.strerror}.", hint="It is stopped. Remove that file by hand."
        ) from error


def read_file(path: Path, is_ours: Callable[[bytes], bool]) -> tuple[bytes, bool]:
    """The bytes of a service's file and whether we wrote it; a link or a pipe never is ours."""
    if path.is_symlink() or not path.is_file():
        return b"", False
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ServiceFailed(
            f"Cannot read {path}: {error.strerror}.", hint="Mend its owner and its mode."
        ) from error
    return text, is_ours(text)
