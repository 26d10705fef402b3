"""A launcher and its warm workers: one task down, one end up. Frames: four bytes of length, then MessagePack.

Before a task comes one byte that carries the write ends of its pipes: stdout, stderr, values.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

HEADER_BYTES = 4
TASK_MARK = b"T"
PIPES = 3
END_MOST_BYTES = 8192
"""A worker may be the submitter's puppet; its launcher holds no more of what it says."""
MESSAGE_MOST_LETTERS = 1000


class CallBlob(msgspec.Struct, frozen=True, array_like=True):
    """What is to be called; made by the agent, opened by the worker."""

    function: str
    """`module:function` of our own code or of an installed job type."""
    payload: dict[str, Any]
    items: tuple[str, ...]
    index: int


class WorkerTask(msgspec.Struct, frozen=True, array_like=True):
    index: int
    attempt: int
    folder: str
    env: dict[str, str]
    values_most_bytes: int
    """More of its values is not kept by anybody."""
    call: bytes
    """A `CallBlob`."""
    memory_bytes: int = 0
    """What the task may use, all its processes together; 0: as much as there is."""


class WorkerEnd(msgspec.Struct, frozen=True, array_like=True):
    index: int
    attempt: int
    exit_code: Annotated[int, Meta(ge=0, le=255)]
    message: Annotated[str, Meta(max_length=MESSAGE_MOST_LETTERS)] = ""
    is_clean: bool = False
    """Nothing of the task is left in the worker: it may have another."""
    cpu_seconds: Annotated[float, Meta(ge=0.0, le=1e10)] = 0.0
    rss_bytes: Annotated[int, Meta(ge=0, le=2**53)] = 0
    """Of the worker now."""
    max_rss_bytes: Annotated[int, Meta(ge=0, le=2**53)] = 0
    has_bad_inputs: bool = False
    """The call says that some of its inputs are no good, and the rest is done."""
