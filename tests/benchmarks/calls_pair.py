"""One call after the other by two versions of planetmesh, in turn: what a change does to a call's time.

    python tests/benchmarks/calls_pair.py BEFORE/.venv/bin/python AFTER/.venv/bin/python --pairs 20

Each interpreter starts a mesh of its own version (a work tree with an environment) and keeps it; they are
called 60 times one after the other in turn, so both meet the same disturbances. Prints medians, and the
median of the pairs' ratios: milliseconds of a call, and of processors' time for it by process (Linux only).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench_mesh import tree
from calls import running, same

SERVE = "--serve"
CALLS = 60
WARM_UP = 100
PLACES = ("coordinator", "agent", "zygote")
"""By their order in the tree of processes; all others are launchers and workers."""


def used(pid: int) -> dict[str, int]:
    """Nanoseconds of processor so far, by kind of process."""
    found = {"client": _nanoseconds(os.getpid())}
    for place, process in enumerate(tree(pid)):
        name = PLACES[place] if place < len(PLACES) else "launchers"
        found[name] = found.get(name, 0) + _nanoseconds(process.pid)
    return found


def _nanoseconds(pid: int) -> int:
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def serve() -> None:
    """One side: a block of calls for each line that comes, and a line of JSON for each."""
    with running() as (process, mesh):
        calls = mesh.using()
        for number in range(WARM_UP):
            calls.submit(same, number).result()
        print(flush=True)
        for _line in sys.stdin:
            # The end of the pause since the last block made a job of its own.
            calls.submit(same, 0).result()
            before, taken = used(process.pid), []
            for number in range(CALLS):
                begun = time.perf_counter()
                calls.submit(same, number).result()
                taken.append((time.perf_counter() - begun) * 1000)
            after = used(process.pid)
            spent = {name: (after[name] - before.get(name, 0)) / CALLS / 1e6 for name in after}
            told = {"call": statistics.median(taken), "all": sum(spent.values())} | spent
            print(json.dumps(told), flush=True)


class Side:
    """One version, in a process of its own."""

    def __init__(self, python: Path) -> None:
        command = [str(python), str(Path(__file__).resolve()), SERVE]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._hear()

    def block(self) -> dict[str, float]:
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        told: dict[str, float] = json.loads(self._hear())
        return told

    def end(self) -> None:
        self._process.communicate()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("One of the two versions has ended; its mesh did not come up, perhaps.")
        return line


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path, help="the interpreter of one version")
    parser.add_argument("after", type=Path, help="and of the other")
    parser.add_argument("--pairs", type=int, default=20)
    given = parser.parse_args()
    sides = (Side(given.before), Side(given.after))
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for number in range(given.pairs):
        if number % 2:
            pairs.append((sides[0].block(), sides[1].block()))
        else:
            after = sides[1].block()
            pairs.append((sides[0].block(), after))
    for side in sides:
        side.end()
    print(f"load {os.getloadavg()[0]:.1f}")
    for name in pairs[0][0]:
        before, after = ([pair[place].get(name, 0.0) for pair in pairs] for place in (0, 1))
        ratios = [new / old for old, new in zip(before, after, strict=True) if old]
        ratio = statistics.median(ratios) if ratios else 1.0
        medians = f"{statistics.median(before):7.3f} {statistics.median(after):7.3f} ms"
        print(f"{name:12} {medians}, ratio {ratio:.3f}")


if __name__ == "__main__":
    serve() if sys.argv[1:] == [SERVE] else main()
