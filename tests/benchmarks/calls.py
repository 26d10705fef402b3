"""No-op Python calls through planetmesh and its peers, in turn, in one run: calls a second, and one alone.

    python tests/benchmarks/calls.py                                  planetmesh alone
    python tests/benchmarks/calls.py --venvs DIR --rounds 3           beside Ray, Dask, Parsl, Celery

planetmesh is measured as people use it: coordinator and agent as real processes on loopback, mutual TLS,
every submit and value on the disk, sandbox on, by the SDK's `Mesh`. `--venvs` holds a virtual environment
for each peer (`DIR/ray`: ray psutil, `DIR/dask`: distributed psutil, `DIR/parsl`: parsl psutil, `DIR/celery`:
celery redis packaging psutil; Celery needs `redis-server` too, Dask and Celery `openssl`); a peer without one
is left out. One thing runs at a time; everything is bounded in count and time. Machines are noisy: compare
within one run.

Prints a JSON line for each measurement and a table of medians at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench_mesh import START_SECONDS, start, stop
from peer_calls import PEERS, measure

from planetmesh.client.sync_client import Mesh
from planetmesh.errors import MeshError

PEER_SECONDS = 300
"""A peer that takes longer for one round is given up."""
SYNCS = 200
PAGE = b"\0" * 4096
OURS = ("planetmesh", "planetmesh, one call a task")
SHOWN = {
    "planetmesh": "planetmesh (on disk, mutual TLS, sandbox)",
    "planetmesh, one call a task": "planetmesh, `chunk=1`",
    "ray": "Ray (in memory, no TLS)",
    "dask": "Dask (in memory, TLS)",
    "parsl": "Parsl (in memory, encrypted)",
    "celery": "Celery and Redis (in memory, TLS)",
}


def same(x: int) -> int:
    return x


def sync_ms(folder: Path) -> float:
    """What one page costs on this disk, over another as SQLite writes its log: nothing durable is quicker."""
    taken = []
    sync = getattr(os, "fdatasync", os.fsync)
    with (folder / "pages").open("w+b", buffering=0) as file:
        file.write(PAGE * SYNCS)
        os.fsync(file.fileno())
        file.seek(0)
        for _ in range(SYNCS):
            begun = time.perf_counter()
            file.write(PAGE)
            sync(file.fileno())
            taken.append((time.perf_counter() - begun) * 1000)
    return statistics.median(taken)


def opened(home: Path) -> Mesh:
    """The local operator's mesh, once its node runs calls."""
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            mesh = Mesh(home, patience_seconds=0.0)
            if any(node.state == "HEALTHY" for node in mesh.nodes()):
                return mesh
            mesh.close()
        except MeshError:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)


@contextmanager
def running() -> Iterator[tuple[subprocess.Popen[bytes], Mesh]]:
    """A mesh of this machine alone, and its operator's end of it."""
    with tempfile.TemporaryDirectory(prefix="calls-") as folder:
        home = Path(folder) / "home"
        home.mkdir(mode=0o700)
        process = start(home)
        try:
            with opened(home) as mesh:
                yield process, mesh
        finally:
            stop(process)


def measure_ours(name: str, calls: int, sequential: int) -> dict[str, Any]:
    with running() as (_process, mesh):
        made = mesh.using(chunk=1 if name == OURS[1] else 0)
        return {"name": name, "calls": calls} | measure(
            lambda count: made.map(same, range(count)).results(),
            lambda x: made.submit(same, x).result(),
            calls,
            sequential,
        )


def measure_peer(name: str, python: Path, calls: int, sequential: int) -> dict[str, Any] | None:
    script = Path(__file__).with_name("peer_calls.py")
    command = [str(python), str(script), name, str(calls), str(sequential)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PEER_SECONDS, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        print(f"# {name} failed: {str(error.stderr or error)[-300:]}", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(seen: dict[str, list[dict[str, Any]]]) -> str:
    """Medians (least to most), and how many times quicker planetmesh is."""
    lines = [
        "| | calls a second | ratio | one call, median ms | p99 ms | ratio |",
        "|---|---|---|---|---|---|",
    ]
    own = {key: _median(seen[OURS[0]], key) for key in ("calls_per_second", "median_ms")}
    for name, found in seen.items():
        rate, lone = _median(found, "calls_per_second"), _median(found, "median_ms")
        lines.append(
            f"| {SHOWN[name]} | {_show(found, 'calls_per_second')} | {own['calls_per_second'] / rate:.2f} "
            f"| {_show(found, 'median_ms')} | {_show(found, 'p99_ms')} | {lone / own['median_ms']:.2f} |"
        )
    return "\n".join(lines)


def _median(found: list[dict[str, Any]], key: str) -> float:
    return statistics.median(each[key] for each in found)


def _show(found: list[dict[str, Any]], key: str) -> str:
    values = [each[key] for each in found]
    return f"**{statistics.median(values):.4g}** ({min(values):.4g}-{max(values):.4g})"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--venvs", type=Path, help="a virtual environment for each peer")
    parser.add_argument("--only", default="", help="these, by name, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--peer-calls", type=int, default=5_000, help="the peers are slower")
    parser.add_argument("--sequential", type=int, default=300)
    parser.add_argument("--out", type=Path, help="append the JSON lines to this file")
    given = parser.parse_args()
    if not (0 < given.rounds <= 20 and 0 < given.calls <= 1_000_000 and 0 < given.sequential <= 100_000):
        parser.error("1 to 20 rounds, up to a million calls, up to 100 000 one after the other")
    return given


def main() -> None:
    given = arguments()
    pythons = {name: given.venvs / name / "bin" / "python" for name in PEERS} if given.venvs else {}
    peers = {name: python for name, python in pythons.items() if python.exists()}
    wanted = [name for name in (*OURS, *peers) if not given.only or name in given.only.split(",")]
    seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="calls-") as folder:
        for _ in range(given.rounds):
            print(
                json.dumps({"sync_ms": round(sync_ms(Path(folder)), 3), "load": os.getloadavg()[0]}),
                flush=True,
            )
            for name in wanted:
                if name in peers:
                    found = measure_peer(name, peers[name], given.peer_calls, given.sequential)
                else:
                    found = measure_ours(name, given.calls, given.sequential)
                if found is None:
                    continue
                seen[name].append(found)
                line = json.dumps({key: _short(value) for key, value in found.items()})
                print(line, flush=True)
                if given.out:
                    with given.out.open("a") as file:
                        file.write(line + "\n")
    if OURS[0] in seen:
        print(table(seen))


def _short(value: object) -> object:
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
