"""What a blob is called: 64 lower-case hex digits of its SHA-256, checked before it becomes a path."""

from __future__ import annotations

import re
from typing import NewType

from planetmesh.errors import BadInput

Digest = NewType("Digest", str)

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def checked(text: str) -> Digest:
    """The text as a digest; raises BadInput if it is none."""
    if not is_digest(text):
        raise BadInput(
            f"{text[:80]!a} is not the name of a blob.",
            hint="A blob is called by its SHA-256, in 64 lower-case hex digits.",
        )
    return Digest(text)
