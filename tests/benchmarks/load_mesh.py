"""How planetmesh bears load: 1 000 simulated agents, 1 000 000 queued tasks, a real coordinator process.

    python tests/benchmarks/load_mesh.py                     all of it, some ten minutes
    python tests/benchmarks/load_mesh.py --agents 100 --tasks 10000 --forms range --seconds 3
    python tests/benchmarks/load_mesh.py --help

One process (this one) is all agents: real client certificates of a throw-away mesh, TLS, WebSockets, frames;
no task is run. The other is the coordinator, as `up` composes it. Loopback only; everything is bounded in
count and time.
Prints one JSON line per finding and a table at the end; `--out FILE` keeps the lines.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from load_agents import Crowd
from load_desk import Desk, make_home
from load_report import Report

from planetmesh.client.async_client import AsyncMesh
from planetmesh.model.job import Inputs, Items, JobSpec, Range
from planetmesh.settings import Settings
from planetmesh.trust.identity import Identity

FORMS = ("range", "list", "ten", "many")
SUBMITS_AT_ONCE = 8
CONNECT_SECONDS = 120.0
DRAIN_SECONDS = 900.0
"""Until half of the tasks have ended."""
FILES_BESIDE_LINKS = 200
LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
GROWTH_TASKS = 20_000
"""Ended for each length of the queue whose cost is compared."""


def jobs_of(form: str, tasks: int) -> list[Inputs]:
    """A form's jobs: a range, a list of names, ten ranges, or ranges of a hundred tasks."""
    if form == "list":
        return [Items(tuple(f"input-{index}.dat" for index in range(tasks)))]
    each = {"range": tasks, "ten": max(1, tasks // 10), "many": 100}[form]
    return [Range(1, each)] * max(1, tasks // each)


async def submit(home: Path, inputs: list[Inputs]) -> float:
    """Hand in a job for each; the seconds until all were acknowledged."""
    left = iter(inputs)
    async with AsyncMesh(home) as mesh:
        await mesh.status()
        began = time.monotonic()

        async def some() -> None:
            for each in left:
                await mesh.submit(JobSpec(type="command", payload={"argv": ["/bin/true"]}, inputs=each))

        async with asyncio.TaskGroup() as group:
            for _ in range(min(SUBMITS_AT_ONCE, len(inputs))):
                group.create_task(some())
        return time.monotonic() - began


class Load:
    """One run of the tool."""

    def __init__(self, given: argparse.Namespace, folder: Path, identities: list[Identity]) -> None:
        self.given = given
        self.folder = folder
        self.identities = identities
        self.report = Report(given.out)

    def desk(self, name: str) -> Desk:
        return Desk(self.folder / name, self.folder / "home")

    def crowd(self, desk: Desk, draw: Callable[[], float]) -> Crowd:
        beat = Settings().heartbeat_seconds
        return Crowd(self.identities, desk.port, slots=self.given.slots, draw=draw, heartbeat_seconds=beat)

    def draw(self) -> float:
        least, most = self.given.task_seconds
        return random.uniform(least, most)

    async def idle(self) -> None:
        """Agents and nothing to do."""
        desk = self.desk("idle")
        try:
            await desk.start()
            before = await desk.memory()
            async with self.crowd(desk, self.draw) as crowd:
                seconds = await crowd.all_up(CONNECT_SECONDS)
                self.report.add("idle", connect_s=seconds)
                await asyncio.sleep(self.given.warm_seconds)
                await self._watch(desk, crowd, "idle")
                grown = await desk.memory() - before
                self.report.add("idle", bytes_per_agent=grown / len(self.identities))
        finally:
            await desk.close()

    async def form(self, form: str) -> None:
        """Submit, look at memory and disk, restart, then let the agents work."""
        tasks, inputs = self.given.tasks, jobs_of(form, self.given.tasks)
        desk = self.desk(form)
        try:
            await desk.start()
            memory, disk = await desk.memory(), desk.disk()
            await desk.look()
            seconds = await submit(desk.home, inputs)
            looked = await desk.look()
            self.report.add(
                form,
                submit_s=seconds,
                submit_late_ms=looked["loop_late_ms"]["most"],
                bytes_memory=(await desk.memory() - memory) / tasks,
                bytes_disk=(desk.disk() - disk) / tasks,
            )
            await desk.kill()
            started = await desk.start()
            self.report.add(
                form, restart_queued_s=started["start_s"], restart_queued_load_s=started["load_s"]
            )
            self.report.add(form, bytes_memory_restarted=(await desk.memory() - memory) / tasks)
            async with self.crowd(desk, self.draw) as crowd:
                await crowd.all_up(CONNECT_SECONDS)
                await asyncio.sleep(self.given.warm_seconds)
                await self._watch(desk, crowd, form)
        finally:
            await desk.close()

    async def _watch(self, desk: Desk, crowd: Crowd, row: str) -> None:
        """Look at a span of time."""
        await desk.look()
        ended = crowd.acknowledged
        await asyncio.sleep(self.given.seconds)
        looked = await desk.look()
        links = {"lost_links": len(crowd.losses), "unanswered_calls": len(crowd.unanswered)}
        self.report.add(row, **_rates(looked, crowd.acknowledged - ended), **links)

    async def half_ended(self) -> None:
        """Restart with half of the tasks ended and half queued, agents connected."""
        desk = self.desk("half")
        try:
            await desk.start()
            await submit(desk.home, jobs_of("range", self.given.tasks))
            async with self.crowd(desk, lambda: 0.0) as crowd:
                await crowd.all_up(CONNECT_SECONDS)
                await desk.look()
                ended = crowd.acknowledged
                if not await crowd.ended(self.given.tasks // 2, DRAIN_SECONDS):
                    raise TimeoutError(f"Only {crowd.acknowledged} tasks ended.")
                looked = await desk.look()
                self.report.add("at once", **_rates(looked, crowd.acknowledged - ended))
                await desk.kill()
                ended, began = crowd.acknowledged, time.monotonic()
                started = await desk.start()
                self.report.add("half", restart_s=started["start_s"], load_s=started["load_s"])
                await crowd.all_up(CONNECT_SECONDS)
                self.report.add("half", all_back_s=time.monotonic() - began, ended_before=ended)
        finally:
            await desk.close()

    async def growth(self) -> None:
        """What one task costs the coordinator, by how long the queue is."""
        for length in (each for each in LENGTHS if each <= self.given.tasks):
            desk = self.desk(f"growth-{length}")
            try:
                await desk.start()
                async with self.crowd(desk, self.draw) as crowd:
                    await crowd.all_up(CONNECT_SECONDS)
                    await desk.look()
                    most = min(GROWTH_TASKS, self.given.tasks)
                    while crowd.acknowledged < most:
                        due = min(most, crowd.acknowledged + length)
                        await submit(desk.home, jobs_of("list", length))
                        if not await crowd.ended(due, DRAIN_SECONDS):
                            raise TimeoutError(f"Only {crowd.acknowledged} tasks ended.")
                    looked = await desk.look()
                    self.report.add(f"queue {length:,}", **_rates(looked, crowd.acknowledged))
            finally:
                await desk.close()


def _rates(looked: dict[str, Any], ended: int) -> dict[str, float]:
    seconds = looked["at"]
    found = {
        "tasks_per_s": ended / seconds,
        "cpu_share": looked["cpu_seconds"] / seconds,
        "passes_per_s": looked["passes"] / seconds,
        "pass_share": looked["pass_seconds"] / seconds,
        "commits_per_s": looked["commits"] / seconds,
        "commit_share": looked["commit_seconds"] / seconds,
        "placements_per_pass": looked["placements"] / max(1, looked["passes"]),
        "queued": looked["queued"],
        "held": looked["held"],
    }
    if ended:
        found["cpu_us_per_task"] = looked["cpu_seconds"] / ended * 1e6
    for name in ("pass_ms", "turn_ms", "heartbeat_ms", "loop_late_ms"):
        found |= {f"{name}_{place}": looked[name][place] for place in ("median", "p99", "most", "count")}
    return found


def raise_file_limit(agents: int) -> None:
    """One socket for each agent, in each of the two processes; says what to do where that is too many."""
    wanted = agents + FILES_BESIDE_LINKS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        sys.exit(
            f"{agents} agents need {wanted} open files and this user may have {hard}. "
            f"Raise the hard limit (`ulimit -Hn {wanted}` as root, or limits.conf), or give fewer --agents."
        )
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def run(given: argparse.Namespace) -> Report:
    with tempfile.TemporaryDirectory(prefix="load-") as name:
        folder = Path(name)
        identities = await make_home(folder, given.agents)
        load = Load(given, folder, identities)
        if "idle" in given.parts:
            await load.idle()
        if "forms" in given.parts:
            for form in given.forms:
                await load.form(form)
        if "half" in given.parts:
            await load.half_ended()
        if "growth" in given.parts:
            await load.growth()
        return load.report


def arguments() -> argparse.Namespace:
    def words(text: str) -> list[str]:
        return text.split(",")

    def span(text: str) -> tuple[float, float]:
        least, _, most = text.partition("..")
        return float(least), float(most or least)

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--slots", type=int, default=4, help="CPUs that each agent offers")
    parser.add_argument("--task-seconds", type=span, default=(0.05, 0.5), help="LEAST..MOST, drawn evenly")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each span that is measured")
    parser.add_argument("--warm-seconds", type=float, default=3.0, help="before each of them")
    parser.add_argument("--parts", type=words, default=["idle", "forms", "half", "growth"])
    parser.add_argument("--forms", type=words, default=list(FORMS))
    parser.add_argument("--out", type=Path, help="append the JSON lines to this file")
    given = parser.parse_args()
    if not (0 < given.agents <= 2000 and 0 < given.tasks <= 10_000_000 and 0 < given.seconds <= 600):
        parser.error("1 to 2000 agents, 1 to 10 million tasks, spans of up to 600 seconds")
    if unknown := set(given.forms) - set(FORMS):
        parser.error(f"unknown forms {unknown}; there are {FORMS}")
    return given


def main() -> None:
    given = arguments()
    raise_file_limit(given.agents)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(run(given))
    print(report.table())


if __name__ == "__main__":
    main()
