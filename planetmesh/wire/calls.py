"""Values of calls: the third stream of an attempt, one frame a line of JSON. Written by `child/call.py`.

`{"n": item, "v": plain value}`, `{"n": item, "t": typed value}` (wire/typed.py), `{"n": item, "p": base64
of a pickle}` or `{"n": item, "e": fault}`; `n` counts the task's items from 0. Nothing here opens a pickle.
What a task wrote is a stranger's text: a line that is no frame is passed over, and of two frames for one item
the first counts.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

VALUES = 3
"""The number of the stream."""
DEEPEST = 100
"""Values nested deeper are no plain data here: whoever reads them has a stack of his own."""
WHOLE_MOST = 2**53
"""Whole numbers beyond it are no plain data: many readers of JSON would round them."""


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a call has no value."""

    type: str
    """The exception's class, with its module unless that is `builtins`."""
    message: str
    traceback: str = ""
    p: str = ""
    """Base64 of the pickled exception, if it could be pickled."""

    @property
    def sentence(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class Frame(msgspec.Struct, frozen=True):
    """What came of one item; exactly one of the last four is set."""

    n: Annotated[int, Meta(ge=0)]
    v: msgspec.Raw | UnsetType = UNSET
    t: msgspec.Raw | UnsetType = UNSET
    p: str | UnsetType = UNSET
    e: Fault | UnsetType = UNSET


_decode = msgspec.json.Decoder(Frame).decode


def read_frames(data: bytes, count: int) -> dict[int, Frame]:
    """Item → frame, of items below `count`."""
    found: dict[int, Frame] = {}
    for line in data.split(b"\n"):
        frame = read_frame(line)
        if frame is not None and frame.n < count:
            found.setdefault(frame.n, frame)
    return found


def read_frame(line: bytes) -> Frame | None:
    """One line, or None if it is no frame."""
    try:
        frame = _decode(line)
        if sum(part is not UNSET for part in (frame.v, frame.t, frame.p, frame.e)) != 1:
            return None
        raw = frame.v if isinstance(frame.v, msgspec.Raw) else frame.t
        if isinstance(raw, msgspec.Raw):
            # A raw value was only skimmed; it goes into other documents as it is.
            value = msgspec.json.decode(raw)
            if line.count(b"[") + line.count(b"{") > DEEPEST and is_deeper(value, DEEPEST):
                return None
    except (ValueError, RecursionError):
        return None
    return frame


def is_deeper(value: Any, levels: int) -> bool:
    """Whether more than `levels` lists and objects stand in each other."""
    layer = [value]
    for _ in range(levels):
        children = [
            each.values() if isinstance(each, dict) else each
            for each in layer
            if isinstance(each, dict | list)
        ]
        layer = [child for each in children for child in each if isinstance(child, dict | list)]
    return bool(layer)
