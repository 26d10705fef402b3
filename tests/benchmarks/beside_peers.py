"""planetmesh and its peers through the same workloads, in turn, in one run; prints a table of medians.

    python tests/benchmarks/beside_peers.py --peers DIR --venvs DIR [--repeats 3] [--work w1,w3] [NAME ...]

`--peers` holds the peers' scripts (`peer_NAME.py`, which print JSON lines as `bench_mesh.py` does), `--venvs`
one virtual environment per peer; a peer without one is left out. One thing runs at a time. Machines are
noisy: compare within one run only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

OURS = Path(__file__).with_name("bench_mesh.py")
WITHOUT_VENV = ("local", "shell")
LIMIT_SECONDS = 600
METRICS = {
    "cold_start": "cold start, s",
    "w1_cmd": "W1 no-op commands, tasks/s",
    "w3_cmd_median": "W3 one command, median ms",
    "w3_cmd_p99": "W3 one command, p99 ms",
    "idle_total": "idle, MiB PSS",
    "idle_cpu": "idle, % of a core",
}

Row = tuple[str, str]


def measure(command: list[str], work: str) -> list[dict[str, object]]:
    """Run one script and read its lines."""
    env = os.environ | {"BENCH_WORK": work, "TQDM_DISABLE": "1"}
    done = subprocess.run(
        command, env=env, stdout=subprocess.PIPE, text=True, timeout=LIMIT_SECONDS, check=False
    )
    if done.returncode:
        print(f"# {command[-1]} ended with {done.returncode}", file=sys.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def contestants(peers: Path, venvs: Path, wanted: list[str]) -> dict[str, list[str]]:
    found = {"planetmesh": [sys.executable, str(OURS)]}
    for script in sorted(peers.glob("peer_*.py")):
        name = script.stem.removeprefix("peer_")
        python = sys.executable if name in WITHOUT_VENV else str(venvs / name / "bin" / "python")
        if Path(python).exists() and (not wanted or name in wanted):
            found[name] = [python, str(script)]
    return found


def table(seen: dict[Row, list[float]]) -> str:
    names = sorted({name for name, _ in seen})
    metrics = [metric for metric in METRICS if any(key[1] == metric for key in seen)]
    lines = [
        "| | " + " | ".join(METRICS[metric] for metric in metrics) + " |",
        "|---" * (len(metrics) + 1) + "|",
    ]
    for name in names:
        cells = [show(seen.get((name, metric), [])) for metric in metrics]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def show(values: list[float]) -> str:
    if not values:
        return ""
    return f"**{statistics.median(values):.4g}** ({min(values):.4g}-{max(values):.4g})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--venvs", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", default="w1,w3")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    seen: dict[Row, list[float]] = defaultdict(list)
    for repeat in range(given.repeats):
        for name, command in contestants(given.peers, given.venvs, given.names).items():
            print(f"# repeat {repeat + 1}: {name}", file=sys.stderr)
            for line in measure(command, given.work):
                seen[str(line["peer"]), str(line["metric"])].append(float(str(line["value"])))
    print(table(seen))


if __name__ == "__main__":
    main()
