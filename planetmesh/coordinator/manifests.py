"""What stands in the manifests of folders: read and checked in a thread, the last few kept at hand."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from planetmesh.model.blob import Digest, largest
from planetmesh.wire.manifest import MANIFEST_MOST_BYTES, decode_manifest

KEPT_FILES = 500_000
"""In all manifests at hand together: about 60 MB."""


class Manifests:
    """Answers which blobs a folder consists of. Nodes ask again and again for those that they stage."""

    def __init__(self, read: Callable[[Digest, int], Awaitable[bytes]]) -> None:
        """`read` gives a blob that is not longer than so many bytes."""
        self._read = read
        self.on_known: Callable[[Digest, dict[Digest, int]], None] = lambda _manifest, _large: None
        """Told of each that was read, with the largest of its files."""
        self._kept: OrderedDict[Digest, dict[bytes, int]] = OrderedDict()
        self._files = 0
        self._locks: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()

    async def contents(self, digest: Digest) -> dict[bytes, int]:
        """The digests, as 32 bytes each, of all its files, with their sizes.

        Raises NotFound if it is not here, BadInput or TooLarge if it is no manifest that may be laid down.
        """
        lock = self._locks.setdefault(digest, asyncio.Lock())
        async with lock:
            kept = self._kept.get(digest)
            if kept is None:
                data = await self._read(digest, MANIFEST_MOST_BYTES)
                contents, large = await asyncio.to_thread(_contents, data)
                self._keep(digest, contents)
                self.on_known(digest, large)
                return contents
            self._kept.move_to_end(digest)
            return kept

    def _keep(self, digest: Digest, contents: dict[bytes, int]) -> None:
        self._kept[digest] = contents
        self._files += len(contents)
        while self._files > KEPT_FILES and len(self._kept) > 1:
            _digest, dropped = self._kept.popitem(last=False)
            self._files -= len(dropped)


def _contents(data: bytes) -> tuple[dict[bytes, int], dict[Digest, int]]:
    files = decode_manifest(data).files
    return {bytes.fromhex(file.digest): file.size for file in files}, largest(
        {f.digest: f.size for f in files}
    )
