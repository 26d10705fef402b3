"""SHA-256 over files of any size in flat memory. hashlib lets other threads run meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from io import FileIO
from typing import TYPE_CHECKING

from planetmesh.model.blob import Digest

if TYPE_CHECKING:
    from hashlib import _Hash

PIECE_BYTES = 1024 * 1024
"""Read, hashed and written at a time: from here on larger pieces are no faster (measured)."""


def pieces(descriptor: int, limit: int | None = None) -> Iterator[memoryview]:
    """The file from where it stands, `limit` bytes at most. A piece is good until the next is asked for."""
    file = FileIO(descriptor, closefd=False)
    buffer = memoryview(bytearray(PIECE_BYTES))
    left = limit
    while left is None or left > 0:
        count = file.readinto(buffer if left is None else buffer[: min(left, PIECE_BYTES)])
        if not count:
            return
        yield buffer[:count]
        if left is not None:
            left -= count


def hash_of(descriptor: int, limit: int | None = None) -> tuple[_Hash, int]:
    """The state of the hash after the file's next bytes, and how many those were."""
    state, size = sha256(), 0
    for piece in pieces(descriptor, limit):
        state.update(piece)
        size += len(piece)
    return state, size


def digest_of(content: bytes | bytearray | memoryview) -> Digest:
    return Digest(sha256(content).hexdigest())


def digest_of_file(descriptor: int) -> tuple[Digest, int]:
    """Name and size of what is left to read in a file."""
    state, size = hash_of(descriptor)
    return Digest(state.hexdigest()), size
