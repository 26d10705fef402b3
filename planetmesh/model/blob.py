"""Files that travel: bytes named by their digest, and the names under which tasks see them."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Annotated, NewType

import msgspec
from msgspec import Meta

Digest = NewType("Digest", str)
"""SHA-256 of a blob's bytes, 64 lower-case hex digits."""
SIZE_MOST_BYTES = 2**50
"""Of one blob: a bound for numbers from peers, not for disks."""
Size = Annotated[int, Meta(ge=0, le=SIZE_MOST_BYTES)]
LARGE_BYTES = 1024 * 1024
"""From here on a file is worth to choose a node for it; smaller ones are fetched in no time."""
LARGE_MOST = 16
"""Files of one task that count there, the largest: the rest is not what it waits for."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """The only form that may become a path."""
    return _DIGEST.fullmatch(text) is not None


class StagedFile(msgspec.Struct, frozen=True, array_like=True):
    """A file that lies in a task's folder when it starts."""

    name: str
    """Relative to the task's folder, `/` between its parts; `model.names` says what it may be."""
    digest: Digest
    size: Size
    """Of the blob, bytes."""
    executable: bool = False
    is_tree: bool = False
    """The blob is a manifest: its files lie below `name`, or in the folder itself if that is empty."""


class ManifestFile(msgspec.Struct, frozen=True, array_like=True):
    name: str
    """Relative to where the manifest is laid."""
    digest: Digest
    size: Size
    executable: bool = False


class Manifest(msgspec.Struct, frozen=True):
    """A folder, or what one attempt made: a list of files, never an archive. Itself kept as a blob."""

    files: tuple[ManifestFile, ...] = ()
    folders: tuple[str, ...] = ()
    """Those without a file in them, which no file's name would bring about."""

    @property
    def size(self) -> int:
        """Of all its files together, bytes."""
        return sum(file.size for file in self.files)


class Made(msgspec.Struct, frozen=True, array_like=True):
    """What an attempt made and its job asked for."""

    manifest: Digest
    count: Annotated[int, Meta(ge=1, le=2**31)]
    size: Size
    """Of all files together, bytes."""


def large_files(files: Iterable[StagedFile]) -> tuple[StagedFile, ...]:
    """Folders, whose size only their manifest tells, and the largest of the other files."""
    trees, large = [], []
    for file in files:
        if file.is_tree:
            trees.append(file)
        elif file.size >= LARGE_BYTES:
            large.append(file)
    return (*trees[:LARGE_MOST], *heapq.nlargest(LARGE_MOST, large, key=attrgetter("size")))


def largest(sizes: Mapping[Digest, int]) -> dict[Digest, int]:
    """Of the large blobs among these the largest."""
    large = [(size, digest) for digest, size in sizes.items() if size >= LARGE_BYTES]
    return {digest: size for size, digest in heapq.nlargest(LARGE_MOST, large)}
