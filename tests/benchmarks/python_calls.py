"""No-op Python calls through a real mesh: a coordinator and its agent as real processes on loopback.

    python tests/benchmarks/python_calls.py
    python tests/benchmarks/python_calls.py --calls 100000 --chunks 0,1000 --rounds 3

From the submit of a pickled function with one plain argument a call until the last value is read: durable,
over mutual TLS and in the sandbox. For each size of chunk (0: the scheduler cuts them) one JSON line for each
round: calls a second, seconds until the submit was acknowledged, until the first value was here and until the
last was, how many tasks it became, and the CPU seconds of each process meanwhile. Then the latency of single
calls: submit a job of one, wait for its value.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
import time
from base64 import b64encode
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
from bench_mesh import connected, cpu_seconds, start, stop, tree

from planetmesh.client.async_client import AsyncMesh
from planetmesh.model.job import Items, JobSpec
from planetmesh.wire.calls import VALUES, read_frames
from planetmesh.wire.python import tag_of

VERSION = ".".join(platform.python_version_tuple()[:2])
LATENCY_CALLS = 200


def same(x: int) -> int:
    return x


def spec_of(calls: int, chunk: int) -> JobSpec:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return JobSpec(
        type="python",
        payload={
            "function": b64encode(cloudpickle.dumps(same)).decode(),
            "python": VERSION,
            "name": "same",
        },
        inputs=Items(tuple(f'{{"a":[{number}]}}' for number in range(calls))),
        chunk=chunk,
        tags=(tag_of(VERSION),),
    )


async def values_of(mesh: AsyncMesh, spec: JobSpec) -> dict[str, Any]:
    """Submit, follow the values, check that all came."""
    begun = time.perf_counter()
    handle = await mesh.submit(spec)
    acknowledged = time.perf_counter()
    first = 0.0
    parts: dict[int, list[bytes]] = {}
    async with aclosing(mesh.output(handle.id, stream=VALUES, following=True)) as pieces:
        async for piece in pieces:
            first = first or time.perf_counter()
            parts.setdefault(piece.index, []).append(piece.data)
    ended = time.perf_counter()
    size = max(1, spec.chunk)
    found: dict[int, bytes] = {}
    for index, data in parts.items():
        frames = read_frames(b"".join(data), spec.inputs.count)
        found |= {index * size + number: bytes(frame.v) for number, frame in frames.items() if frame.v}
    assert {number: int(value) for number, value in found.items()} == {n: n for n in range(spec.inputs.count)}
    return {
        "calls": spec.inputs.count,
        "chunk": spec.chunk,
        "tasks": len(parts),
        "calls_per_second": round(spec.inputs.count / (ended - begun)),
        "acknowledged": round(acknowledged - begun, 3),
        "first_value": round(first - begun, 3),
        "last_value": round(ended - begun, 3),
        "read": round(time.perf_counter() - ended, 3),
    }


def used_by(pid: int) -> dict[str, float]:
    """CPU seconds so far. Workers end with their job, so what they have used is in nobody's sum."""
    used = {"client": cpu_seconds([psutil.Process()])}
    for place, each in enumerate(tree(pid)):
        with suppress(psutil.Error):
            name = {0: "coordinator", 1: "agent", 2: "zygote"}.get(place, f"launcher {each.pid}")
            used[name] = cpu_seconds([each])
    return used


async def measure(home: Path, given: argparse.Namespace) -> None:
    process = start(home)
    try:
        async with connected(home, nodes=1) as mesh:
            await values_of(mesh, spec_of(1, 1))
            for chunk in map(int, given.chunks.split(",")):
                for _ in range(given.rounds):
                    before = used_by(process.pid)
                    told = await values_of(mesh, spec_of(given.calls, chunk))
                    after = used_by(process.pid)
                    told["cpu"] = {name: round(after[name] - before.get(name, 0.0), 2) for name in after}
                    print(json.dumps(told), flush=True)
            taken = []
            for _ in range(LATENCY_CALLS):
                begun = time.perf_counter()
                await values_of(mesh, spec_of(1, 1))
                taken.append((time.perf_counter() - begun) * 1000)
            taken.sort()
            print(json.dumps({
                "latency_ms": {"median": round(statistics.median(taken), 2), "p99": round(taken[-3], 2)},
                "calls": LATENCY_CALLS,
            }))  # fmt: skip
    finally:
        stop(process)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--chunks", default="0,1,100,1000")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        asyncio.run(measure(home, given))


if __name__ == "__main__":
    main()
