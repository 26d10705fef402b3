"""What a job of the type `python` carries: read by the job type and by the call on the node."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

BUFFERS_MOST = 1000
"""Files of one pickle beside it."""
PICKLE_NAME = "pickle"
"""The pickle itself in such a folder, if it is large; its buffers are called 0, 1, …"""
PARCEL_DIGITS = 16
"""Of the folder's digest, at the end of its name."""
Buffers = Annotated[int, Meta(ge=0, le=BUFFERS_MOST)]


class PythonPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Either `function` or `module` is set."""

    function: str = ""
    """Base64 of a function pickled by cloudpickle."""
    module: str = ""
    """`package.module:function`, which the node imports."""
    python: str = ""
    """`3.11`: what pickled the function; only the same can be sure to read it."""
    name: str = ""
    """Of the function, for people."""
    folder: str = ""
    """One of the job's files: what is too large to stand in `function`, which is empty if all of it is."""
    buffers: Buffers = 0
    """How many of the pickle's buffers lie there."""

    @property
    def is_pickled(self) -> bool:
        return bool(self.function or self.folder)


class PythonItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of one call: plain, or one pickle of `(args, kwargs)`, parts of it in files."""

    a: list[Any] = []
    k: dict[str, Any] = {}
    p: str = ""
    """Base64; empty if the pickle itself is a file."""
    f: str = ""
    """The folder with its files: the input's own file."""
    b: Buffers = 0
    """How many of the pickle's buffers lie there."""


def tag_of(version: str) -> str:
    """`3.11.7` → `python3.11`: a tag that nodes have by themselves."""
    return "python" + ".".join(version.split(".")[:2])
