"""Brings what tasks need into the cache, and keeps it there as long as they need it.

One transfer for each blob however many tasks want it, small ones many at a time, four transfers at once.
What was cut is gone on with. Everything that waits on the disk is done in threads.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Protocol

from planetmesh.agent.carrier import AttemptKey, Away, Carrier, Refused
from planetmesh.agent.file_threads import FileThreads
from planetmesh.agent.reports import sentence_of
from planetmesh.agent.sources import Sources
from planetmesh.agent.staging import Layout, lay_out
from planetmesh.blobs.cache import Cache
from planetmesh.blobs.frames import EACH_MOST_BYTES, Frames
from planetmesh.blobs.partial import Partial
from planetmesh.errors import BadInput, MeshError, StorageFailed, WrongDigest
from planetmesh.groups import TaskGroup, begin_in
from planetmesh.model.blob import Digest, Manifest, StagedFile
from planetmesh.model.resources import show_size
from planetmesh.wire.manifest import MANIFEST_MOST_BYTES, decode_manifest

log = logging.getLogger(__name__)

TRANSFERS_MOST = 4
BATCH_MOST_BYTES = 8 * 1024 * 1024
BATCH_MOST = 2048
STORE_BYTES = 2 * 1024 * 1024
"""Of small blobs that have come, held in memory before they are written together."""
WRONG_MOST = 3
"""So often a blob may come damaged before it counts as damaged where it comes from."""
ROOM_SECONDS = 2.0
"""Between two looks for room in a cache whose files are all in use."""


class Listener(Protocol):
    """Who hears what came of it; the desk."""

    def on_fetched(self, key: AttemptKey) -> None: ...

    def on_fetch_failed(self, key: AttemptKey, sentence: str) -> None: ...


class NoRoom(Exception):
    """All that is in the cache is in use."""


class _Want:
    """One attempt and what it needs."""

    def __init__(self, key: AttemptKey, files: Sequence[StagedFile]) -> None:
        self.key = key
        self.files = files
        self.manifests: dict[Digest, Manifest] = {}
        self.pins: dict[Digest, int] = {}
        """Sizes of what is kept for it."""
        self.work: asyncio.Task[None] | None = None


class _Load:
    """What one transfer carries: one blob, or many small ones."""

    def __init__(self, sizes: dict[Digest, int]) -> None:
        self.sizes = sizes
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def size(self) -> int:
        return sum(self.sizes.values())


class Fetcher:
    """Made once per agent process; used from its loop."""

    def __init__(
        self,
        cache: Cache,
        carrier: Carrier,
        sources: Sources,
        threads: FileThreads,
        listener: Listener,
        group: asyncio.TaskGroup,
    ) -> None:
        self._cache = cache
        self._sources = sources
        self._arriving: dict[Digest, Partial] = {}
        self._carrier = carrier
        self._threads = threads
        self._listener = listener
        self._group = group
        self._wants: dict[AttemptKey, _Want] = {}
        self._coming: dict[Digest, _Load] = {}
        self._turns = asyncio.Semaphore(TRANSFERS_MOST)
        self._scarce = asyncio.Lock()
        """Held by the one that waits for room: two would hold against each other what both need."""
        self._freed = asyncio.Event()

    def fetch(self, key: AttemptKey, files: Sequence[StagedFile]) -> None:
        """Begin; the listener hears the end, unless `stop` comes first."""
        want = self._wants[key] = _Want(key, files)
        begin_in(self._group, self._serve(want))

    def stop(self, key: AttemptKey) -> None:
        """Its files are not needed any more, whether they have come or not."""
        want = self._wants.pop(key, None)
        if want is None:
            return
        if want.work is not None and not want.work.done():
            want.work.cancel()
        else:
            begin_in(self._group, self._let_go(want))

    def close(self) -> None:
        for key in list(self._wants):
            self.stop(key)

    def arriving(self, digest: Digest) -> Partial | None:
        """A large blob that is on its way here, to be handed on as it comes."""
        return self._arriving.get(digest)

    def layout_of(self, files: Sequence[StagedFile], key: AttemptKey) -> Layout:
        """Where the files of a fetched attempt lie. Any thread may ask; raises BadInput."""
        want = self._wants.get(key)
        return lay_out(files, want.manifests if want else {})

    async def _serve(self, want: _Want) -> None:
        """One attempt's files, from the wish to the answer."""
        if self._wants.get(want.key) is not want:
            return
        want.work = asyncio.current_task()
        sentence = ""
        try:
            await self._bring_with_room(want)
        except asyncio.CancelledError:
            await self._let_go(want)
            raise
        except Refused as refused:
            sentence = str(refused)
        except (MeshError, OSError) as error:
            sentence = sentence_of(error)
        want.work = None
        if self._wants.get(want.key) is not want:
            await self._let_go(want)
        elif sentence:
            log.warning("fetch.failed", extra={**want.key.fields, "reason": sentence})
            self._listener.on_fetch_failed(want.key, sentence)
        else:
            self._listener.on_fetched(want.key)

    async def _bring_with_room(self, want: _Want) -> None:
        """As `_bring`; where the cache is full of what others use, wait for them, one at a time."""
        try:
            await self._bring(want)
        except NoRoom:
            await self._let_go(want)
        else:
            return
        async with self._scarce:
            while True:
                self._freed.clear()
                try:
                    await self._bring(want)
                except NoRoom:
                    await self._let_go(want)
                else:
                    return
                await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                await self._freed.wait()
        except TimeoutError:
            return

    async def _bring(self, want: _Want) -> None:
        trees = {file.digest: file.size for file in want.files if file.is_tree}
        if any(size > MANIFEST_MOST_BYTES for size in trees.values()):
            raise BadInput("The list of a folder's files is too long.")
        await self._have(want, trees)
        want.manifests = await self._threads.run(lambda: self._read_manifests(trees))
        layout = await self._threads.run(lambda: lay_out(want.files, want.manifests))
        sizes = {file.digest: file.size for file in layout.files}
        together = sum(trees.values()) + sum(sizes.values())
        if together > self._cache.most_bytes:
            raise StorageFailed(
                f"its files are {show_size(together)} together, and the cache of this node holds at most "
                f"{show_size(self._cache.most_bytes)}",
                hint="A larger one is a setting of the node: 'blob_cache_bytes'.",
            )
        await self._have(want, sizes)

    def _read_manifests(self, trees: Iterable[Digest]) -> dict[Digest, Manifest]:
        wants = list(self._wants.values())
        known = {digest: each for want in wants for digest, each in want.manifests.items()}
        return {
            digest: known.get(digest) or decode_manifest(self._cache.shelf.read(digest, MANIFEST_MOST_BYTES))
            for digest in trees
        }

    # What is here, and stays

    async def _have(self, want: _Want, sizes: Mapping[Digest, int]) -> None:
        """Return when all of these are in the cache, kept for the want."""
        new = [digest for digest in sizes if digest not in want.pins]
        want.pins.update((digest, sizes[digest]) for digest in new)
        missing = await self._threads.run(lambda: [each for each in new if not self._cache.pin(each)])
        while missing:
            mine = {digest: sizes[digest] for digest in missing if digest not in self._coming}
            if mine:
                await self._carry(want, mine)
            else:
                coming = {self._coming[digest].over for digest in missing}
                await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            missing = [digest for digest in missing if not self._cache.has(digest)]

    async def _let_go(self, want: _Want) -> None:
        pins, want.pins = want.pins, {}
        want.manifests = {}
        if pins:
            await self._threads.run(lambda: deque(map(self._cache.unpin, pins), 0))
        self._freed.set()

    # Transfers

    async def _carry(self, want: _Want, sizes: Mapping[Digest, int]) -> None:
        """Bring these, which nobody else does. Raises the first thing that goes wrong."""
        loads = deque(_loads(sizes))
        everything = list(loads)
        for load in loads:
            self._coming.update(dict.fromkeys(load.sizes, load))

        async def work() -> None:
            while loads:
                load = loads.popleft()
                async with self._turns:
                    await self._bring_load(want, load)
                self._end(load)

        try:
            async with TaskGroup() as group:
                for _ in range(min(TRANSFERS_MOST, len(loads))):
                    group.create_task(work())
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        finally:
            for load in everything:
                self._end(load)

    def _end(self, load: _Load) -> None:
        for digest in load.sizes:
            if self._coming.get(digest) is load:
                del self._coming[digest]
        if not load.over.done():
            load.over.set_result(None)

    async def _bring_load(self, want: _Want, load: _Load) -> None:
        wrong = 0
        async with self._room_for(load.size):
            while True:
                try:
                    await self._carrier.persist(lambda: self._transfer(want.key, load))
                except WrongDigest:
                    wrong += 1
                    if wrong >= WRONG_MOST:
                        raise
                else:
                    return

    @asynccontextmanager
    async def _room_for(self, size: int) -> AsyncIterator[None]:
        room = self._cache.room_for(size)
        try:
            await self._threads.run(room.__enter__)
        except StorageFailed as error:
            raise NoRoom(error.message) from error
        try:
            yield
        finally:
            await self._threads.run(lambda: room.__exit__(None, None, None))

    async def _transfer(self, key: AttemptKey, load: _Load) -> None:
        """What is still missing of a load, once; raises Refused, Away, or what the shelf does."""
        left = [digest for digest in load.sizes if not self._cache.has(digest)]
        if len(load.sizes) > 1 or load.size <= EACH_MOST_BYTES:
            if left:
                await self._transfer_small(key, left, load.sizes)
        else:
            for digest in left:
                await self._transfer_large(key, digest, load.sizes[digest])

    async def _transfer_small(
        self, key: AttemptKey, digests: Sequence[Digest], sizes: Mapping[Digest, int]
    ) -> None:
        frames = Frames()
        waiting: list[tuple[Digest, bytes]] = []
        size = 0
        async with aclosing(self._carrier.read_small(key, digests)) as answer:
            async for piece in answer:
                for digest, content in frames.feed(piece):
                    if digest in sizes:
                        waiting.append((digest, content))
                        size += len(content)
                if size >= STORE_BYTES:
                    await self._store(waiting)
                    waiting, size = [], 0
        await self._store(waiting)
        frames.end()
        if not all(map(self._cache.has, digests)):
            raise Away("The answer ended early.")

    async def _store(self, blobs: list[tuple[Digest, bytes]]) -> None:
        def store() -> None:
            self._cache.shelf.put_many(blobs)
            for digest, content in blobs:
                self._cache.added(digest, len(content))

        if blobs:
            await self._threads.run(store)

    async def _transfer_large(self, key: AttemptKey, digest: Digest, size: int) -> None:
        shelf = self._cache.shelf

        def begin() -> Partial:
            have = shelf.partial_size(digest)
            return shelf.open_partial(digest, size, have if have <= size else 0)

        arriving = self._arriving[digest] = await self._threads.run(begin)
        try:
            if arriving.have < size:
                await self._take_in(key, arriving)
            if arriving.have < size:
                raise Away("The answer ended early.")
            await self._threads.run(arriving.finish)
            self._cache.added(digest, size)
            self._sources.arrived(digest)
        except WrongDigest as error:
            self._sources.blame(digest, error.message)
            raise
        finally:
            del self._arriving[digest]
            await self._threads.run(arriving.close)

    async def _take_in(self, key: AttemptKey, arriving: Partial) -> None:
        """One piece is written while the next one comes."""
        writing: asyncio.Future[None] | None = None
        try:
            async with aclosing(self._sources.read(key, arriving)) as answer:
                async for piece in answer:
                    if writing is not None:
                        await self._threads.settled(writing)
                    writing = self._threads.begin(partial(arriving.append, piece))
        except BaseException:
            if writing is not None:
                with suppress(MeshError):
                    await self._threads.settled(writing)
            raise
        if writing is not None:
            await self._threads.settled(writing)


def _loads(sizes: Mapping[Digest, int]) -> Iterator[_Load]:
    """Large ones alone, small ones together."""
    batch: dict[Digest, int] = {}
    room = BATCH_MOST_BYTES
    for digest, size in sizes.items():
        if size > EACH_MOST_BYTES:
            yield _Load({digest: size})
            continue
        if batch and (size > room or len(batch) == BATCH_MOST):
            yield _Load(batch)
            batch, room = {}, BATCH_MOST_BYTES
        batch[digest] = size
        room -= size
    if batch:
        yield _Load(batch)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
