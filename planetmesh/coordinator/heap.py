"""How this process's memory is kept: for files that stream through it, a quarter of a megabyte at a time.

By itself glibc gives each such piece back to the system and takes it anew, which means fresh pages: a
hundred thousand page faults for a gigabyte, about a sixth of all that receiving it costs (measured).
"""

from __future__ import annotations

import ctypes
import sys

PIECE_MOST_BYTES = 4 * 1024 * 1024
"""What is larger is still taken from the system, and given back, alone."""
KEPT_BYTES = 32 * 1024 * 1024
"""Freed memory at the heap's end that is kept for what comes next."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """For the whole process, once at its start; whether this system can."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False  # another library than glibc has no such thing to mend
    return bool(mallopt(_MMAP_THRESHOLD, PIECE_MOST_BYTES) and mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
