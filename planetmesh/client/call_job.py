"""One job of calls, as its caller waits for it: lines of values in, settled calls out. Asks nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from planetmesh.client.functions import PackedFunction, exception_of, open_frame
from planetmesh.client.remote_call import CallOptions, RemoteCall
from planetmesh.errors import CallFailed
from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome, TaskState
from planetmesh.wire.api import OutputPiece, TaskView, ValueLine
from planetmesh.wire.calls import Fault, Frame, read_frame

DEATHS = frozenset({Outcome.SIGNAL, Outcome.MEMORY, Outcome.EXIT_CODE})
"""Ends of a task that one of its calls brings about, by what it does to the process."""


TOO_LARGE = "ResultTooLarge"
"""Written by `child/call.py` for a value that the task's stream of values has no room for."""


class CallJob:
    """Its calls are its inputs, in order."""

    def __init__(
        self,
        job_id: JobId,
        calls: Sequence[RemoteCall[Any]],
        options: CallOptions,
        packed: PackedFunction | None = None,
    ) -> None:
        """`packed`: the function, for calls that must go out once more."""
        self.id = job_id
        self.packed = packed
        self.calls: list[RemoteCall[Any]] = []
        self.left = 0
        """Calls that still have nothing."""
        self.orphans: list[RemoteCall[Any]] = []
        """Calls that another job must make; of no concern to this one any more."""
        self.adding = asyncio.Lock()
        """Held while more calls are handed in."""
        self.is_over = False
        """Its end was told: it takes no more."""
        self._options = options
        self._chunk = max(1, options.chunk)
        self._begun: dict[tuple[int, int], bytes] = {}
        """By index and attempt: the line whose end has not come yet."""
        self._faults: dict[int, Fault] = {}
        """What calls raised in attempts that may be repeated."""
        self._settled: list[bool] = []
        self.add(calls)

    def add(self, calls: Sequence[RemoteCall[Any]]) -> int:
        """Further ones, behind those that it has; the number of the first."""
        first = len(self.calls)
        for number, call in enumerate(calls, first):
            call.job, call.number = self.id, number
        self.calls += calls
        self._settled += [False] * len(calls)
        self.left += len(calls)
        return first

    def take_back(self, count: int) -> None:
        """The last ones were not taken."""
        for call in self.calls[-count:]:
            call.job = None
        del self.calls[-count:], self._settled[-count:]
        self.left -= count

    @property
    def is_unwanted(self) -> bool:
        """Nobody waits for any of what is left."""
        return self.left > 0 and all(
            is_settled or call.cancelled() for call, is_settled in zip(self.calls, self._settled, strict=True)
        )

    def begin_again(self) -> None:
        """Pieces come from the first on."""
        self._begun.clear()

    def take(self, line: ValueLine | OutputPiece) -> None:
        """A piece of a task's values."""
        place = (line.index, line.attempt)
        *whole, rest = (self._begun.pop(place, b"") + line.data).split(b"\n")
        if rest:
            self._begun[place] = rest
        for each in whole:
            frame = read_frame(each)
            if frame is not None:
                self._settle(line.index * self._chunk + frame.n, frame)

    def take_end(self, task: TaskView) -> None:
        """A task that ended without success: what it has no value for has failed with it.

        Its calls are made one after the other, and each tells its value at once. So if a call ended the
        process it is the first of which nothing is known. Those behind it were never begun: they become
        `orphans`.
        """
        first = task.index * self._chunk
        is_found = False
        """The call that ended the process."""
        for number in range(first, min(first + task.width * self._chunk, len(self.calls))):
            if self._settled[number]:
                continue
            if task.status is TaskState.CANCELLED:
                self._end(number, None)
            elif number in self._faults:
                self._end(number, exception_of(self._faults[number], pickles=self._options.pickles))
            elif is_found:
                self._mark(number)
                self.orphans.append(self.calls[number])
            else:
                self._end(number, CallFailed(task.last_error or "The call failed and left no word."))
                is_found = task.outcome in DEATHS

    def close(self) -> None:
        """Nothing more comes."""
        for number in range(len(self.calls)):
            self._end(number, CallFailed("What the call gave was not kept by the mesh."))

    def _settle(self, number: int, frame: Frame) -> None:
        if not 0 <= number < len(self.calls) or self._settled[number]:
            return
        if isinstance(frame.e, Fault) and frame.e.type == TOO_LARGE and self._may_go_alone:
            self._mark(number)
            self.calls[number].was_orphaned = True
            self.orphans.append(self.calls[number])
            return
        if isinstance(frame.e, Fault) and self._options.retries:
            self._faults[number] = frame.e
            return
        try:
            value = open_frame(frame, pickles=self._options.pickles)
        except Exception as error:  # whatever the call raised is its caller's
            self._end(number, error)
            return
        self._mark(number)
        self.calls[number].settle(value)

    @property
    def _may_go_alone(self) -> bool:
        """Its value may only have been too large for what others in the task had left of the room."""
        return self._options.chunk != 1 and not self._options.at_most_once

    def _end(self, number: int, error: BaseException | None) -> None:
        """Failed, or cancelled without an error."""
        if self._settled[number]:
            return
        self._mark(number)
        if error is None:
            self.calls[number].cancel()
        else:
            self.calls[number].fail(error)

    def _mark(self, number: int) -> None:
        self._settled[number] = True
        self.left -= 1
