"""What attempts made, kept in their node's cache: a job that takes it in needs not bring it here again.

Copied, never moved or linked: a process that its task left behind might still hold a file open and change
it. Nothing waits for it, and what does not fit is left out. Blocks on the disk: call it in a thread.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from operator import attrgetter

from planetmesh.agent.collecting import Collected, Found, OutputRefused, Reader
from planetmesh.blobs.cache import Cache
from planetmesh.blobs.frames import EACH_MOST_BYTES
from planetmesh.errors import MeshError, WrongDigest

log = logging.getLogger(__name__)

SHARE = 0.25
"""Of the cache, for what one attempt made: inputs that others come back to must not all go for it."""
PIECE_BYTES = 1024 * 1024
TOGETHER_BYTES = 4 * 1024 * 1024
"""Of small files, held in memory and put on the disk at once."""


def keep(cache: Cache, found: Collected, stop: threading.Event) -> int:
    """Copy what there is room for into the cache, the largest first; how many of them are there then."""
    kept = 0
    try:
        with Reader(found.folder) as reader:
            chosen = _chosen(found, int(cache.most_bytes * SHARE))
            for load in _loads(chosen):
                if stop.is_set():
                    break
                if load[0].size > EACH_MOST_BYTES:
                    kept += _keep(cache, reader, load[0], stop)
                else:
                    kept += _keep_small(cache, reader, load)
    except (MeshError, OSError, OutputRefused) as error:
        # Without it, it is only fetched once more.
        log.debug("keeping.ended", extra={"reason": str(error)})
    return kept


def _chosen(found: Collected, most_bytes: int) -> Iterator[Found]:
    """Each content once."""
    files = {file.digest: file for file in found.files if file.size}
    left = most_bytes
    for file in sorted(files.values(), key=attrgetter("size"), reverse=True):
        if file.size <= left:
            left -= file.size
            yield file


def _loads(files: Iterator[Found]) -> Iterator[list[Found]]:
    """Large ones alone, small ones together."""
    load: list[Found] = []
    size = 0
    for file in files:
        if file.size > EACH_MOST_BYTES:
            yield [file]
            continue
        load.append(file)
        size += file.size
        if size >= TOGETHER_BYTES:
            yield load
            load, size = [], 0
    if load:
        yield load


def _keep_small(cache: Cache, reader: Reader, files: list[Found]) -> int:
    blobs = [(file.digest, _read(reader, file)) for file in files if not cache.has(file.digest)]
    with cache.room_for(sum(len(content) for _digest, content in blobs)):
        cache.shelf.put_many(blobs)
        for digest, content in blobs:
            cache.added(digest, len(content))
    return len(files)


def _read(reader: Reader, file: Found) -> bytes:
    descriptor = reader.open(file)
    try:
        return os.read(descriptor, file.size)
    finally:
        os.close(descriptor)


def _keep(cache: Cache, reader: Reader, file: Found, stop: threading.Event) -> int:
    with cache.pinned(file.digest) as is_here:
        if is_here:
            return 1
        with cache.room_for(file.size):
            return int(_copy(cache, reader, file, stop))


def _copy(cache: Cache, reader: Reader, file: Found, stop: threading.Event) -> bool:
    """Whether it is there now. It is hashed again: what was collected may have changed since."""
    descriptor = reader.open(file)
    try:
        with cache.shelf.open_partial(file.digest, file.size) as arriving:
            while not stop.is_set() and (piece := os.read(descriptor, PIECE_BYTES)):
                arriving.append(piece)
            if stop.is_set() or arriving.have < file.size:
                arriving.drop()
                return False
            arriving.finish()
    except WrongDigest:
        return False
    finally:
        os.close(descriptor)
    cache.added(file.digest, file.size)
    return True
