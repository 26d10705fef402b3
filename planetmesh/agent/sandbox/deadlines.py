"""What a launcher has to do later, in order of time. Holds attempts, knows nothing about them."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable
from itertools import count

assert sys.platform != "win32"  # for the type checker: another way stands there or none

from planetmesh.agent.sandbox.attempt import Attempt

STALE_MOST = 1024
"""Entries of ended attempts are swept out beyond this: an hour of short tasks would pile up millions."""

Action = Callable[[Attempt], None]


class Deadlines:
    """A heap of (when, action, attempt). An entry whose attempt has ended is dropped, not run."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action, Attempt]] = []
        self._order = count()

    def add(self, when: float, action: Action, attempt: Attempt) -> None:
        if len(self._heap) > STALE_MOST:
            self._sweep()
        heapq.heappush(self._heap, (when, next(self._order), action, attempt))

    def next_at(self) -> float | None:
        while self._heap and self._heap[0][3].over:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_due(self, now: float) -> None:
        """Run what is due. An action may add others; they run in a later call."""
        due: list[tuple[Action, Attempt]] = []
        while self._heap and self._heap[0][0] <= now:
            _, _, action, attempt = heapq.heappop(self._heap)
            due.append((action, attempt))
        for action, attempt in due:
            if not attempt.over:
                action(attempt)

    def _sweep(self) -> None:
        living = [entry for entry in self._heap if not entry[3].over]
        # Still long: so many really wait, and sweeping at each call would cost more than it frees.
        if len(living) < len(self._heap):
            heapq.heapify(living)
            self._heap = living
