"""This process's environment: what a fork inherits is wiped, what a task is given is put in its place.

The kernel shows other processes (and us: the launcher tells by it whose a process is) the first environment
of a program, in a region at the end of its stack. A forked worker has that of the agent: it is overwritten.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path

assert sys.platform != "win32"  # for the type checker: there are no forks

MARKER = "PLANETMESH_ATTEMPT_OF"
"""agent/sandbox/tree.py looks for it."""
_HEADER_BYTES = bytes.__basicsize__ - 1
_START, _END = 49, 50
"""Of the words of /proc/self/stat: where the region begins and ends."""

_region = (0, 0)


def wipe() -> None:
    """Leave nothing of what the agent was started with, neither in the region nor in Python's copy."""
    for value in list(getattr(os.environ, "_data", {}).values()):
        if isinstance(value, bytes) and len(value) > 1:
            # Shorter ones Python shares. Its copy stays in memory that a task can search.
            ctypes.memset(id(value) + _HEADER_BYTES, 0, len(value))
    for name in list(os.environ):
        del os.environ[name]
    start, end = _find_region()
    if end > start:
        ctypes.memset(start, 0, end - start)
    globals()["_region"] = (start, end)


def set_to(env: Mapping[str, str]) -> None:
    """Be in exactly this environment."""
    for name in os.environ.keys() - env.keys():
        del os.environ[name]
    for name, value in env.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    start, end = _region
    shown = f"{MARKER}={env.get(MARKER, '')}".encode() + b"\0"
    if len(shown) <= end - start:
        ctypes.memmove(start, shown, len(shown))


def _find_region() -> tuple[int, int]:
    """Where it is; nowhere if the kernel does not say."""
    try:
        line = Path("/proc/self/stat").read_bytes()
        # The name in parentheses may hold anything, a closing parenthesis too.
        words = [b"", b"", *line[line.rindex(b")") + 2 :].split()]
        return int(words[_START]), int(words[_END])
    except (OSError, ValueError, IndexError):
        return 0, 0
