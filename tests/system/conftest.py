"""Fixtures of the system tests: a LAN of network namespaces, and a mesh on it that may be hurt."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fleet import Fleet
from lan import Lan, why_not
from meshes import Machine


@pytest.fixture
def make_lan() -> Iterator[Callable[[int], Lan]]:
    """`make_lan(3)` makes a `Lan` of three hosts (see lan.py); it is taken down after the test."""
    if reason := why_not():
        pytest.skip(reason)
    with ExitStack() as stack:
        yield lambda hosts: stack.enter_context(Lan(hosts))


@pytest.fixture
def lan(make_lan: Callable[[int], Lan]) -> Lan:
    """A LAN of three hosts: h1, h2, h3."""
    return make_lan(3)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """`machine("desk")` or `machine("desk", lan=lan, host="h1")`; ended after the test."""
    made: list[Machine] = []

    def make(name: str, **where: Any) -> Machine:
        made.append(Machine(tmp_path / name, **where))
        return made[-1]

    yield make
    for each in reversed(made):
        print(f"──── {each.home.name}\n{each.log[-4000:]}")  # pytest shows it for failed tests only
        each.close()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that tasks see too; they are another user, to whom pytest's own is closed."""
    path = Path(tempfile.mkdtemp(prefix="planetmesh-test-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def fleet(make_lan: Callable[[int], Lan], tmp_path: Path) -> Iterator[Fleet]:
    """A mesh on a LAN, not started yet; what its nodes said is shown if the test fails."""
    fleet = Fleet(tmp_path, make_lan)
    try:
        yield fleet
        print(fleet.tell())  # pytest shows it for failed tests only
    finally:
        fleet.close()
