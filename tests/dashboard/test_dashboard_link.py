"""The way to the coordinator: lost, found again, refused; and the storm of events that may come over it."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from builders import hello, node_id
from watch_world import PATIENCE_SECONDS, Seat, World, seated, watcher_of

from planetmesh.cli.draft_order import order_of
from planetmesh.client.async_client import AsyncMesh
from planetmesh.coordinator.service import Coordinator, CoordinatorOptions, running_coordinator
from planetmesh.dashboard.app import Dashboard
from planetmesh.dashboard.feed import Watcher
from planetmesh.dashboard.snapshot import LinkState
from planetmesh.mesh import nodes
from planetmesh.model.job import Outcome
from planetmesh.model.node import Node, NodeLoad
from planetmesh.paths import Home
from planetmesh.trust.identity import Identity


@asynccontextmanager
async def coordinating(home: Home, port: int = 0) -> AsyncIterator[Coordinator]:
    options = CoordinatorOptions(home, "den", port=port, bind=("127.0.0.1",), mdns=False, local_agent=False)
    async with running_coordinator(options) as coordinator:
        yield coordinator


@pytest.mark.slow
async def test_a_coordinator_that_goes_away_is_tried_again_by_itself(home: Home) -> None:
    async with coordinating(home) as coordinator:
        port = coordinator.port
        app = Dashboard(Watcher(lambda: AsyncMesh(home.root, patience_seconds=0.0)), order_of)
        running = app.run_test(size=(100, 24), notifications=True)
        pilot = await running.__aenter__()
        seat = Seat(None, app, pilot)
        await seat.sees("den", "live")
    try:
        await seat.sees("The coordinator is away; tried again in", "away")
        await seat.press("3", "s")
        await seat.type("true")
        await seat.press("ctrl+s")
        await seat.sees("✗", "The coordinator is away: nothing was done.")
        async with coordinating(home, port):
            await seat.until(lambda: app.snapshot.link.state is LinkState.LIVE)
            await seat.until(lambda: "The coordinator is away" not in seat.text)
    finally:
        await running.__aexit__(None, None, None)


@pytest.mark.slow
async def test_without_a_coordinator_it_says_where_it_looked(home: Home) -> None:
    async with coordinating(home):
        pass
    app = Dashboard(Watcher(lambda: AsyncMesh(home.root, patience_seconds=0.0)), order_of)
    async with app.run_test(size=(100, 24)) as pilot:
        await Seat(None, app, pilot).sees("cannot be reached", "refused", "tried again in")


@pytest.mark.slow
async def test_it_ends_with_its_terminal_also_without_a_signal(home: Home) -> None:
    """Textual would read from what is gone for ever, with a whole core."""
    async with coordinating(home):
        pass
    master, slave = pty.openpty()
    program = [sys.executable, "-m", "planetmesh", "--home", str(home.root), "dashboard"]
    env = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        program, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
    )
    os.close(slave)
    try:
        shown = b""
        while b"cannot be reached" not in shown:
            shown += await asyncio.to_thread(os.read, master, 65536)
        os.close(master)
        assert await asyncio.to_thread(process.wait, PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


async def test_a_revoked_dashboard_is_told_so(world: World) -> None:
    async with seated(world) as seat:
        (folder,) = [each for each in world.folder.iterdir() if each.name.startswith("seat-operator")]
        member = Identity.load(folder / "operator").principal.id
        client = await world.client()
        answer = await client.ask("DELETE", f"/v1/members/{member}")
        assert answer.status == 200, answer.body
        await seat.sees("refused", "revoked")


@pytest.mark.slow
async def test_ten_thousand_events_a_second_freeze_nothing(world: World) -> None:
    """As fast as it can be told: the screen is painted at most five times a second, and keys work."""
    for number in range(50):
        await world.add_node(f"node-{number:02}", cpus=4)
    feed, state, now = world.engine.feed, world.engine.state, world.engine.read_clock()
    ids = list(state.nodes)
    async with seated(world) as seat:
        await seat.press("2")
        await seat.sees("node-00")
        watcher, app = seat.app.watcher, seat.app
        began, events_before, repaints_before = time.monotonic(), watcher.events, app.repaints
        told = 0
        while time.monotonic() - began < 4.0:
            for _ in range(20):
                feed.publish(state, (), (), (), ids, now)
            told += 20 * len(ids)
            await asyncio.sleep(0.01)
        seconds = time.monotonic() - began
        assert app.repaints - repaints_before <= 5 * seconds + 2
        await seat.press("3")
        await seat.sees("There are no jobs yet")
        assert watcher.events > events_before
        print(f"{told / seconds:.0f} told a second, {(watcher.events - events_before) / seconds:.0f} read")


@pytest.mark.slow
async def test_a_thousand_nodes(world: World) -> None:
    def join(state, now):
        found = []
        for number in range(1000):
            name = f"n{number:04}"
            found += nodes.on_node_enrolled(state, Node(id=node_id(name), name=name, created_at=1.0), now)
            found += nodes.on_node_joined(state, nodes.Joining(node_id(name), 1, hello(cpus=4)), "home", now)
        return found

    await world.engine.do(join)
    async with seated(world) as seat:
        await seat.press("2")
        await seat.sees("n0000")
        await seat.press("end")
        await seat.sees("n0999")
        load = NodeLoad(0.77, 2**30)
        await world.engine.do(lambda state, now: nodes.on_heartbeat(state, node_id("n0999"), load, now))
        await seat.sees("77%")


async def test_throughput_is_counted_from_what_is_told(world: World) -> None:
    await world.add_node("desk", cpus=8)
    client = await world.client()
    job_id = await client.submit(inputs={"type": "range", "first": 0, "last": 5}, max_attempts=1)
    watcher = await watcher_of(world)
    watcher.start()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while watcher.latest.link.state is not LinkState.LIVE:  # noqa: ASYNC110  another thread's
                await asyncio.sleep(0.01)
            for index in range(6):
                await world.finish(job_id, index, Outcome.OK if index else Outcome.EXIT_CODE)
            while sum(watcher.latest.done) < 5 or sum(watcher.latest.failed) < 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert watcher.latest.job_counts["FAILED"] == 1
    finally:
        watcher.stop()
