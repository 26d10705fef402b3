"""What a service is to run, and what is known of one that is there. Plain values for all managers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MARK = "Written by `planetmesh service install`"
"""Stands in every file of ours; a file without it is somebody else's."""
STOP_SECONDS = 45
"""`up` gives running tasks ten seconds, its agent twenty in all, and closes the databases then."""
Argv = tuple[str, ...]


@dataclass(frozen=True)
class Order:
    """One `up` for a service manager to keep running."""

    program: Argv
    """The beginning of its argv; the first is an absolute path."""
    home: Path
    env: tuple[tuple[str, str], ...] = ()
    """Variables beside those that the manager sets."""

    @property
    def argv(self) -> Argv:
        return (*self.program, "up", "--home", str(self.home), "--known")


@dataclass(frozen=True)
class Plan:
    """What an installation comes to: nothing is done yet."""

    path: Path
    text: bytes
    is_new: bool
    """There was no such file."""
    is_changed: bool
    """The file must be written."""
    commands: tuple[Argv, ...]
    """To be run after that, in this order; none if all is as it should be."""


@dataclass(frozen=True)
class State:
    """How a service stands."""

    path: Path
    exists: bool
    """Its file does."""
    is_ours: bool = False
    order: Order | None = None
    """What its file says that it runs; None where that cannot be read."""
    text: bytes = b""
    enabled: bool = False
    word: str = ""
    """In the manager's own words."""
    is_active: bool = False
    """It runs, or is being started or stopped."""
    pid: int = 0
    is_failing: bool = False
    """It ended by itself, for good or to be started again."""
    is_stale: bool = False
    """The manager has not read the file as it is now."""


class Manager(Protocol):
    """One service manager of this machine, for the whole machine or for one user."""

    name: str
    is_for_all: bool
    """Starts the service at boot, as root; else as this user."""

    def check(self) -> None:
        """Raise Conflict, with what to do instead, where it does not run."""

    def look(self, *, blindly: bool = False) -> State:
        """How the service stands; asks only. `blindly`: it need not run; then nothing does."""

    def write(self, order: Order) -> bytes:
        """The file for it; raises BadInput for what the manager cannot be told."""

    def plan(self, order: Order, state: State) -> Plan:
        """What would bring the machine from the one to the other."""

    def carry_out(self, plan: Plan) -> None:
        """Raise ServiceFailed where the manager will not."""

    def removal(self) -> Sequence[Argv]:
        """What `remove` runs."""

    def remove(self) -> None:
        """Stop it, and take it away."""

    def boot_hint(self) -> str:
        """What its user must do besides, so that it starts at boot; or ''."""

    def show_command(self) -> str:
        """The line to type to see the manager's own view."""

    def log_command(self, option: str) -> str:
        """The line to type to see what it says, with an option of `tail`'s."""
