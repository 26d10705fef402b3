"""A pipe to read from once a signal has come: the end of a child wakes a loop that waits for sockets."""

from __future__ import annotations

import os
import signal
import sys

assert sys.platform != "win32"  # for the type checker: another way stands there or none


def wake_on_children() -> int:
    """Have the end of a child, and every signal with a handler, write to a pipe; give its read end."""
    wake, alarm = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(alarm, False)
    signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _ignore)
    return wake


def _ignore(_number: int, _frame: object) -> None:
    """The pipe says all; a handler must exist for it to be written to."""
