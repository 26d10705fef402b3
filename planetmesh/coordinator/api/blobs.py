"""Files in and out: which are missing, sending them alone or many together, and reading them.

A transfer that breaks off leaves what has arrived; `missing` says how much, and `Content-Range` goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import msgspec
from aiohttp import web

from planetmesh.blobs.digest import checked
from planetmesh.blobs.frames import BODY_MOST_BYTES, EACH_MOST_BYTES, Frames, frame, framed_size
from planetmesh.blobs.partial import Partial
from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.api.door import BYTES, OFFSET, Head, Stream, stream
from planetmesh.coordinator.api.lookup import open_job
from planetmesh.coordinator.api.transfers import (
    Span,
    give,
    owner,
    pieces_of,
    range_of,
    refuse_others,
    span_of,
    take_in,
)
from planetmesh.errors import BadInput, NotFound, TooLarge, WrongOffset
from planetmesh.model.blob import Digest
from planetmesh.model.identity import Role
from planetmesh.model.ids import JobId
from planetmesh.model.job import TaskState
from planetmesh.wire.api import Digests, MissingBlob, MissingBlobs, StoredBlobs, TaskFiles

DIGESTS_MOST = 10_000
"""In one question."""
QUESTION_MOST_BYTES = 1024 * 1024
SMALL_AT_ONCE_BYTES = 4 * 1024 * 1024
"""Of small blobs, held in memory; what arrived is written with one wait for the disk."""
PAGE_TASKS = 1000
BRINGING = {TaskState.COMPLETED, TaskState.FAILED}
"""Ends with which files may have come: a task that failed for some of its inputs kept those of the others."""

_encoder = msgspec.json.Encoder()


async def _asked(call: Call) -> list[Digest]:
    asked = await call.body(Digests, most_bytes=QUESTION_MOST_BYTES)
    if len(asked.digests) > DIGESTS_MOST:
        raise TooLarge(f"{len(asked.digests)} blobs are too many at a time; {DIGESTS_MOST} is the limit.")
    return [checked(each) for each in dict.fromkeys(asked.digests)]


async def missing_blobs(call: Call) -> web.StreamResponse:
    """Those of them that are not here. Of those that are, an agent's job has the use from now on."""
    job_id = owner(call)
    asked = await _asked(call)
    depot = call.parts.depot
    here = await depot.claim(asked, job_id)
    sizes = await depot.partial_sizes(each for each in asked if each not in here)
    return call.answer(MissingBlobs(tuple(MissingBlob(digest, have) for digest, have in sizes.items())))


async def put_blob(call: Call) -> web.StreamResponse:
    """One blob, or the rest of it."""
    job_id = owner(call)
    digest = checked(call.part("digest"))
    span = span_of(call)
    depot = call.parts.depot
    depot.refuse_too_large(span.size)
    async with call.parts.turns.turn(call.principal.id):
        if digest in await depot.claim([digest], job_id):
            return call.answer(StoredBlobs(0))
        if job_id is not None:
            await depot.bounds.promise(job_id, {digest: span.size})
        arriving = await depot.begin(digest, span.size, span.offset)
        try:
            return await _receive(call, arriving, span, job_id)
        finally:
            depot.end(arriving)


async def _receive(call: Call, arriving: Partial, span: Span, job_id: JobId | None) -> web.StreamResponse:
    await take_in(call, arriving)
    if span.offset is not None and arriving.have < span.offset + span.length:
        raise BadInput(f"The body ended early: {arriving.have} bytes are here now.", hint="Send the rest.")
    if arriving.have < span.size and span.offset is None:
        raise WrongOffset(f"Only {arriving.have} bytes are here.", hint="Send the rest.", have=arriving.have)
    if arriving.have < span.size:
        answer = call.answer(StoredBlobs(0), status=202)
        answer.headers[OFFSET] = str(arriving.have)
        return answer
    depot = call.parts.depot
    await depot.run(arriving.finish)
    await depot.keep(arriving.digest, span.size, job_id)
    return call.answer(StoredBlobs(1), status=201)


async def get_blob(call: Call) -> web.StreamResponse:
    """A blob's bytes, or a range of them."""
    digest = checked(call.part("digest"))
    await _refuse_unreadable(call, [digest])
    depot = call.parts.depot
    async with call.parts.turns.turn(call.principal.id):
        reading = await depot.open(digest)
        try:
            part = range_of(call, reading.size)
            start, end = part or (0, reading.size)
            headers = {"Accept-Ranges": "bytes", "ETag": f'"{digest}"'}
            if part is not None:
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{reading.size}"
            await depot.run(lambda: reading.seek(start))
            return await stream(
                call,
                lambda answer: give(depot, answer, reading, end - start),
                content_type=BYTES,
                head=Head(200 if part is None else 206, headers, end - start),
            )
        finally:
            depot.later(reading.close)


async def _refuse_unreadable(call: Call, digests: list[Digest]) -> None:
    """Raise NotAllowed for what is another attempt's, NotFound for what no job uses."""
    await refuse_others(call, digests)
    if call.principal.role is Role.AGENT:
        return
    used = await call.parts.depot.ledger.used(digests)
    for digest in digests:
        if digest not in used:
            raise NotFound(f"No job uses a blob {digest}.", hint="It was never sent, or its job is removed.")


async def put_blobs(call: Call) -> web.StreamResponse:
    """Many small blobs in one body of frames; all of them are on disk when this answers."""
    job_id = owner(call)
    frames = Frames()
    depot, stored = call.parts.depot, 0
    async with call.parts.turns.turn(call.principal.id):
        waiting: list[tuple[Digest, bytes]] = []
        async for pieces in pieces_of(call):
            for piece in pieces:
                waiting += frames.feed(piece)
            if sum(len(content) for _digest, content in waiting) >= SMALL_AT_ONCE_BYTES:
                stored += await depot.keep_small(waiting, job_id)
                waiting = []
        frames.end()
        stored += await depot.keep_small(waiting, job_id)
    return call.answer(StoredBlobs(stored))


async def read_blobs(call: Call) -> web.StreamResponse:
    """Many small blobs as frames, in the order in which they were asked for."""
    asked = await _asked(call)
    await _refuse_unreadable(call, asked)
    depot = call.parts.depot
    sizes = await depot.sizes_of(asked)
    for digest in asked:
        if digest not in sizes:
            raise NotFound(f"There is no blob {digest}.", hint="It was lost from the coordinator's disk.")
        if sizes[digest] > EACH_MOST_BYTES:
            raise TooLarge(f"The blob {digest} is too large to come with others.", hint="Get it alone.")
    length = framed_size(sizes.values())
    if length > BODY_MOST_BYTES:
        raise TooLarge("So many small blobs do not fit into one answer.", hint="Ask for fewer at a time.")

    def read(some: list[Digest]) -> bytes:
        return b"".join(frame(each, depot.shelf.read(each, EACH_MOST_BYTES)) for each in some)

    async def write(answer: Stream) -> None:
        for some in _batches(asked, sizes):
            frames = await depot.run(partial(read, some))
            await answer.write(frames)
            depot.bytes_out += len(frames)

    async with call.parts.turns.turn(call.principal.id):
        return await stream(call, write, content_type=BYTES, head=Head(length=length))


def _batches(digests: list[Digest], sizes: Mapping[Digest, int]) -> Iterator[list[Digest]]:
    """As many at a time as may be held in memory."""
    some: list[Digest] = []
    room = SMALL_AT_ONCE_BYTES
    for digest in digests:
        some.append(digest)
        room -= sizes[digest]
        if room <= 0:
            yield some
            some, room = [], SMALL_AT_ONCE_BYTES
    if some:
        yield some


async def list_files(call: Call) -> web.StreamResponse:
    """The job's tasks that brought files, by index."""
    found = await open_job(call, call.part("job"))
    engine, job_id = call.parts.engine, found.job.id

    async def write(answer: Stream) -> None:
        start = 0
        while tasks := await engine.store.tasks(job_id, start, PAGE_TASKS, BRINGING):
            lines = [
                TaskFiles(task.index, task.made.manifest, task.made.count, task.made.size)
                for task in tasks
                if task.made is not None
            ]
            if lines:
                await answer.write(_encoder.encode_lines(lines))
            else:
                await answer.rest()
            start = tasks[-1].index + tasks[-1].width

    return await stream(call, write)
