"""How many `/bin/true` one confined launcher starts a second, beside a bare loop of subprocess.

    python tests/benchmarks/bench_launcher.py [TASKS [ROUNDS]]

Both keep two processes in flight. The bare loop has one pipe, no folder, no session, no reports; rounds
alternate, and the median of their ratios is what counts on a machine whose speed wanders.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from planetmesh.agent.sandbox import folders
from planetmesh.agent.sandbox.handle import Zygote
from planetmesh.agent.sandbox.messages import Ended, LauncherSpec, Report, Start

PROGRAM = "/bin/true"
SLOTS = 2


def bare(tasks: int) -> float:
    """Starts a second of subprocess.Popen in this process."""
    env = {"PATH": "/usr/bin:/bin", "HOME": "/tmp"}
    running: dict[int, subprocess.Popen[bytes]] = {}
    started = 0
    begun = time.perf_counter()
    while started < tasks or running:
        while started < tasks and len(running) < SLOTS:
            process = subprocess.Popen([PROGRAM], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env)
            process.returncode = 0
            running[process.pid] = process
            started += 1
        pid, _ = os.wait()
        stdout = running.pop(pid).stdout
        assert stdout is not None
        stdout.close()
    return tasks / (time.perf_counter() - begun)


async def measure(zygote: Zygote, root: Path, tasks: int, rounds: int) -> None:
    ended = 0
    done = asyncio.Event()

    def on_reports(reports: list[Report]) -> None:
        nonlocal ended
        ended += sum(isinstance(report, Ended) for report in reports)
        if ended >= tasks:
            done.set()

    folder = folders.make_job_folder(root, "bench")
    handle = await zygote.open(LauncherSpec("bench", str(folder), (), slots=SLOTS), on_reports, print)
    print(f"Landlock {handle.ready.landlock_abi if handle.ready else 0}, {tasks} x {PROGRAM}, {SLOTS} slots")
    ratios = []
    for _ in range(rounds):
        alone = bare(tasks)
        ended = 0
        done.clear()
        begun = time.perf_counter()
        handle.start([Start(index, 1, [PROGRAM]) for index in range(tasks)])
        await asyncio.wait_for(done.wait(), 60)
        ours = tasks / (time.perf_counter() - begun)
        ratios.append(ours / alone)
        print(f"bare {alone:7.0f}/s   launcher {ours:7.0f}/s   ratio {ours / alone:.2f}", flush=True)
    await handle.close()
    print(f"median ratio {statistics.median(ratios):.2f}")


def main() -> None:
    tasks, rounds = (int(text) for text in [*sys.argv[1:], *("500", "5")[len(sys.argv) - 1 :]][:2])
    zygote = Zygote.start()
    root = Path(tempfile.mkdtemp(prefix="planetmesh-bench-", dir="/var/tmp"))
    root.chmod(folders.WORK_ROOT_MODE)
    try:
        asyncio.run(measure(zygote, root, tasks, rounds))
    finally:
        zygote.close()
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
