"""A process that should not outlive the one that started it holds the read end of a pipe as its stdin.

Its end, however it came about, is a signal to us. A thread, because the loop belongs to the service.
"""

from __future__ import annotations

import os
import signal
import threading

STDIN = 0


class LifeLine:
    """Call `hold` when the zygote has been forked: before that there must be no thread. Harmless twice."""

    def __init__(self, number: signal.Signals = signal.SIGTERM) -> None:
        self._number = number
        self._is_held = False

    def hold(self) -> None:
        if not self._is_held:
            self._is_held = True
            threading.Thread(target=self._watch, name="life-line", daemon=True).start()

    def _watch(self) -> None:
        while os.read(STDIN, 1024):
            continue
        os.kill(os.getpid(), self._number)
