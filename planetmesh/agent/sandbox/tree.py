"""Processes below a process: list them, tell whose they are, kill them all.

Reads /proc (Linux). Kept apart from the launcher's loop so that the zygote uses the same sweep. A kill
first stops what it sees, because a stopped process cannot fork a successor while others are counted.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

assert sys.platform != "win32"  # for the type checker: another way stands there or none

MARKER = "PLANETMESH_ATTEMPT_OF"
"""In each task's environment: job folder, task, attempt, so that a process is known by what it inherited."""
ENVIRONMENT_MOST_BYTES = 256 * 1024
STOP_ROUNDS = 20
"""A fork bomb is stopped in two or three; the bound is for one that outruns us."""
KILL_BUDGET_SECONDS = 5.0
KILL_PAUSE_SECONDS = 0.01


class Process(NamedTuple):
    pid: int
    parent: int
    session: int
    rss_pages: int
    state: str


def snapshot() -> dict[int, Process]:
    """Every process that can be seen now."""
    found: dict[int, Process] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = look_at(int(name))
            if process is not None:
                found[process.pid] = process
    return found


def look_at(pid: int) -> Process | None:
    """One process, or None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read()
    except OSError:
        return None
    if b")" not in line:
        return None
    # The name in parentheses may hold anything, a closing parenthesis too.
    fields = line[line.rindex(b")") + 2 :].split()
    return Process(pid, int(fields[1]), int(fields[3]), int(fields[21]), fields[0].decode())


def below(roots: Iterable[int], processes: dict[int, Process]) -> list[int]:
    """The roots and all their descendants, as far as they are in the snapshot."""
    children: dict[int, list[int]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: list[int] = []
    waiting = [pid for pid in roots if pid in processes]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, ())
    return found


def threads_of(uid: int) -> int:
    """How many threads a user has now, as RLIMIT_NPROC counts them."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    return count


def children_of(parent: int, processes: dict[int, Process]) -> list[int]:
    return [process.pid for process in processes.values() if process.parent == parent]


def marker_of(pid: int) -> str:
    """The marker in a process's first environment; empty if it has none or may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            content = file.read(ENVIRONMENT_MOST_BYTES)
    except OSError:
        return ""
    start = f"{MARKER}=".encode()
    for line in content.split(b"\0"):
        if line.startswith(start):
            return line[len(start) :].decode(errors="replace")
    return ""


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


Finder = Callable[[dict[int, Process]], list[int]]


def kill_once(find: Finder) -> int:
    """Stop all that `find` finds until no new ones appear, then SIGKILL them; return how many lived."""
    stopped: set[int] = set()
    for _ in range(STOP_ROUNDS):
        processes = snapshot()
        alive = [pid for pid in find(processes) if processes[pid].state not in "ZX"]
        fresh = [pid for pid in alive if pid not in stopped]
        if not fresh:
            break
        for pid in fresh:
            send(pid, signal.SIGSTOP)
        stopped.update(fresh)
    for pid in stopped:
        send(pid, signal.SIGKILL)
    return len(stopped)


def kill_until_none(find: Finder, reap: Callable[[], None]) -> bool:
    """Kill what `find` finds until nothing is left or the budget is spent; return whether it is gone."""
    end = time.monotonic() + KILL_BUDGET_SECONDS
    while kill_once(find):
        if time.monotonic() > end:
            return False
        time.sleep(KILL_PAUSE_SECONDS)
        reap()
    return True


def kill_leftovers(work_root: str) -> bool:
    """Kill what an agent of this work root left when it and its launchers were killed all at once.

    For the agent's start, before its zygote; nobody else starts tasks under the same root.
    """
    start = f"{work_root}/"
    me = os.getpid()

    def find(processes: dict[int, Process]) -> list[int]:
        return [pid for pid in processes if pid != me and marker_of(pid).startswith(start)]

    return kill_until_none(find, lambda: None)


def descendants_of(pid: int) -> Finder:
    """A finder for all below `pid`, without itself."""
    return lambda processes: [found for found in below([pid], processes) if found != pid]
