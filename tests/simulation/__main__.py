"""Run the simulation: `python -m tests.simulation --seeds 100`; one with its story: `--seed 7 --trace`.

Prints figures and the failures with their seeds; ends with 1 if there was one.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
SEEDS_A_PROCESS = 10
"""What died in a simulation is kept (see `sim_time`), so processes are changed now and then."""

LIVED: list[object] = []
"""Worlds stay in memory: Python would run the ends of their coroutines when it forgets them."""


class Told(NamedTuple):
    """How one seed went."""

    seed: int
    digest: int
    failure: str
    story: list[str]
    counted: Counter[str]
    seconds: float


def live(seed: int, hours: float, *, trace: bool = False) -> Told:
    """One world from its beginning to its end."""
    import sim_agent
    import sim_stand_ins
    import sim_stimuli
    import sim_world

    sim_stand_ins.install()
    sim_agent.install()
    gc.disable()
    began, failure = time.perf_counter(), ""
    world = sim_world.World(seed, hours, print if trace else None)
    LIVED.append(world)
    try:
        world.run(sim_stimuli.mishaps)
    except sim_world.Broken as broken:
        failure = world.truth.failure or str(broken)
    world.counted.update(world.truth.counted)
    return Told(seed, world.digest, failure, list(world.story), world.counted, time.perf_counter() - began)


def _live(job: tuple[int, float]) -> Told:
    return live(*job)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="only this one, with the end of its story")
    parser.add_argument("--seeds", type=int, default=20, help="how many (default 20)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument(
        "--hours", type=float, default=1.0, help="simulated hours of each before all is mended"
    )
    parser.add_argument("--trace", action="store_true", help="print the whole story")
    parser.add_argument("--fast", action="store_true", help="stop at the first failure")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("-j", type=int, default=1, help="processes at the same time (default 1)")
    asked = parser.parse_args()
    if asked.seed is not None:
        told = live(asked.seed, asked.hours, trace=asked.trace)
        print(f"seed {told.seed}: digest {told.digest:08x}, {told.seconds:.1f} s")
        _show_failure(told, asked.hours)
        print(_figures([told], asked.hours))
        return bool(told.failure)
    return _run_many(asked)


def _run_many(asked: argparse.Namespace) -> int:
    jobs = [(seed, asked.hours) for seed in range(asked.first, asked.first + asked.seeds)]
    done: list[Told] = []
    began = time.perf_counter()
    context = multiprocessing.get_context("fork")
    with context.Pool(asked.j, maxtasksperchild=SEEDS_A_PROCESS) as pool:
        for told in pool.imap(_live, jobs):
            done.append(told)
            if told.failure:
                _show_failure(told, asked.hours)
                if asked.fast:
                    break
    if asked.json:
        print(json.dumps({
            "failed": [told.seed for told in done if told.failure],
            "digests": [told.digest for told in done],
        }))  # fmt: skip
    else:
        print(_figures(done, asked.hours))
        print(f"{time.perf_counter() - began:.0f} s in all")
    return any(told.failure for told in done)


def _show_failure(told: Told, hours: float) -> None:
    if told.failure:
        print(*told.story, sep="\n")
        print(f"\nseed {told.seed} FAILED: {told.failure}\n")
        again = f"python -m tests.simulation --seed {told.seed} --hours {hours:g} --trace"
        print(f"Again, with all of it: {again}\n")


def _figures(done: list[Told], hours: float) -> str:
    counted: Counter[str] = Counter()
    for told in done:
        counted.update(told.counted)
    simulated = counted.pop("seconds", 0) / 3600.0
    failed = sum(bool(told.failure) for told in done)
    lines = [f"{len(done)} seeds of {hours:g} h, {simulated:.0f} simulated hours, {failed} failures"]
    lines += [f"{number:>12}  {name}" for name, number in sorted(counted.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets must be the same in every run.
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], {
            **os.environ, "PYTHONHASHSEED": "0",
        })  # fmt: skip
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    code = main()
    sys.stdout.flush()
    os._exit(code)
