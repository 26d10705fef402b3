"""What a job of the type `python` carries: read by the job type and by the call on the node."""

from __future__ import annotations

from typing import Any

import msgspec


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


class PythonItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The arguments of one call: plain, or one pickle of `(args, kwargs)`."""

    a: list[Any] = []
    k: dict[str, Any] = {}
    p: str = ""
    """Base64."""


def tag_of(version: str) -> str:
    """`3.11.7` → `python3.11`: a tag that nodes have by themselves."""
    return "python" + ".".join(version.split(".")[:2])
