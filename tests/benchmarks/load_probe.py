"""A whole coordinator in a process of its own that also measures itself; started by `load_desk`.

`python load_probe.py HOME [PORT]` serves HOME's mesh on loopback until its stdin ends. It says one JSON line
when it is ready, and one for each line that it reads: what happened since the one before. Nothing of the
coordinator is replaced; its loop, its meters and the arrival of heartbeats are looked at.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

import uvloop

from planetmesh import logs
from planetmesh.coordinator.engine import Engine
from planetmesh.coordinator.meters import Samples
from planetmesh.coordinator.service import CoordinatorOptions, running_coordinator
from planetmesh.mesh import nodes
from planetmesh.paths import Home
from planetmesh.settings import load_settings
from planetmesh.trust.identity import Identity

LOOK_SECONDS = 0.01
"""Between two looks at whether the event loop is late."""
CLOCK_FIELD = "disk_free_bytes"
"""Simulated agents put the steady time of sending there, in microseconds: both processes share that clock."""


def spread_of(values: list[float]) -> dict[str, float]:
    """Of some seconds, in milliseconds."""
    ordered = sorted(values) or [0.0]
    places = {"median": 0.5, "p99": 0.99, "most": 1.0}
    found = {
        name: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for name, share in places.items()
    }
    return {name: round(value * 1000, 3) for name, value in found.items()} | {"count": len(values)}


class Probe:
    """What happened since the last look."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._late: list[float] = []
        self._heartbeats: list[float] = []
        self._before: dict[str, float] = {}
        self._watch_heartbeats()

    def _watch_heartbeats(self) -> None:
        take_in = nodes.on_heartbeat

        def watched(state, node_id, load, now):
            self._heartbeats.append(time.monotonic() - getattr(load, CLOCK_FIELD) / 1e6)
            return take_in(state, node_id, load, now)

        nodes.on_heartbeat = watched

    async def watch_loop(self) -> None:
        while True:
            due = time.monotonic() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            self._late.append(time.monotonic() - due)

    def look(self) -> dict[str, Any]:
        meters, state = self._engine.meters, self._engine.state
        used = resource.getrusage(resource.RUSAGE_SELF)
        counted = {
            "at": time.monotonic(),
            "cpu_seconds": used.ru_utime + used.ru_stime,
            "happenings": meters.happenings,
            "placements": meters.placements.total(),
            "turns": meters.turns.count,
            "passes": meters.passes.count,
            "pass_seconds": meters.passes.total,
            "commits": meters.commits.count,
            "commit_seconds": meters.commits.total,
        }
        found = {name: value - self._before.get(name, 0.0) for name, value in counted.items()}
        self._before = counted
        late, self._late = self._late, []
        heartbeats, self._heartbeats = self._heartbeats, []
        return found | {
            "loop_late_ms": spread_of(late),
            "heartbeat_ms": spread_of(heartbeats),
            "pass_ms": _spread_of_samples(meters.passes, int(found["passes"])),
            "turn_ms": _spread_of_samples(meters.turns, int(found["turns"])),
            "connected": sum(live.connected for live in state.nodes.values()),
            "queued": sum(live.counts.queued for live in state.jobs.values()),
            "held": sum(len(live.held) for live in state.nodes.values()),
            "jobs": len(state.jobs),
        }


def _spread_of_samples(samples: Samples, since: int) -> dict[str, float]:
    return spread_of(samples.newest(since))


async def serve(root: Path) -> None:
    home = Home(root)
    began = time.monotonic()
    options = CoordinatorOptions(
        home=home,
        mesh_name="load",
        port=0 if len(sys.argv) < 3 else int(sys.argv[2]),
        bind=("127.0.0.1",),
        mdns=False,
        local_agent=False,
        settings=load_settings(home.settings_file),
    )
    async with running_coordinator(options) as coordinator:
        Identity.load(home.operator).remember_endpoint(f"127.0.0.1:{coordinator.port}")
        probe = Probe(coordinator.engine)
        say({"port": coordinator.port, "pid": os.getpid(), "load_seconds": time.monotonic() - began})
        lines: asyncio.Queue[str] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        threading.Thread(target=read, args=(loop, lines), daemon=True).start()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(probe.watch_loop())
            while await lines.get():
                say(probe.look())
            watching.cancel()


def read(loop: asyncio.AbstractEventLoop, lines: asyncio.Queue[str]) -> None:
    for line in sys.stdin:
        loop.call_soon_threadsafe(lines.put_nowait, line)
    loop.call_soon_threadsafe(lines.put_nowait, "")


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    logs.set_up("text")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
