"""planetmesh put through the peers' workloads: a coordinator and one agent as real processes on loopback.

Run by hand, beside the peers in the same run::

    BENCH_WORK=cold,w1,w3,w4,w5 python tests/benchmarks/bench_mesh.py

Prints JSON lines in the form of the peers' scripts (W1: no-op command tasks a second, W3: latency of one
task, W4: idle memory and CPU, W5: submitting many). Everything is durable, over mutual TLS and with the
sandbox on: that is how planetmesh always runs. `BENCH_N_CMD`, `BENCH_N_LAT`, `BENCH_N_SCALE` set the sizes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from planetmesh.client.async_client import AsyncMesh
from planetmesh.errors import MeshError
from planetmesh.model.job import Items, JobSpec, Range

WORK = os.environ.get("BENCH_WORK", "cold,w1,w3,w4").split(",")
N_CMD = int(os.environ.get("BENCH_N_CMD", "5000"))
N_LAT = int(os.environ.get("BENCH_N_LAT", "200"))
N_SCALE = int(os.environ.get("BENCH_N_SCALE", "100000"))
START_SECONDS = 30
IDLE_SECONDS = 5
TRUE = "/bin/true"
NAME = "planetmesh"
ON_LOOPBACK = ("--bind", "127.0.0.1", "--no-mdns", "--cpus", "2")


def emit(metric: str, value: float, unit: str, **extra: object) -> None:
    line = json.dumps({"peer": NAME, "metric": metric, "value": value, "unit": unit, **extra})
    print(line, flush=True)
    if path := os.environ.get("BENCH_OUT"):
        with Path(path).open("a") as file:
            file.write(line + "\n")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(home: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "planetmesh", "up", "--home", str(home), "--new"]
    return subprocess.Popen(
        [*command, "--port", str(free_port()), *ON_LOOPBACK, *options],
        stdout=subprocess.DEVNULL,
        stderr=(home / "up.log").open("wb"),
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()


@asynccontextmanager
async def connected(home: Path, *, nodes: int) -> AsyncIterator[AsyncMesh]:
    """The local operator, as soon as so many nodes are healthy."""
    until = time.monotonic() + START_SECONDS
    while not await is_usable(home, nodes):
        if time.monotonic() > until:
            raise TimeoutError((home / "up.log").read_text())
        await asyncio.sleep(0.01)
    async with AsyncMesh(home) as mesh:
        yield mesh


async def is_usable(home: Path, nodes: int) -> bool:
    try:
        async with AsyncMesh(home, patience_seconds=0.0) as mesh:
            return sum(node.state == "HEALTHY" for node in await mesh.nodes()) >= nodes
    except MeshError:
        return False


def job(count: int) -> JobSpec:
    return JobSpec(type="command", payload={"argv": [TRUE]}, inputs=Range(1, count))


async def run(mesh: AsyncMesh, count: int) -> None:
    handle = await mesh.submit(job(count), wait_seconds=20)
    view = await handle.wait()
    assert view.tasks.completed == count, view


def tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def memory_mib(processes: list[psutil.Process]) -> float:
    return sum(each.memory_full_info().pss for each in processes) / 2**20


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in processes)


async def measure_latency(mesh: AsyncMesh) -> None:
    taken = []
    for index in range(N_LAT + 10):
        begun = time.perf_counter()
        await run(mesh, 1)
        if index >= 10:
            taken.append((time.perf_counter() - begun) * 1000)
    taken.sort()
    emit("w3_cmd_median", round(statistics.median(taken), 3), "ms", n=N_LAT)
    emit("w3_cmd_p99", round(taken[int(N_LAT * 0.99) - 1], 3), "ms", n=N_LAT)


async def with_agent(home: Path) -> None:
    begun = time.perf_counter()
    process = start(home)
    try:
        async with connected(home, nodes=1) as mesh:
            await run(mesh, 1)
            if "cold" in WORK:
                emit("cold_start", round(time.perf_counter() - begun, 3), "s")
            await run(mesh, 200)
            await asyncio.sleep(1)
            if "w4" in WORK:
                await measure_idle(process.pid)
            if "w1" in WORK:
                begun = time.perf_counter()
                await run(mesh, N_CMD)
                seconds = time.perf_counter() - begun
                emit("w1_cmd", round(N_CMD / seconds, 1), "tasks/s", n=N_CMD, seconds=round(seconds, 3))
            if "w3" in WORK:
                await measure_latency(mesh)
    finally:
        stop(process)


async def measure_idle(pid: int) -> None:
    processes = tree(pid)
    emit("idle_total", round(memory_mib(processes), 1), "MiB PSS", processes=len(processes))
    before = cpu_seconds(processes)
    await asyncio.sleep(IDLE_SECONDS)
    used = (cpu_seconds(processes) - before) / IDLE_SECONDS * 100
    emit("idle_cpu", round(used, 2), "% of one core")


async def submit_only(home: Path) -> None:
    process = start(home, "--no-agent")
    try:
        async with connected(home, nodes=0) as mesh:
            resident = psutil.Process(process.pid).memory_info().rss
            names = Items(tuple(f"input-{index}.dat" for index in range(N_SCALE)))
            for kind, inputs in (("range", Range(1, N_SCALE)), ("list", names)):
                begun = time.perf_counter()
                await mesh.submit(JobSpec(type="command", payload={"argv": [TRUE]}, inputs=inputs))
                emit("w5_submit", round(time.perf_counter() - begun, 4), "s", n=N_SCALE, kind=kind)
                grown = psutil.Process(process.pid).memory_info().rss - resident
                emit("w5_bytes_per_task", round(grown / N_SCALE), "B", kind=kind)
                resident += grown
    finally:
        stop(process)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if set(WORK) & {"cold", "w1", "w3", "w4"}:
            home = Path(folder) / "with-agent"
            home.mkdir(mode=0o700)
            asyncio.run(with_agent(home))
        if "w5" in WORK:
            home = Path(folder) / "submit-only"
            home.mkdir(mode=0o700)
            asyncio.run(submit_only(home))


if __name__ == "__main__":
    main()
