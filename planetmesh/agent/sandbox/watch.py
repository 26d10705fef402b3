"""Limits of a whole task tree that rlimits cannot give: memory and number of processes.

A look every half second. A tree's memory is judged by its resident sum first, and only if that is too
much by its proportional share, so that forked workers are not charged for pages that they share with each
other or, warm ones, with the launcher.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping

assert sys.platform != "win32"  # for the type checker: another way stands there or none

from planetmesh.agent.sandbox import tree
from planetmesh.agent.sandbox.attempt import Attempt
from planetmesh.agent.sandbox.messages import MIB, Limits, Why
from planetmesh.agent.sandbox.offspring import Offspring
from planetmesh.agent.sandbox.tree import Process

WATCH_SECONDS = 0.5
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def find_greedy(
    offspring: Offspring,
    running: Mapping[int, Attempt],
    not_over: Mapping[tuple[int, int], Attempt],
    limits: Limits,
) -> Iterator[tuple[Attempt, Why, str]]:
    """The attempts that use more than they may, with the reason in words."""
    processes = tree.snapshot()
    others = list(not_over.values())
    for attempt in list(running.values()):
        members = offspring.members(attempt, running, others, processes)
        if limits.processes and len(members) > limits.processes:
            yield attempt, Why.PROCESSES, f"It had {len(members)} processes, its limit is {limits.processes}."
        elif limits.memory_bytes:
            used = _memory_bytes(members, processes, limits.memory_bytes)
            if used > limits.memory_bytes:
                text = f"It used {used / MIB:.0f} MiB, its limit is {limits.memory_bytes / MIB:.0f} MiB."
                yield attempt, Why.MEMORY, text


def _memory_bytes(members: list[int], processes: dict[int, Process], limit_bytes: int) -> int:
    resident = sum(processes[pid].rss_pages for pid in members) * PAGE_BYTES
    if resident <= limit_bytes:
        return resident
    return sum(_share_bytes(processes[pid]) for pid in members)


def _share_bytes(process: Process) -> int:
    """Proportional set size, or the resident size where that may not be read."""
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return process.rss_pages * PAGE_BYTES
