"""The demo's throw-away mesh: a coordinator and some agents as real processes of this very program.

Everything of it lies below one temporary folder, which every agent keeps from its tasks; all of it is gone
when the context is left, however it is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from planetmesh.cli.own_program import own_command, own_environment
from planetmesh.client.async_client import AsyncMesh
from planetmesh.errors import Conflict, Unreachable
from planetmesh.groups import TaskGroup
from planetmesh.paths import Home, work_root

NAMES = ("mercury", "venus", "mars", "jupiter", "saturn", "uranus", "neptune", "ceres")
LOOPBACK = "127.0.0.1"
SETTINGS = {
    "heartbeat_seconds": 0.5,
    "suspect_after_seconds": 1.5,
    "offline_after_seconds": 3.0,
    "retry_first_seconds": 0.2,
}
"""On one machine silence means death much sooner than on a LAN, and a viewer has no patience."""
READY_SECONDS = 30.0
STOP_SECONDS = 8.0
"""They are idle by then; whoever needs longer is killed."""
LOG_TAIL_LINES = 12


@dataclass
class Machine:
    """One `up` of the demo."""

    name: str
    home: Home
    process: asyncio.subprocess.Process | None = None
    killed_at: float | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def log_file(self) -> Path:
        return self.home.root.with_suffix(".log")

    def log_tail(self) -> str:
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-LOG_TAIL_LINES:])


@dataclass
class DemoMesh:
    """Running; `client` speaks for its operator."""

    client: AsyncMesh
    home: Path
    """Of its operator."""
    agents: list[Machine]
    spawn: Callable[[Coroutine[Any, Any, None]], None]

    def kill(self, name: str) -> None:
        """End one agent as a power cut would: SIGKILL, no goodbye."""
        machine = next(each for each in self.agents if each.name == name)
        assert machine.process is not None
        machine.killed_at = time.monotonic()
        machine.process.kill()


@asynccontextmanager
async def demo_mesh(agents: int, cpus_each: int, say: Callable[[str], None]) -> AsyncIterator[DemoMesh]:
    """Start it, pair every agent, hand it out, end it and remove all that it left."""
    root = _make_root()
    machines: list[Machine] = []
    try:
        async with TaskGroup() as group:
            readers: list[asyncio.Task[None]] = []

            def spawn(work: Coroutine[Any, Any, None]) -> None:
                readers.append(group.create_task(work))

            try:
                async with _started(root, machines, agents, cpus_each, say, spawn) as mesh:
                    yield mesh
            finally:
                await _stop_all(machines)
                for reader in readers:
                    reader.cancel()
    finally:
        await asyncio.to_thread(_remove, root, machines)


@asynccontextmanager
async def _started(
    root: Path,
    machines: list[Machine],
    agents: int,
    cpus_each: int,
    say: Callable[[str], None],
    spawn: Callable[[Coroutine[Any, Any, None]], None],
) -> AsyncIterator[DemoMesh]:
    coordinator = _machine(root, "sun", machines)
    await _start(
        coordinator, spawn, "--new", "--name", "demo", "--bind", LOOPBACK, "--port", "0", "--no-agent"
    )
    port = int((await _event(coordinator, lambda event: event.get("event") == "up"))["port"])
    say(f"The coordinator stands at {LOOPBACK}:{port}.")
    async with AsyncMesh(coordinator.home.root) as client:
        newcomers = [_machine(root, name, machines) for name in NAMES[:agents]]
        # One after the other: the desk takes one newcomer a second from an address.
        for each in newcomers:
            window = await client.open_pairing()
            options = ("--join", f"{LOOPBACK}:{port}", "--code-stdin", "--name", each.name)
            offer = ("--cpus", str(cpus_each), "--hide", str(root))
            await _start(each, spawn, *options, *offer, line=window.code)
        for each in newcomers:
            await _event(each, lambda event: event.get("state") == "registered")
            say(f"{each.name} has paired and is ready.")
        yield DemoMesh(client, coordinator.home.root, newcomers, spawn)


def _make_root() -> Path:
    """0700, and without links on the way: what is hidden from tasks is hidden by its real path."""
    return Path(tempfile.mkdtemp(prefix="planetmesh-demo-")).resolve()


def _machine(root: Path, name: str, machines: list[Machine]) -> Machine:
    home = Home(root / name)
    home.prepare()
    home.settings_file.write_text(json.dumps(SETTINGS))
    machine = Machine(name, home)
    machines.append(machine)
    return machine


async def _start(
    machine: Machine,
    spawn: Callable[[Coroutine[Any, Any, None]], None],
    *options: str,
    line: str = "",
) -> None:
    """Start `up`; its stdin stays open, and it ends when that does: no demo, no mesh."""
    argv = [*own_command(), "--json", "--home", str(machine.home.root), "up", "--no-mdns", "--tied"]
    with machine.log_file.open("wb") as log:
        machine.process = await asyncio.create_subprocess_exec(
            *argv,
            *options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=own_environment(),
            start_new_session=True,
        )
    assert machine.process.stdin is not None
    if line:
        machine.process.stdin.write(line.encode() + b"\n")
        await machine.process.stdin.drain()
    spawn(_read_events(machine))


async def _read_events(machine: Machine) -> None:
    """What `up --json` says, one object a line, until it ends."""
    assert machine.process is not None
    assert machine.process.stdout is not None
    async for line in machine.process.stdout:
        with contextlib.suppress(ValueError):
            machine.events.append(json.loads(line))
        machine.news.set()
    machine.events.append({"event": "ended"})
    machine.news.set()


async def _event(machine: Machine, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first event that is wanted; raises with the log's end if it does not come."""
    try:
        async with asyncio.timeout(READY_SECONDS):
            while True:
                for event in machine.events:
                    if wanted(event):
                        return event
                    if event.get("event") == "ended":
                        raise Conflict(
                            f"The demo's machine '{machine.name}' ended at its start.\n{machine.log_tail()}"
                        )
                machine.news.clear()
                await machine.news.wait()
    except TimeoutError:
        raise Unreachable(
            f"The demo's machine '{machine.name}' was not ready after {READY_SECONDS:.0f} s.\n"
            f"{machine.log_tail()}"
        ) from None


async def _stop_all(machines: list[Machine]) -> None:
    """Agents first, all at once; the coordinator when they have said goodbye."""
    await asyncio.gather(*(_stop(machine) for machine in machines[1:]))
    await asyncio.gather(*(_stop(machine) for machine in machines[:1]))


async def _stop(machine: Machine) -> None:
    process = machine.process
    if process is None:
        return
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _remove(root: Path, machines: list[Machine]) -> None:
    for machine in machines:
        _wait_until_gone(machine.home)
        shutil.rmtree(work_root(machine.home), ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)


def _wait_until_gone(home: Home) -> None:
    """A killed agent's zygote clears up after it; its folders can go once it has."""
    end_at = time.monotonic() + STOP_SECONDS
    while _is_in_use(home) and time.monotonic() < end_at:
        time.sleep(0.05)


def _is_in_use(home: Home) -> bool:
    for process in psutil.process_iter(["cmdline"]):
        if str(home.root) in (process.info["cmdline"] or ()):
            return True
    return False
