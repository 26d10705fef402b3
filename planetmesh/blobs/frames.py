"""Many small blobs in one body: for each its 32-byte digest, its size (8 bytes, big-endian) and its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from planetmesh.errors import BadInput, TooLarge
from planetmesh.model.blob import Digest

HEAD_BYTES = 40
EACH_MOST_BYTES = 1024 * 1024
"""A larger one travels alone, so that it can be gone on with."""
BODY_MOST_BYTES = 64 * 1024 * 1024


def head(digest: Digest, size: int) -> bytes:
    """What stands before a blob's bytes."""
    return bytes.fromhex(digest) + size.to_bytes(8, "big")


def frame(digest: Digest, content: bytes) -> bytes:
    return head(digest, len(content)) + content


def framed_size(sizes: Iterable[int]) -> int:
    """How long a body with blobs of these sizes is."""
    return sum(HEAD_BYTES + size for size in sizes)


class Sized(Protocol):
    @property
    def size(self) -> int: ...


S = TypeVar("S", bound=Sized)


def in_bodies(blobs: Iterable[S], most_bytes: int, most: int) -> Iterator[list[S]]:
    """Blobs in their order, as many together as make one body of so many bytes and blobs; one at least."""
    body: list[S] = []
    size = 0
    for blob in blobs:
        framed = HEAD_BYTES + blob.size
        if body and (size + framed > most_bytes or len(body) == most):
            yield body
            body, size = [], 0
        body.append(blob)
        size += framed
    if body:
        yield body


class Frames:
    """Reads a body as it arrives; holds no more of it than one blob and what was fed last."""

    def __init__(self, *, each_most: int = EACH_MOST_BYTES, body_most: int = BODY_MOST_BYTES) -> None:
        self._each_most = each_most
        self._left = body_most
        self._held = bytearray()

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[tuple[Digest, bytes]]:
        """The blobs that are whole now, unverified. Take all of them before feeding on; raises TooLarge."""
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge("So many small blobs do not fit into one request.", hint="Send them in several.")
        self._held += data
        at = 0
        try:
            while (whole := self._whole(at)) is not None:
                digest, end = whole
                yield digest, bytes(self._held[at + HEAD_BYTES : end])
                at = end
        finally:
            del self._held[:at]

    def _whole(self, at: int) -> tuple[Digest, int] | None:
        """Name and end of the blob that begins here, if all of it is there."""
        if len(self._held) < at + HEAD_BYTES:
            return None
        size = int.from_bytes(self._held[at + 32 : at + HEAD_BYTES], "big")
        if size > self._each_most:
            raise TooLarge(
                f"A blob of {size} bytes is too large to be sent together with others.",
                hint=f"From {self._each_most} bytes on each is sent alone.",
            )
        end = at + HEAD_BYTES + size
        if len(self._held) < end:
            return None
        return Digest(self._held[at : at + 32].hex()), end

    def end(self) -> None:
        """Raise BadInput if the body ends within a blob."""
        if self._held:
            raise BadInput("The blobs end in the middle of one.", hint="Send them again.")
