"""The coordinator's files: the shelf, the ledger of who uses what, and what keeps the two in step.

A blob counts as here when its file is on the shelf and its row in the ledger: the row comes after the file
and goes before it. Nothing here asks the engine; disk and hashing are done in threads of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

from planetmesh.blobs.partial import Partial
from planetmesh.blobs.reading import Reading
from planetmesh.blobs.room import Room
from planetmesh.blobs.shelf import Entry, Shelf
from planetmesh.coordinator.bounds import Bounds
from planetmesh.coordinator.manifests import Manifests
from planetmesh.errors import Conflict, NotFound, TooLarge, WrongOffset
from planetmesh.model.blob import Digest, StagedFile
from planetmesh.model.ids import JobId
from planetmesh.model.resources import show_size
from planetmesh.paths import Home
from planetmesh.settings import Settings
from planetmesh.store.blobs import Ledger

log = logging.getLogger(__name__)

T = TypeVar("T")

THREADS = 8
"""For reading, writing and hashing: more than there are disks, so that one slow transfer stops no other."""
SWEPT_AT_ONCE = 256
"""Blobs removed while uploads wait to be entered: some tens of milliseconds."""
ENTERED_AT_ONCE = 1000
BUSY_SECONDS = 20.0
"""For a transfer that broke off unseen to be noticed, when somebody comes to go on with it."""


class Depot:
    """Make one with `open_depot`."""

    def __init__(self, shelf: Shelf, ledger: Ledger, settings: Callable[[], Settings]) -> None:
        self.shelf = shelf
        self.ledger = ledger
        self.manifests = Manifests(self.read_small)
        self.bytes_in = 0
        """That came since the start, and `bytes_out` that went."""
        self.bytes_out = 0
        self.bounds = Bounds(ledger.brought, lambda: settings().job_files_most_bytes)
        self._settings = settings
        self._half = (shelf.room.used_bytes + shelf.room.free_bytes) // 2
        """The quota where none is set: with what lies there already, so that restarts do not change it."""
        self._threads = ThreadPoolExecutor(THREADS, "depot")
        self._settling = asyncio.Lock()
        """Held from a look at the shelf to the row that relies on it, and from a row's end to its file's."""
        self._arriving: dict[Digest, asyncio.Event] = {}
        self._follow()

    def _follow(self) -> None:
        """What counts for what is written from now on."""
        settings = self._settings()
        self.shelf.room.quota_bytes = settings.blob_quota_bytes or self._half
        self.shelf.room.reserve_bytes = settings.disk_reserve_bytes

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Let one of the depot's threads do it; it is done even if nobody waits any more."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        future.add_done_callback(_heard)
        return future

    def later(self, work: Callable[[], object]) -> Future[object]:
        """Let a thread do it, whether or not anybody waits."""
        return self._threads.submit(work)

    def close(self) -> None:
        self._threads.shutdown(wait=True)

    # What is here

    async def sizes_of(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """Of those that are here."""
        sizes = await self.ledger.sizes_of(digests)
        return await self.run(lambda: {each: size for each, size in sizes.items() if self.shelf.has(each)})

    async def claim(self, digests: Iterable[Digest], job_id: JobId | None) -> dict[Digest, int]:
        """The sizes of those that are here; they stay for the job, or for a while if there is none yet."""
        async with self._settling:
            sizes = await self.sizes_of(digests)
            if job_id is None:
                await self.ledger.touch(sizes, time.time())
            else:
                await self._add(sizes, job_id)
        return sizes

    async def partial_sizes(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """How much of each has arrived."""
        asked = list(digests)
        return await self.run(lambda: {each: self.shelf.partial_size(each) for each in asked})

    async def open(self, digest: Digest) -> Reading:
        """Raises NotFound."""
        return await _kept(self.run(lambda: Reading(self.shelf.open(digest))), Reading.close)

    async def read_small(self, digest: Digest, most_bytes: int) -> bytes:
        """All of one; raises NotFound or TooLarge."""
        return await self.run(lambda: self.shelf.read(digest, most_bytes))

    # What uses it

    async def use(self, job_id: JobId, files: Iterable[StagedFile]) -> None:
        """The job needs these files and, of folders, all that stands in their manifests.

        Raises MissingBlobs, and then keeps nothing, if one is not here; BadInput for a size that is not the
        blob's or for a manifest that cannot be laid down.
        """
        sizes: dict[Digest, int] = {}
        trees: dict[Digest, None] = {}
        for file in files:
            sizes[file.digest] = file.size
            if file.is_tree:
                trees[file.digest] = None
        for manifest in trees:
            try:
                contents = await self.manifests.contents(manifest)
            except NotFound:
                continue  # told with all others that are missing
            sizes.update(await asyncio.to_thread(_named, contents))
        if sizes:
            await self.ledger.add_uses(job_id, sizes, time.time())

    # What comes

    def refuse_too_large(self, size: int) -> None:
        most = self._settings().blob_most_bytes
        if size > most:
            raise TooLarge(
                f"The file has {show_size(size)}; {show_size(most)} is the limit.",
                hint="An operator can raise it: the setting 'blob_most_bytes'.",
            )

    async def begin(self, digest: Digest, size: int, offset: int | None) -> Partial:
        """Open a transfer, for None where what has arrived ends; `end` must follow.

        Raises WrongOffset if so much is not here, TooLarge or StorageFailed if there is no room. Who goes on
        where somebody else is writing waits for that one to break off: it may be his own former connection,
        which nobody has told us the end of.
        """
        self.refuse_too_large(size)
        self._follow()
        if offset != 0 and digest in self._arriving:
            await self._wait_for(digest)
        if offset is None:
            offset = (await self.partial_sizes([digest]))[digest]
        arriving = await _kept(
            self.run(partial(self.shelf.open_partial, digest, size, offset)), Partial.close
        )
        if arriving.is_lasting:
            self._arriving[digest] = asyncio.Event()
        return arriving

    async def _wait_for(self, digest: Digest) -> None:
        try:
            async with asyncio.timeout(BUSY_SECONDS):
                await self._arriving[digest].wait()
        except TimeoutError:
            raise WrongOffset(
                "Somebody else is sending this blob just now.", hint="Send it from the beginning, or wait."
            ) from None

    def end(self, arriving: Partial) -> None:
        """Close a transfer once its thread is done with it. Needs no waiting for, so it may come anywhere."""
        loop = asyncio.get_running_loop()

        def closed(_future: Future[object]) -> None:
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(self._ended, arriving)

        self.later(arriving.close).add_done_callback(closed)

    def _ended(self, arriving: Partial) -> None:
        if arriving.is_lasting:
            self._arriving.pop(arriving.digest).set()

    async def keep(self, digest: Digest, size: int, job_id: JobId | None) -> None:
        """Enter a blob that is on the shelf now."""
        await self._enter({digest: size}, job_id)

    async def keep_small(self, blobs: list[tuple[Digest, bytes]], job_id: JobId | None) -> int:
        """Put some that came together on the shelf and enter them; returns how many were new."""
        if not blobs:
            return 0
        if job_id is not None:
            await self.bounds.promise(job_id, {digest: len(content) for digest, content in blobs})
        self._follow()
        new = await self.run(lambda: self.shelf.put_many(blobs))
        await self._enter({digest: len(content) for digest, content in blobs}, job_id)
        return len(new)

    async def _enter(self, sizes: dict[Digest, int], job_id: JobId | None) -> None:
        async with self._settling:
            here = await self.run(lambda: all(map(self.shelf.has, sizes)))
            if not here:
                raise Conflict("What had arrived was swept away at this moment.", hint="Send it once more.")
            await self._add(sizes, job_id)

    async def _add(self, sizes: dict[Digest, int], job_id: JobId | None) -> None:
        most = self._settings().job_files_most_bytes
        await self.ledger.add(sizes, time.time(), job_id, brought_most=most)
        if job_id is not None:
            self.bounds.came(job_id, sizes)

    # What goes

    async def sweep(self) -> None:
        """Remove what no job has used for the grace, and transfers that nobody went on with."""
        settings, now = self._settings(), time.time()
        before = now - settings.blob_grace_seconds
        for job_id in await self.ledger.gone_jobs(before):
            while await self.ledger.drop_uses(job_id, now):
                pass
        removed = 0
        after: int | None = 0
        while after is not None:
            page = await self.ledger.loose(before, after)
            for start in range(0, len(page.digests), SWEPT_AT_ONCE):
                removed += await self._remove(page.digests[start : start + SWEPT_AT_ONCE], before)
            after = page.after
        dropped = await self.run(lambda: self.shelf.sweep_partials(now, settings.blob_grace_seconds))
        left = await self.partial_sizes(self.bounds.begun())
        self.bounds.forget([digest for digest, have in left.items() if not have])
        if removed or dropped:
            log.info("blobs.swept", extra={"blobs": removed, "partial": dropped})
        await self.ledger.checkpoint()

    async def _remove(self, digests: Iterable[Digest], before: float) -> int:
        async with self._settling:
            gone = await self.ledger.remove(digests, before)
            await self.run(lambda: [self.shelf.remove(digest) for digest in gone])
        return len(gone)

    async def enter_strays(self) -> None:
        """Enter files without a row (a crash came between), so that the sweep finds them. For the start."""
        entries = self.shelf.entries()
        while batch := await self.run(lambda: _some(entries)):
            sizes = {entry.digest: entry.size for entry in batch}
            known = await self.ledger.sizes_of(sizes)
            strays = {digest: size for digest, size in sizes.items() if digest not in known}
            if strays:
                log.info("blobs.strays", extra={"blobs": len(strays)})
                await self._enter_present(strays)

    async def _enter_present(self, sizes: dict[Digest, int]) -> None:
        try:
            await self._enter(sizes, None)
        except Conflict:
            # One was removed between the two looks; the next start sees to the others.
            log.debug("blobs.strays_gone")


def _heard(done: asyncio.Future[Any]) -> None:
    """Whoever was cut off while a thread worked does not hear how that ended."""
    if not done.cancelled():
        done.exception()


def _named(contents: Mapping[bytes, int]) -> dict[Digest, int]:
    return {Digest(key.hex()): size for key, size in contents.items()}


def _some(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry, _number in zip(entries, range(ENTERED_AT_ONCE), strict=False)]


async def _kept(future: asyncio.Future[T], undo: Callable[[T], object]) -> T:
    """What the thread opens; if the caller is cut off meanwhile, it is closed again."""

    def give_back(done: asyncio.Future[T]) -> None:
        if not done.cancelled() and done.exception() is None:
            undo(done.result())

    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(give_back)
        raise


@asynccontextmanager
async def open_depot(home: Home, settings: Callable[[], Settings]) -> AsyncIterator[Depot]:
    """After `Store.open` of the same home; raises StorageFailed if something of it cannot be used."""
    ledger = await Ledger.open(home)
    try:
        reserve = settings().disk_reserve_bytes
        room = Room(home.root, reserve_bytes=reserve)
        shelf = await asyncio.to_thread(lambda: Shelf(home.blobs, room=room))
        depot = Depot(shelf, ledger, settings)
        try:
            yield depot
        finally:
            await asyncio.to_thread(depot.close)
    finally:
        await ledger.close()
