"""A blob's name is checked here before it becomes a path."""

from __future__ import annotations

from planetmesh.errors import BadInput
from planetmesh.model.blob import Digest, is_digest


def checked(text: str) -> Digest:
    """The text as a digest; raises BadInput if it is none."""
    if not is_digest(text):
        raise BadInput(
            f"{text[:80]!a} is not the name of a blob.",
            hint="A blob is called by its SHA-256, in 64 lower-case hex digits.",
        )
    return Digest(text)
