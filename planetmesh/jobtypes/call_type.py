"""Job types whose tasks are calls of our own or an installed package's code: what came of each input.

Their functions get one `child.call.Call` and emit a value, or a fault, for each input.
"""

from __future__ import annotations

from typing import Any

import msgspec

from planetmesh.jobtypes.contract import JobType, Value
from planetmesh.wire.api import Encoding, Parse
from planetmesh.wire.calls import VALUES, Frame, read_frames


class CallType(JobType):
    """Derive from it and give `launch` a `Launch(call="module:function")`."""

    @property
    def result_stream(self) -> int:
        return VALUES

    def gather(self, data: bytes, parse: Parse, *, is_cut: bool, count: int = 1) -> Value:
        """One plain or typed value as itself, one pickled as base64, else a list with a part a call."""
        frames = read_frames(data, count)
        only = frames.get(0) if count == 1 else None
        if only is not None and isinstance(only.v, msgspec.Raw):
            return Value(only.v, Encoding.JSON)
        if only is not None and isinstance(only.t, msgspec.Raw):
            return Value(only.t, Encoding.TYPED)
        if only is not None and isinstance(only.p, str):
            return Value(only.p, Encoding.PICKLE)
        return Value([_part_of(frames.get(number)) for number in range(count)], Encoding.CALLS)


def _part_of(frame: Frame | None) -> dict[str, Any] | None:
    """What came of one call; None if it was not made, or what came of it is lost."""
    if frame is None:
        return None
    if isinstance(frame.v, msgspec.Raw):
        return {"value": frame.v}
    if isinstance(frame.t, msgspec.Raw):
        return {"encoding": Encoding.TYPED, "value": frame.t}
    if isinstance(frame.p, str):
        return {"encoding": Encoding.PICKLE, "value": frame.p}
    return {"error": frame.e}
