"""A call as its function sees it: what it is given, and where what comes of it goes.

Each item's value, or why there is none, is written to the attempt's third stream at once, as one line
(wire/calls.py), so what was finished survives whatever happens to the rest. The launcher puts lines together.
"""

from __future__ import annotations

import os
from base64 import b64encode
from typing import Any

import msgspec

from planetmesh.wire.calls import Fault
from planetmesh.wire.plain import is_plain

FAULT_RESERVE_BYTES = 512
"""Kept free for each item that is still to come, to say why its value is not kept."""
TRACEBACK_MOST_LETTERS = 32 * 1024
MESSAGE_MOST_LETTERS = 4096

_encode = msgspec.json.Encoder().encode


class Call:
    """One call of a task's items. Functions named in `Launch.call` get it as their only argument."""

    def __init__(
        self,
        payload: dict[str, Any],
        items: tuple[str, ...],
        index: int,
        folder: str,
        fd: int,
        most_bytes: int,
    ) -> None:
        """`fd`: where lines go; more than `most_bytes` of them are kept by nobody."""
        self.payload = payload
        """The job's, as it was submitted."""
        self.items = items
        """The task's inputs; none for a job without inputs."""
        self.index = index
        """The task's number in its job; of an automatic chunk, that of its first input."""
        self.folder = folder
        """The task's own, and the working directory."""
        self.memory_bytes = 0
        """What the task may use, all its processes together; 0: as much as there is."""
        self.failing = "inputs failed"
        """What `end` says of items with a fault: `3 of 10 inputs failed; first: …`."""
        self._fd = fd
        self._left_bytes = most_bytes
        self._owner = os.getpid()
        self._next = 0
        self._failed = 0
        self._passing = 0
        """Of those, what may go well in another try."""
        self._first = ""

    @property
    def count(self) -> int:
        """How many values are expected: one for each item, one for a job without inputs."""
        return max(1, len(self.items))

    def emit(self, value: Any, number: int | None = None) -> None:
        """The value of an item (else of the one after the last): None, bool, int, float, str, list or dict.

        Raises TypeError for anything that JSON would not give back as the same.
        """
        if not is_plain(value):
            raise TypeError(f"a value of type {type(value).__qualname__} is no plain data")
        self._put(number, b',"v":', _encode(value))

    def emit_typed(self, tree: Any, number: int | None = None) -> None:
        """A value that `wire.typed.to_typed` has written."""
        self._put(number, b',"t":', _encode(tree))

    def emit_pickled(self, data: bytes, number: int | None = None) -> None:
        """A value that only a client which asked for it opens."""
        self._put(number, b',"p":', b'"%b"' % b64encode(data))

    def emit_error(self, fault: Fault, number: int | None = None, *, is_final: bool = False) -> None:
        """Why an item has no value; the other items go on.

        `is_final`: it is the item's own fault, which another try or machine would find too. If all faults of
        a task are so, it is not tried again, and the files that it made of its other items are kept.
        """
        fault = msgspec.structs.replace(
            fault,
            message=_valid(fault.message[:MESSAGE_MOST_LETTERS]),
            traceback=_valid(fault.traceback[-TRACEBACK_MOST_LETTERS:]),
        )
        self._failed += 1
        self._passing += not is_final
        self._first = self._first or fault.sentence
        place = self._place(number)
        frame = _frame(place, b',"e":', _encode(fault))
        if len(frame) > self._left_bytes - self._reserve(place):
            brief = Fault(fault.type, fault.message[:100])
            frame = _frame(place, b',"e":', _encode(brief))
        self._write(frame)

    @property
    def has_bad_inputs(self) -> bool:
        """There are faults, and no other try could do better."""
        return bool(self._failed) and not self._passing

    def end(self) -> tuple[int, str]:
        """Exit code and sentence of the whole."""
        if not self._failed:
            return 0, ""
        if self.count == 1:
            return 1, self._first
        return 1, f"{self._failed} of {self.count} {self.failing}; first: {self._first}"

    def _put(self, number: int | None, kind: bytes, body: bytes) -> None:
        place = self._place(number)
        frame = _frame(place, kind, body)
        if len(frame) > self._left_bytes - self._reserve(place):
            self._next = place
            self.emit_error(
                Fault(
                    "ResultTooLarge",
                    f"{len(body)} bytes are more than what is left for this task's values. "
                    "Return less, write it to a file, or raise the mesh's setting output_most_bytes.",
                )
            )
            return
        self._write(frame)

    def _place(self, number: int | None) -> int:
        place = self._next if number is None else number
        self._next = place + 1
        return place

    def _reserve(self, place: int) -> int:
        return FAULT_RESERVE_BYTES * max(0, self.count - 1 - place)

    def _write(self, frame: bytes) -> None:
        if os.getpid() != self._owner:
            # A child that the call has forked came back from it: its work is done, and no value of ours.
            os._exit(0)
        if len(frame) > self._left_bytes:
            return
        self._left_bytes -= len(frame)
        sent = os.write(self._fd, frame)
        while sent < len(frame):
            sent += os.write(self._fd, frame[sent:])


def _frame(place: int, kind: bytes, body: bytes) -> bytes:
    return b'{"n":%d%b%b}\n' % (place, kind, body)


def _valid(text: str) -> str:
    """Text that can be sent: Python's may hold halves of characters."""
    return text.encode("utf-8", "backslashreplace").decode()
