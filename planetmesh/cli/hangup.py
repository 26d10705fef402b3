"""A terminal that goes away (a closed window, a broken ssh) stops `up` in order, as SIGTERM does."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STANDARD_STREAMS = (0, 1, 2)


@contextmanager
def stops_in_order() -> Iterator[None]:
    """While this lasts; whoever started the program by `nohup` wanted it to go on, and it does."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        yield
        return
    terminal = _Terminal()
    signal.signal(signal.SIGHUP, terminal.hung_up)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


class _Terminal:
    """The one that this process was started on, if any."""

    def __init__(self) -> None:
        # Asked now: one that is gone says that it is none.
        self._descriptors = [each for each in STANDARD_STREAMS if os.isatty(each)]
        self._is_gone = False

    def hung_up(self, _number: int, _frame: FrameType | None) -> None:
        """Once: both the shell and the system say it, and a second SIGTERM would mean to stop at once."""
        if self._is_gone:
            return
        self._is_gone = True
        nowhere = os.open(os.devnull, os.O_RDWR)
        for each in self._descriptors:
            os.dup2(nowhere, each)  # what is said while we stop is no error for having no reader
        os.close(nowhere)
        os.kill(os.getpid(), signal.SIGTERM)
