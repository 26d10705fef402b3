"""What is too large to stand in a job itself: sent as blobs, laid into the folder of the task that needs it.

A pickle's large buffers (the data of arrays) are taken out of it and become blobs of their own, each sent
once however many calls have it. A blob is a copy from the moment of the call: what the caller does to the
array later does not count.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any
from weakref import WeakValueDictionary

import cloudpickle
import msgspec

from planetmesh.client.uploads import Outgoing
from planetmesh.errors import BadInput
from planetmesh.model.blob import Digest, Manifest, ManifestFile, StagedFile
from planetmesh.wire.manifest import encode_manifest
from planetmesh.wire.python import BUFFERS_MOST, PARCEL_DIGITS, PICKLE_NAME

PICKLE_PROTOCOL = 5
"""Every Python that planetmesh runs on reads it."""
INLINE_MOST_BYTES = 256 * 1024
"""A pickle up to this travels in the job: quicker than a file, and the job can take more calls."""
APART_BYTES = 64 * 1024
"""Buffers of a larger pickle from this size on become blobs of their own."""
PROBE_BYTES = 4096
"""Of a buffer's beginning and end, by which one that was sent before is looked for."""


class Blob:
    """One buffer's bytes, once in memory however many calls have it."""

    __slots__ = ("__weakref__", "content", "digest")

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.digest = Digest(sha256(content).hexdigest())


class Parcel(msgspec.Struct, frozen=True):
    """Files of one call, or of a function: a folder in the folder of its task."""

    staged: StagedFile
    manifest: Outgoing
    blobs: tuple[Any, ...]
    """`Blob`s; none are left once they were sent."""

    @property
    def size(self) -> int:
        return sum(len(blob.content) for blob in self.blobs)

    def outgoing(self) -> Iterable[Outgoing]:
        yield self.manifest
        for blob in self.blobs:
            yield Outgoing(blob.digest, len(blob.content), None, blob.content)

    def without_content(self) -> Parcel:
        """For a call that goes out once more: the coordinator has it."""
        return msgspec.structs.replace(self, blobs=())


class Pickled(msgspec.Struct, frozen=True):
    inline: bytes
    """The pickle without its large buffers; empty if it is a file too."""
    parcel: Parcel | None = None
    buffers: int = 0


_known: WeakValueDictionary[tuple[int, bytes], Blob] = WeakValueDictionary()
"""Those that some call still needs."""


def pickled(value: Any, prefix: str) -> Pickled:
    """The value, and beside it what is large; `prefix` begins the folder's name.

    Raises what pickling raises.
    """
    buffers: list[memoryview] = []

    def stays(buffer: Any) -> bool:
        try:
            view = buffer.raw()
        except BufferError:  # its bytes do not lie side by side
            return True
        if view.nbytes < APART_BYTES or len(buffers) >= BUFFERS_MOST:
            return True
        buffers.append(view)
        return False

    body = cloudpickle.dumps(value, PICKLE_PROTOCOL, buffer_callback=stays)
    if len(body) + sum(view.nbytes for view in buffers) <= INLINE_MOST_BYTES:
        return Pickled(cloudpickle.dumps(value, PICKLE_PROTOCOL) if buffers else body)
    blobs = [_blob(bytes(view)) for view in buffers]
    files = [ManifestFile(str(n), blob.digest, len(blob.content)) for n, blob in enumerate(blobs)]
    inline = body
    if len(body) > INLINE_MOST_BYTES:
        inline = b""
        blobs.append(_blob(body))
        files.append(ManifestFile(PICKLE_NAME, blobs[-1].digest, len(body)))
    manifest = Outgoing.of_bytes(encode_manifest(Manifest(tuple(files))))
    name = f"{prefix}-{manifest.digest[:PARCEL_DIGITS]}"
    staged = StagedFile(name, manifest.digest, manifest.size, is_tree=True)
    return Pickled(inline, Parcel(staged, manifest, tuple(blobs)), len(buffers))


def _blob(content: bytes) -> Blob:
    key = (len(content), content[:PROBE_BYTES] + content[-PROBE_BYTES:])
    found = _known.get(key)
    if found is None or found.content != content:
        found = _known[key] = Blob(content)
    return found


def lost(error: Exception) -> BadInput:
    """The coordinator no longer has what these calls were sent with, and neither have we."""
    return BadInput(
        f"What these calls were sent with is not with the coordinator any more: {error}",
        hint="Call them again.",
    )
