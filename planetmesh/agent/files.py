"""Everything of the agent that has to do with files, put together; the desk and the runner ask here."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from planetmesh.agent import deliverer, fetcher
from planetmesh.agent.carrier import Carrier
from planetmesh.agent.deliverer import Deliverer
from planetmesh.agent.fetcher import Fetcher
from planetmesh.agent.file_threads import FileThreads
from planetmesh.agent.sandbox.messages import Report
from planetmesh.agent.sources import Sources
from planetmesh.agent.stage import Stage
from planetmesh.agent.staging import reserve_of
from planetmesh.blobs.cache import Cache
from planetmesh.blobs.room import Room
from planetmesh.blobs.shelf import READ_ONLY, Shelf
from planetmesh.model.blob import Digest
from planetmesh.model.ids import JobId
from planetmesh.paths import Home
from planetmesh.settings import Settings
from planetmesh.trust.identity import Identity
from planetmesh.wire.agent import AssignTask, BlobsHeld

CACHE_SHARE = 0.1
"""Of the disk, where no setting says how large the cache may be."""
TELL_SECONDS = 0.5
TOLD_MOST = 4096
"""Digests in one message."""


class Listener(fetcher.Listener, deliverer.Listener, Protocol):
    """Who hears what came of all of it; the desk."""

    def is_linked(self) -> bool:
        """Whether the coordinator can be asked now, as far as we know."""

    def on_reports(self, job_id: JobId, reports: list[Report]) -> None: ...

    def on_refused(self, task: AssignTask, error: str) -> None: ...


class Files:
    """Made by `open_files`."""

    def __init__(
        self, cache: Cache, carrier: Carrier, fetcher: Fetcher, stage: Stage, deliverer: Deliverer
    ) -> None:
        self.cache = cache
        self.carrier = carrier
        self.fetcher = fetcher
        self.stage = stage
        self.deliverer = deliverer
        self._is_new_link = True

    def on_link(self, endpoint: str) -> None:
        """A coordinator on a new link knows nothing of what lies here."""
        self._is_new_link = True
        self.carrier.on_link(endpoint)

    async def tell(self, threads: FileThreads, post: Callable[[BlobsHeld], None]) -> None:
        """Tell the coordinator what large blobs lie here, and what comes and goes. Never returns."""
        while True:
            await asyncio.sleep(TELL_SECONDS)
            if self._is_new_link:
                self._is_new_link = False
                held = await threads.run(self.cache.held)
                for some in _parts(held):
                    post(BlobsHeld(gained=some))
                continue
            changes = await threads.run(self.cache.changes)
            for some in _parts(changes.dropped):
                post(BlobsHeld(lost=some))
            for some in _parts(changes.added):
                post(BlobsHeld(gained=some))


@asynccontextmanager
async def open_files(
    home: Home,
    work_root: Path,
    identity: Identity,
    settings: Settings,
    listener: Listener,
    group: asyncio.TaskGroup,
    threads: FileThreads,
) -> AsyncIterator[Files]:
    """Raises StorageFailed if the cache cannot be used."""
    cache = await threads.run(lambda: _open_cache(home.blobs, settings.blob_cache_bytes))
    carrier = Carrier(identity, listener.is_linked, group)
    fetcher = Fetcher(cache, carrier, Sources(identity, carrier), threads, listener, group)
    stage = Stage(work_root, cache.shelf, fetcher, threads, listener, group)
    deliverer = Deliverer(carrier, threads, stage, cache, listener, group)
    try:
        yield Files(cache, carrier, fetcher, stage, deliverer)
    finally:
        fetcher.close()
        deliverer.close()
        await carrier.close()


def _open_cache(folder: Path, most_bytes: int) -> Cache:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    shelf = Shelf(folder, room=Room(folder, reserve_bytes=reserve_of(folder)), file_mode=READ_ONLY)
    cache = Cache(shelf, most_bytes or int(shutil.disk_usage(folder).total * CACHE_SHARE))
    # It may have been made smaller since.
    cache.evict()
    return cache


def _parts(digests: Sequence[Digest]) -> Iterator[tuple[Digest, ...]]:
    for start in range(0, len(digests), TOLD_MOST):
        yield tuple(digests[start : start + TOLD_MOST])
