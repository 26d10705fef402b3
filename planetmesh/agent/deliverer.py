"""Brings what attempts made to the coordinator: read once, sent once, over however many links it takes.

The files are sent from the task's own folder, which nobody can reach any more; the manifest goes last. Only
then is the attempt's end told. What was sent is kept in the node's own cache too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from hashlib import sha256
from typing import Protocol

from planetmesh.agent.carrier import AttemptKey, Away, Carrier, Refused
from planetmesh.agent.collecting import Collected, Found, OutputRefused, Reader, changed, collect
from planetmesh.agent.file_threads import FileThreads
from planetmesh.agent.keeping import keep
from planetmesh.agent.reports import sentence_of
from planetmesh.agent.stage import Left, Stage
from planetmesh.agent.staging import Stopped
from planetmesh.blobs.cache import Cache
from planetmesh.blobs.frames import EACH_MOST_BYTES, frame
from planetmesh.errors import MeshError, WrongDigest, WrongOffset
from planetmesh.groups import TaskGroup, begin_in
from planetmesh.model.blob import Digest, Made
from planetmesh.wire.manifest import encode_manifest

log = logging.getLogger(__name__)

TRANSFERS_MOST = 4
KEEPERS = 1
"""The cache is warmed beside work that somebody waits for."""
ASKED_MOST = 5000
"""Digests in one question."""
BATCH_MOST_BYTES = 8 * 1024 * 1024
BATCH_MOST = 2048
PIECE_BYTES = 1024 * 1024


class Listener(Protocol):
    """Who hears what came of it; the desk."""

    def on_delivered(self, key: AttemptKey, made: Made | None) -> None:
        """None: there was nothing, and there need not be."""

    def on_delivery_failed(self, key: AttemptKey, sentence: str) -> None: ...


class Deliverer:
    """Made once per agent process; used from its loop."""

    def __init__(
        self,
        carrier: Carrier,
        threads: FileThreads,
        stage: Stage,
        cache: Cache,
        listener: Listener,
        group: asyncio.TaskGroup,
    ) -> None:
        self._cache = cache
        self._keeping: set[_Delivery] = set()
        self._keeps = asyncio.Semaphore(KEEPERS)
        self._carrier = carrier
        self._threads = threads
        self._stage = stage
        self._listener = listener
        self._group = group
        self._turns = asyncio.Semaphore(TRANSFERS_MOST)
        self._at_work: dict[AttemptKey, _Delivery] = {}

    def deliver(
        self,
        key: AttemptKey,
        left: Left,
        patterns: Sequence[str],
        most_bytes: int,
        *,
        needs_all: bool = True,
    ) -> None:
        """Begin; the listener hears the end, unless `stop` comes first. The folder goes in any case."""
        delivery = self._at_work[key] = _Delivery(key, left, patterns, most_bytes, needs_all=needs_all)
        if not begin_in(self._group, self._serve(delivery)):
            self._stage.discard(left)

    def stop(self, key: AttemptKey) -> None:
        """What it made is not wanted any more."""
        delivery = self._at_work.pop(key, None)
        if delivery is not None:
            delivery.stop.set()
            if delivery.work is not None:
                delivery.work.cancel()

    def close(self) -> None:
        for key in list(self._at_work):
            self.stop(key)
        for delivery in self._keeping:
            delivery.stop.set()

    async def _serve(self, delivery: _Delivery) -> None:
        delivery.work = asyncio.current_task()
        made, found, sentence = None, None, ""
        try:
            if not delivery.stop.is_set():
                made, found = await self._bring(delivery)
        except Stopped:
            log.debug("delivery.stopped", extra={**delivery.key.fields})
        except OutputRefused as refusal:
            sentence = f"{refusal}."
        except Refused as refusal:
            sentence = f"What it made was not taken: {refusal}"
        except (MeshError, OSError) as error:
            sentence = f"What it made cannot be read: {sentence_of(error)}"
        finally:
            delivery.work = None
            if found is None or not begin_in(self._group, self._keep(delivery, found)):
                self._stage.discard(delivery.left)
        if self._at_work.get(delivery.key) is not delivery:
            return
        del self._at_work[delivery.key]
        if found is not None:
            self._listener.on_delivered(delivery.key, made)
        else:
            log.warning("delivery.failed", extra={**delivery.key.fields, "reason": sentence})
            self._listener.on_delivery_failed(delivery.key, sentence[0].upper() + sentence[1:])

    async def _keep(self, delivery: _Delivery, found: Collected) -> None:
        """Warm the cache with it, then let the folder go. Its end is told meanwhile."""
        self._keeping.add(delivery)
        try:
            async with self._keeps:
                await self._threads.run(partial(keep, self._cache, found, delivery.stop))
        finally:
            self._keeping.discard(delivery)
            self._stage.discard(delivery.left)

    async def _bring(self, delivery: _Delivery) -> tuple[Made | None, Collected]:
        left = delivery.left
        found = await self._threads.run(
            partial(
                collect,
                left.folder,
                delivery.patterns,
                left.staged,
                delivery.most_bytes,
                delivery.stop,
                needs_all=delivery.needs_all,
            )
        )
        if not found.files and not delivery.needs_all:
            return None, found
        content = await self._threads.run(lambda: encode_manifest(found.manifest))
        await self._send_files(delivery, found)
        digest = Digest(sha256(content).hexdigest())
        await self._send_manifest(delivery.key, digest, content)
        return Made(digest, len(found.files), found.size), found

    async def _send_files(self, delivery: _Delivery, found: Collected) -> None:
        key = delivery.key
        files = {file.digest: file for file in found.files}
        missing = await self._missing(key, list(files))
        loads = deque(_loads([files[digest] for digest in missing]))

        async def work() -> None:
            while loads:
                load = loads.popleft()
                async with self._turns:
                    if len(load) == 1 and load[0].size > EACH_MOST_BYTES:
                        await self._send_large(key, found, load[0])
                    else:
                        await self._send_small(key, found, load)

        try:
            async with TaskGroup() as group:
                for _ in range(min(TRANSFERS_MOST, len(loads))):
                    group.create_task(work())
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors

    async def _missing(self, key: AttemptKey, digests: Sequence[Digest]) -> list[Digest]:
        missing: list[Digest] = []
        for start in range(0, len(digests), ASKED_MOST):
            some = digests[start : start + ASKED_MOST]
            missing += [
                each.digest for each in await self._carrier.persist(partial(self._carrier.missing, key, some))
            ]
        asked = set(digests)
        return [digest for digest in missing if digest in asked]

    async def _send_small(self, key: AttemptKey, found: Collected, load: list[Found]) -> None:
        frames = await self._threads.run(partial(_frames, found, load))
        await self._carrier.persist(partial(self._carrier.send_small, key, frames))

    async def _send_large(self, key: AttemptKey, found: Collected, file: Found) -> None:
        try:
            await self._carrier.persist(partial(self._send_rest, key, found, file))
        except Refused as refusal:
            if refusal.code == WrongDigest.code:
                raise changed(file.name) from refusal
            raise

    async def _send_rest(self, key: AttemptKey, found: Collected, file: Found) -> None:
        """What the coordinator does not have yet of one file, once; raises Refused or Away."""
        missing = await self._carrier.missing(key, [file.digest])
        if not missing:
            return
        offset = missing[0].have if missing[0].have <= file.size else 0
        pieces = _Pieces(self._threads, found, file, offset)
        try:
            await self._carrier.send(key, file.digest, file.size, offset, pieces.read())
        except Away:
            if pieces.trouble is not None:
                raise pieces.trouble from None
            raise
        except Refused as refusal:
            if refusal.code == WrongOffset.code:
                raise Away(str(refusal)) from refusal
            raise
        finally:
            await self._threads.run(pieces.close)

    async def _send_manifest(self, key: AttemptKey, digest: Digest, content: bytes) -> None:
        if len(content) <= EACH_MOST_BYTES:
            await self._carrier.persist(partial(self._carrier.send_small, key, frame(digest, content)))
            return

        async def send() -> None:
            missing = await self._carrier.missing(key, [digest])
            if missing:
                await self._carrier.send(key, digest, len(content), 0, _cut(content))

        await self._carrier.persist(send)


class _Delivery:
    def __init__(
        self, key: AttemptKey, left: Left, patterns: Sequence[str], most_bytes: int, *, needs_all: bool
    ) -> None:
        self.needs_all = needs_all
        self.key = key
        self.left = left
        self.patterns = patterns
        self.most_bytes = most_bytes
        self.stop = threading.Event()
        self.work: asyncio.Task[None] | None = None


class _Pieces:
    """A file's bytes on their way, read in threads; what goes wrong with the file is kept."""

    def __init__(self, threads: FileThreads, found: Collected, file: Found, offset: int) -> None:
        self._threads = threads
        self._found = found
        self._file = file
        self._left = file.size - offset
        self._offset = offset
        self._descriptor = -1
        self.trouble: OutputRefused | None = None

    async def read(self) -> AsyncIterator[bytes]:
        try:
            await self._threads.run(self._open)
            while self._left:
                piece = await self._threads.run(self._next)
                if not piece:
                    raise changed(self._file.name)
                self._left -= len(piece)
                yield piece
        except OutputRefused as refusal:
            self.trouble = refusal
            raise

    def _open(self) -> None:
        with Reader(self._found.folder) as reader:
            self._descriptor = reader.open(self._file)
        os.lseek(self._descriptor, self._offset, os.SEEK_SET)

    def _next(self) -> bytes:
        return os.read(self._descriptor, min(self._left, PIECE_BYTES))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _frames(found: Collected, load: Sequence[Found]) -> bytes:
    """Many small files as one body; raises OutputRefused for one that has changed."""
    parts: list[bytes] = []
    with Reader(found.folder) as reader:
        for file in load:
            descriptor = reader.open(file)
            try:
                content = os.read(descriptor, file.size + 1)
            finally:
                os.close(descriptor)
            if len(content) != file.size or sha256(content).hexdigest() != file.digest:
                raise changed(file.name)
            parts.append(frame(file.digest, content))
    return b"".join(parts)


def _loads(files: Sequence[Found]) -> Iterator[list[Found]]:
    """Large ones alone, small ones together."""
    batch: list[Found] = []
    room = BATCH_MOST_BYTES
    for file in files:
        if file.size > EACH_MOST_BYTES:
            yield [file]
            continue
        if batch and (file.size > room or len(batch) == BATCH_MOST):
            yield batch
            batch, room = [], BATCH_MOST_BYTES
        batch.append(file)
        room -= file.size
    if batch:
        yield batch


async def _cut(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
