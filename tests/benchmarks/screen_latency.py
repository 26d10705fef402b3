"""From an event in the mesh to the dashboard's screen: idle, and while many small tasks run.

    python tests/benchmarks/screen_latency.py        40 events each way, 20 000 tasks beside them

A coordinator and an agent as real processes on loopback, mutual TLS, everything on the disk; the dashboard is
the real one, 200×60, drawn without a terminal in this process. An event is a job handed in that no node can
run: measured is the time from the call until its name stands on the screen. Bounded in count and time; prints
JSON lines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench_mesh import TRUE, connected, start, stop

from planetmesh.cli.draft_order import order_of
from planetmesh.client.async_client import AsyncMesh
from planetmesh.dashboard.app import Dashboard
from planetmesh.dashboard.feed import Watcher
from planetmesh.dashboard.snapshot import LinkState
from planetmesh.model.job import JobSpec, Range

PATIENCE_SECONDS = 30.0
LOOK_SECONDS = 0.005
"""Between two looks at the screen: how exact a time is."""


async def seen(app: Dashboard, text: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not any(  # noqa: ASYNC110  the screen tells nobody when it was drawn
            text in "".join(segment.text for segment in strip)
            for strip in app.screen._compositor.render_strips()
        ):
            await asyncio.sleep(LOOK_SECONDS)


async def event_seconds(mesh: AsyncMesh, app: Dashboard, name: str) -> float:
    """The newest job stands first in the list, so it is on screen as soon as it is drawn."""
    began = time.perf_counter()
    handle = await mesh.submit(
        JobSpec(type="command", payload={"argv": [TRUE]}, name=name, tags=("nobody-has-it",))
    )
    await seen(app, name)
    taken = time.perf_counter() - began
    await handle.cancel()
    return taken


async def measure(home: Path, events: int, tasks: int) -> None:
    async with connected(home, nodes=1) as mesh:
        app = Dashboard(Watcher(lambda: AsyncMesh(home, patience_seconds=0.0)), order_of)
        async with app.run_test(size=(200, 60)) as pilot:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while app.snapshot.link.state is not LinkState.LIVE:
                    await pilot.pause(0.05)
            tell("idle", [await event_seconds(mesh, app, f"idle{number}") for number in range(events)])
            load = await mesh.submit(
                JobSpec(
                    type="command",
                    payload={"argv": [TRUE]},
                    inputs=Range(1, tasks),
                    max_attempts=1,
                    duplicates=False,
                )
            )
            began, before = time.perf_counter(), (await load.status()).tasks.completed
            taken = [await event_seconds(mesh, app, f"busy{number}") for number in range(events)]
            view = await load.status()
            rate = (view.tasks.completed - before) / (time.perf_counter() - began)
            tell("busy", taken, tasks_a_second=round(rate), is_over=view.completed_at is not None)
            await load.cancel()


def tell(name: str, taken: list[float], **more: object) -> None:
    found = {
        "name": name,
        "events": len(taken),
        "median_ms": round(statistics.median(taken) * 1000),
        "least_ms": round(min(taken) * 1000),
        "most_ms": round(max(taken) * 1000),
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(found | more), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=40)
    parser.add_argument("--tasks", type=int, default=20_000)
    given = parser.parse_args()
    if not (0 < given.events <= 1000 and 0 < given.tasks <= 1_000_000):
        parser.error("up to 1 000 events and a million tasks")
    with tempfile.TemporaryDirectory(prefix="screen-") as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        process = start(home)
        try:
            asyncio.run(measure(home, given.events, given.tasks))
        finally:
            stop(process)


if __name__ == "__main__":
    sys.exit(main())
