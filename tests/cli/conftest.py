"""Fixtures: the API double on a thread of its own, and the command line in this process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "client"))

from api_double import Double, running_double

from planetmesh.cli.main import run
from planetmesh.client.sync_client import LoopThread
from planetmesh.coordinator.engine import Engine
from planetmesh.coordinator.service import Coordinator, CoordinatorOptions, running_coordinator
from planetmesh.model.identity import Role
from planetmesh.model.ids import NodeId
from planetmesh.paths import Home

T = TypeVar("T")


@dataclass
class Said:
    """What one command line did."""

    status: int
    out: bytes
    error: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self):
        return msgspec.json.decode(self.out)

    @property
    def lines(self):
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


Say = Callable[..., Said]


@pytest.fixture
def say(home: Home, capfdbinary, monkeypatch) -> Say:
    """Run one command line with this test's home."""
    monkeypatch.setenv("PLANETMESH_HOME", str(home.root))

    def say(*arguments: str) -> Said:
        capfdbinary.readouterr()
        status = run(arguments)
        sys.stderr.flush()
        out, error = capfdbinary.readouterr()
        return Said(status, out, error.decode())

    return say


@pytest.fixture
def double(tmp_path: Path, home: Home) -> Iterator[Double]:
    with running_double(tmp_path / "double", home) as double:
        yield double


class Real:
    """A real coordinator on loopback, on a thread of its own; it makes this home's operator identity."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._thread = LoopThread()
        self._port = 0
        self._coordinator: Coordinator
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._thread.call(self._start())

    def stop(self) -> None:
        self._thread.call(self._stop())

    def close(self) -> None:
        self.stop()
        self._thread.stop()

    def admit_viewer(self, home: Home) -> None:
        """Let whoever uses that home look."""
        home.prepare()
        self._thread.call(self._coordinator.enrolment._admit(home.operator, Role.VIEWER, "guest"))

    def admit_agent(self, home: Home, name: str) -> NodeId:
        """Let that home be a node's."""
        home.prepare()

        async def admit() -> NodeId:
            enrolment = self._coordinator.enrolment
            identity = await enrolment._admit(home.agent, Role.AGENT, name)
            node_id = NodeId(identity.principal.id)
            await self.engine.do(enrolment._enrolled(node_id, name))
            return node_id

        return self._thread.call(admit())

    @property
    def engine(self) -> Engine:
        """To be touched by what `call` runs only."""
        return self._coordinator.engine

    def call(self, work: Coroutine[None, None, T]) -> T:
        """Run it on the coordinator's own loop."""
        return self._thread.call(work)

    async def _start(self) -> asyncio.Task[None]:
        self._ending, started = asyncio.Event(), asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._live(started))
        waiting = asyncio.get_running_loop().create_task(started.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()
        return task

    async def _live(self, started: asyncio.Event) -> None:
        options = CoordinatorOptions(
            self._home, "den", port=self._port, bind=("127.0.0.1",), mdns=False, local_agent=False
        )
        async with running_coordinator(options) as self._coordinator:
            self._port = self._coordinator.port
            started.set()
            await self._ending.wait()

    async def _stop(self) -> None:
        self._ending.set()
        if self._task is not None:
            await self._task


@pytest.fixture
def coordinator(home: Home) -> Iterator[Real]:
    real = Real(home)
    real.start()
    yield real
    real.close()
