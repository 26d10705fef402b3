"""Blobs on the wire: bodies that pass to the disk and back in flat memory, and who may send what.

The loop moves bytes; hashing and the disk are the depot's threads'. One piece is read while the one before
is written, no more.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from functools import partial

import msgspec
from aiohttp import ClientPayloadError

from planetmesh.blobs.partial import Partial
from planetmesh.blobs.reading import Reading
from planetmesh.coordinator.api.call import BODY_LEAST_BYTES_PER_SECOND, Call
from planetmesh.coordinator.api.door import Stream
from planetmesh.coordinator.depot import Depot
from planetmesh.coordinator.leases import Lease, lease_of
from planetmesh.errors import BadInput, Conflict, NotAllowed
from planetmesh.model.blob import SIZE_MOST_BYTES, Digest
from planetmesh.model.identity import Role
from planetmesh.model.ids import JobId, NodeId, is_job_id

log = logging.getLogger(__name__)

PIECE_BYTES = 1024 * 1024
"""Read at a time."""
AHEAD_BYTES = 4 * 1024 * 1024
"""Of one body, in memory while the disk is busy."""
NUMBER_MOST = 2**31

_RANGE = re.compile(r"bytes=(\d{0,16})-(\d{0,16})")
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,16})-(\d{1,16})|\*)/(\d{1,16})")


# Who may


def lease(call: Call) -> Lease | None:
    """The live attempt that an agent names in the query; None for people. Raises Conflict, or BadInput."""
    if call.principal.role is not Role.AGENT:
        return None
    job = call.text("job") or ""
    if not is_job_id(job) or call.text("index") is None or call.text("attempt") is None:
        raise BadInput("An agent names the attempt that it acts for: job, index and attempt.")
    index, attempt = (call.number(name, 0, most=NUMBER_MOST) for name in ("index", "attempt"))
    return lease_of(call.parts.engine.state, NodeId(call.principal.id), JobId(job), index, attempt)


def owner(call: Call) -> JobId | None:
    """The job that what comes is for, if an agent sends it. Raises Conflict unless it is to bring files."""
    held = lease(call)
    if held is None:
        return None
    if not held.brings_files:
        raise _refused(call, "This job brings back no files.")
    return held.job_id


async def refuse_others(call: Call, digests: list[Digest]) -> None:
    """Raise NotAllowed if the caller may not read one of these; NotFound is for what is not here."""
    held = lease(call)
    if held is not None:
        left = set(digests) - held.named
        for tree in held.trees:
            if left:
                contents = await call.parts.depot.manifests.contents(tree)
                left = {digest for digest in left if bytes.fromhex(digest) not in contents}
        if left:
            raise _refused(call, "This attempt was not given that file.")


def _refused(call: Call, reason: str) -> NotAllowed:
    log.warning("blobs.refused", extra={"member": call.principal.id, "reason": reason})
    return NotAllowed(reason)


# In


class Span(msgspec.Struct, frozen=True):
    """Which part of a blob a body is."""

    offset: int | None
    """None: where what has arrived ends, since nothing more comes."""
    length: int
    size: int
    """Of the whole blob."""


def span_of(call: Call) -> Span:
    """By Content-Range, else by the body's length, else by the query; raises BadInput."""
    request = call.request
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise BadInput("Compressed blobs are not accepted.")
    said = request.headers.get("Content-Range")
    if said is None:
        size = request.content_length
        if size is None:
            if call.text("size") is None:
                raise BadInput("The blob's size is not said.", hint="Give its length, or ?size=BYTES.")
            size = call.number("size", 0, most=SIZE_MOST_BYTES)
        return Span(0, size, size)
    match = _CONTENT_RANGE.fullmatch(said)
    if match is None:
        raise BadInput("The Content-Range is none of `bytes FIRST-LAST/SIZE` and `bytes */SIZE`.")
    size = int(match[3])
    if match[1] is None:
        span = Span(None, 0, size)
    else:
        span = Span(int(match[1]), int(match[2]) - int(match[1]) + 1, size)
    inside = span.offset is None or (span.length > 0 and span.offset + span.length <= size)
    if not inside or request.content_length not in (None, span.length):
        raise BadInput("The Content-Range does not fit the body, or itself.")
    return span


async def pieces_of(call: Call) -> AsyncIterator[list[bytes]]:
    """The body, about a megabyte at a time; raises BadInput, and cuts the caller off, if it stops coming."""
    content = call.request.content
    seconds = call.parts.body_grace_seconds + PIECE_BYTES / BODY_LEAST_BYTES_PER_SECOND
    try:
        while not content.at_eof():
            piece: list[bytes] = []
            size = 0
            async with asyncio.timeout(seconds):
                while size < PIECE_BYTES and not content.at_eof():
                    # As it came: putting pieces together would copy every byte once more.
                    data, _is_end = await content.readchunk()
                    piece.append(data)
                    size += len(data)
            call.still_allowed()
            call.parts.depot.bytes_in += size
            yield piece
    except TimeoutError as error:
        call.connection.abort()
        raise BadInput("The blob stopped coming.", hint="What has arrived is kept.") from error
    except (ConnectionError, ClientPayloadError) as error:
        raise Conflict("The connection was lost.", hint="What has arrived is kept.") from error


async def take_in(call: Call, arriving: Partial) -> None:
    """Pass the body to the disk. Raises what `Partial.drain` does, or BadInput if it comes too slowly.

    A thread writes what has come while more comes: few large visits cost less than many small ones.
    """
    run = call.parts.depot.run
    writing: asyncio.Future[None] | None = None
    async for piece in pieces_of(call):
        arriving.feed(*piece)
        if writing is not None and (writing.done() or arriving.backlog >= AHEAD_BYTES):
            await writing
            writing = None
        if writing is None:
            writing = run(arriving.drain)
    if writing is not None:
        await writing
        await run(arriving.drain)


# Out


def range_of(call: Call, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last that are asked for; None: all. Raises BadInput."""
    said = call.request.headers.get("Range")
    if said is None:
        return None
    match = _RANGE.fullmatch(said)
    if match is None or not (match[1] or match[2]):
        raise BadInput("The Range is not one of `bytes=FIRST-LAST`, `bytes=FIRST-` and `bytes=-COUNT`.")
    if not match[1]:
        return max(0, size - int(match[2])), size
    start, end = int(match[1]), int(match[2]) + 1 if match[2] else size
    if start > size or (end <= start < size):
        raise BadInput(f"The Range is not within the blob's {size} bytes.")
    return start, min(end, size)


async def give(depot: Depot, answer: Stream, reading: Reading, count: int) -> None:
    """So many bytes from where it stands; the next piece is read while one is sent."""
    following = depot.run(partial(reading.read, min(PIECE_BYTES, count)))
    left = count
    while left > 0:
        piece = await following
        if not piece:
            raise Conflict("The blob is shorter than it was.")
        left -= len(piece)
        if left > 0:
            following = depot.run(partial(reading.read, min(PIECE_BYTES, left)))
        await answer.write(piece)
        depot.bytes_out += len(piece)
