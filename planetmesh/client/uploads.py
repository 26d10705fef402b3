"""Files to the coordinator: hashed here, asked which are missing there, and only those sent.

Small ones travel together, each large one alone; what was cut off goes on where it ended. All streams, so
a file of any size takes a few MiB of memory.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import islice
from typing import TypeVar

import msgspec

from planetmesh.blobs.frames import frame, in_bodies
from planetmesh.client.calls import Caller
from planetmesh.client.connect import Call
from planetmesh.client.crew import in_parallel
from planetmesh.client.failures import ConnectionLost, read_error
from planetmesh.client.local_files import (
    SMALL_BYTES,
    LocalFile,
    Watched,
    digest_of,
    has_changed,
    open_unchanged,
    read_whole,
    refuse_changed,
)
from planetmesh.client.progress import Progress
from planetmesh.errors import MeshError, PeerMisbehaved, Unreachable, WrongDigest, WrongOffset
from planetmesh.model.blob import Digest
from planetmesh.wire.api import Digests, MissingBlob, MissingBlobs, StoredBlobs

ASKED_AT_ONCE = 10_000
"""Digests in one question; the coordinator allows no more."""
BODY_BYTES = 8 * 1024 * 1024
"""Of many small files together; one such body is in memory for each worker."""
BODY_FILES = 2000
HASHED_AT_ONCE = 64
"""Small files for one visit of a thread."""
PIECE_BYTES = 1024 * 1024
STORE_SECONDS = 600.0
"""A slow disk may take so long to write what was sent, or to read again what it has of it."""
STALL_SECONDS = 120.0
"""Not one piece went out for so long: the other side is gone without a goodbye."""
READ_AGAIN_BYTES_A_SECOND = 20e6
"""What the coordinator has of a file is read again before it goes on, by a slow disk at this rate."""
TRIES_MOST = 5
"""Of one file that the coordinator wants from another place each time."""

T = TypeVar("T")


class Outgoing(msgspec.Struct, frozen=True):
    """A blob to be sent, from a file or from memory."""

    digest: Digest
    size: int
    file: LocalFile | None = None
    content: bytes = b""

    def read(self) -> bytes:
        """All of it; raises BadInput if its file has changed."""
        if self.file is None:
            return self.content
        content = read_whole(self.file)
        if sha256(content).hexdigest() != self.digest:
            raise has_changed(self.file)
        return content

    @classmethod
    def of_bytes(cls, content: bytes) -> Outgoing:
        return cls(Digest(sha256(content).hexdigest()), len(content), None, content)


_Job = tuple[Outgoing, int] | list[Outgoing]
"""A large one, with how much of it is there; or small ones, together."""


async def hash_files(files: Sequence[LocalFile], progress: Progress) -> list[Digest]:
    """The digests of all files, in their order, by as many threads as there are CPUs."""
    progress.begin("reading", sum(file.size for file in files), len(files))
    found: dict[str, Digest] = {}
    with _threads() as (pool, watched):
        # Begun in the order of size: one long file at the end would keep the other threads idle.
        distinct = sorted({file.path: file for file in files}.values(), key=lambda file: -file.size)

        async def take(batch: list[LocalFile]) -> None:
            before = watched.done_bytes
            digests = await asyncio.get_running_loop().run_in_executor(pool, _hash_batch, batch, watched)
            found.update(zip((file.path for file in batch), digests, strict=True))
            progress.done_files += len(batch)
            progress.done_bytes = max(before, watched.done_bytes)

        await in_parallel(take, _batches_to_hash(distinct), workers=_cpus())
    progress.done_bytes, progress.done_files = progress.total_bytes, progress.total_files
    return [found[file.path] for file in files]


def _hash_batch(batch: list[LocalFile], watched: Watched) -> list[Digest]:
    return [digest_of(file, watched) for file in batch]


def _batches_to_hash(files: list[LocalFile]) -> Iterator[list[LocalFile]]:
    large = [file for file in files if file.size > SMALL_BYTES]
    yield from ([file] for file in large)
    yield from _batched(files[len(large) :], HASHED_AT_ONCE)


@contextmanager
def _threads() -> Iterator[tuple[ThreadPoolExecutor, Watched]]:
    """Threads that end soon when the block is left early: nobody waits for the rest of a large file."""
    watched = Watched()
    pool = ThreadPoolExecutor(_cpus(), thread_name_prefix="planetmesh-hash")
    try:
        yield pool, watched
    finally:
        watched.stopped = True
        pool.shutdown(wait=True, cancel_futures=True)


def _cpus() -> int:
    return min(8, os.cpu_count() or 1)


def _batched(items: Iterable[T], most: int) -> Iterator[list[T]]:
    left = iter(items)
    while batch := list(islice(left, most)):
        yield batch


class Uploader:
    """Sends what the coordinator does not have."""

    def __init__(self, caller: Caller, progress: Progress) -> None:
        self._caller = caller
        self._progress = progress

    async def send(self, blobs: Iterable[Outgoing]) -> None:
        """All of them are on the coordinator's disk when this returns. Safe to repeat."""
        by_digest = {blob.digest: blob for blob in blobs}
        missing = await self._missing(list(by_digest))
        wanted = [(by_digest[each.digest], each.have) for each in missing if each.digest in by_digest]
        self._progress.begin("sending", sum(blob.size for blob, _ in wanted), len(wanted))
        large = [(blob, have) for blob, have in wanted if blob.size > SMALL_BYTES]
        large.sort(key=lambda each: -each[0].size)
        small = [blob for blob, _ in wanted if blob.size <= SMALL_BYTES]
        jobs: list[_Job] = [*large, *in_bodies(small, BODY_BYTES, BODY_FILES)]
        await in_parallel(self._send, jobs)

    async def _send(self, job: _Job) -> None:
        if isinstance(job, list):
            await self._send_together(job)
        else:
            await self._send_alone(*job)

    async def _missing(self, digests: list[Digest]) -> list[MissingBlob]:
        found: list[MissingBlob] = []
        for batch in _batched(digests, ASKED_AT_ONCE):
            body = msgspec.json.encode(Digests(tuple(batch)))
            answer = await self._caller.ask(Call("POST", "/v1/blobs/missing", body=body), MissingBlobs)
            found += answer.missing
        return found

    # Small ones

    async def _send_together(self, blobs: list[Outgoing]) -> None:
        body = await asyncio.to_thread(_framed, blobs)
        call = Call(
            "POST",
            "/v1/blobs",
            body=body,
            wait_seconds=STORE_SECONDS,
            headers={"Content-Type": "application/octet-stream"},
        )
        await self._caller.ask(call, StoredBlobs)
        self._progress.done_bytes += sum(blob.size for blob in blobs)
        self._progress.done_files += len(blobs)

    # Large ones

    async def _send_alone(self, blob: Outgoing, have: int) -> None:
        """Until it is there. A coordinator that restarts is waited for; what it kept is not sent again."""
        patience = self._caller.patience()
        passing = _Passing(blob, self._progress)
        wrong = 0
        while True:
            passing.begin(have)
            try:
                await self._put(passing)
                break
            except Unreachable as error:
                self._refuse_for_good(passing, error)
                if passing.sent:
                    patience = self._caller.patience()
                await patience.wait(error)
            except WrongOffset:
                wrong += 1
                if wrong >= TRIES_MOST:
                    raise
            left = await self._missing([blob.digest])
            if not left:
                break
            have = left[0].have
        passing.done()
        self._progress.done_files += 1

    def _refuse_for_good(self, passing: _Passing, error: Unreachable) -> None:
        """Raise what trying again would not mend."""
        if passing.failure is not None:
            raise passing.failure from error
        if not self._caller.may_repeat(Call("PUT", ""), error):
            raise error

    async def _put(self, passing: _Passing) -> None:
        blob, start = passing.blob, passing.start
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{blob.size - 1}/{blob.size}"
        call = Call("PUT", f"/v1/blobs/{blob.digest}", headers=headers, stream=passing.pieces)
        patient = STALL_SECONDS + start / READ_AGAIN_BYTES_A_SECOND
        try:
            async with asyncio.timeout(patient) as passing.limit:
                async with self._caller.link.send(call, read_seconds=STORE_SECONDS) as response:
                    passing.limit.reschedule(None)
                    body = await response.read()
                    if response.status >= 400:
                        raise read_error(response.status, body)
        except TimeoutError as error:
            raise ConnectionLost("The coordinator took nothing of a file for a long time.") from error
        except WrongDigest as error:
            if blob.file is not None:
                raise has_changed(blob.file) from error
            raise
        if response.status not in {200, 201}:
            raise PeerMisbehaved(f"The coordinator answered an upload with status {response.status}.")


class _Passing:
    """One large blob on its way, in one try after the other."""

    def __init__(self, blob: Outgoing, progress: Progress) -> None:
        self.blob = blob
        self.start = 0
        self.sent = 0
        """In this try."""
        self.failure: MeshError | None = None
        """Why nothing more could be read here."""
        self.limit: asyncio.Timeout | None = None
        self._progress = progress
        self._counted = 0

    def begin(self, start: int) -> None:
        if start >= self.blob.size:
            start = 0  # it has all and yet not the blob: it begins anew
        self.start, self.sent = start, 0
        self._progress.kept_bytes += start - self._counted
        self._count(start)

    def done(self) -> None:
        self._count(self.blob.size)

    def _count(self, until: int) -> None:
        self._progress.done_bytes += until - self._counted
        self._counted = until

    async def pieces(self) -> AsyncIterator[bytes]:
        """From `start` to the end; the next one is read while one is sent."""
        self.sent = 0
        try:
            async for piece in _read_ahead(self.blob, self.start):
                yield piece
                self.sent += len(piece)
                self._count(self.start + self.sent)
                self._extend(STALL_SECONDS)
        except MeshError as error:
            self.failure = error
            raise
        self._extend(None)

    def _extend(self, seconds: float | None) -> None:
        """The other side lives: it took something. Nothing happens once the answer is there."""
        with suppress(RuntimeError):
            if self.limit is not None:
                until = None if seconds is None else asyncio.get_running_loop().time() + seconds
                self.limit.reschedule(until)


async def _read_ahead(blob: Outgoing, start: int) -> AsyncIterator[bytes]:
    if blob.file is None:
        for place in range(start, blob.size, PIECE_BYTES):
            yield blob.content[place : place + PIECE_BYTES]
        return
    loop = asyncio.get_running_loop()
    descriptor = await asyncio.to_thread(open_unchanged, blob.file)
    following: asyncio.Future[bytes] | None = None
    try:
        os.lseek(descriptor, start, os.SEEK_SET)
        left = blob.size - start
        following = loop.run_in_executor(None, os.read, descriptor, min(PIECE_BYTES, left))
        while left:
            piece = await following
            left -= len(piece)
            if not piece:
                raise has_changed(blob.file)
            if left:
                following = loop.run_in_executor(None, os.read, descriptor, min(PIECE_BYTES, left))
            else:
                refuse_changed(blob.file, descriptor)
            yield piece
    finally:
        if following is not None and not following.done():
            await asyncio.wait({following})
        os.close(descriptor)


def _framed(blobs: list[Outgoing]) -> bytes:
    return b"".join(frame(blob.digest, blob.read()) for blob in blobs)
