"""What tasks wrote: as it comes (`output`, which may follow) and in order (`logs`), as lines of JSON."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.api.door import Stream, stream
from planetmesh.coordinator.api.lookup import open_job
from planetmesh.coordinator.engine import Engine
from planetmesh.errors import BadInput, NotFound
from planetmesh.model.ids import JobId
from planetmesh.wire.api import OutputPiece

ALIVE_SECONDS = 15.0
"""A stream without news sends an empty line this often; clients give up after a minute of silence."""
PAGE_BYTES = 1024 * 1024
NUMBER_MOST = 2**53
INDEX_MOST = 2**31
PRINTED = frozenset({1, 2})
"""stdout and stderr; values of calls are not for people's eyes."""

_encoder = msgspec.json.Encoder()


def _lines(pieces: list[OutputPiece]) -> bytes:
    return _encoder.encode_lines(pieces)


async def give_output(call: Call) -> web.StreamResponse:
    """Pieces in the order in which they came, after a number; with `follow` until the job has ended."""
    after = call.number("after", 0, most=NUMBER_MOST)
    index = None if call.text("index") is None else call.number("index", 0, most=INDEX_MOST)
    streams = _streams(call)
    following = call.flag("follow")
    found = await open_job(call, call.part("job"))
    if index is not None and index >= found.job.spec.task_count:
        raise NotFound(f"Job {found.job.id} has no task {index}.")
    engine, job_id = call.parts.engine, found.job.id

    async def give(answer: Stream) -> None:
        if following:
            with call.open_ended():
                await _follow(engine, answer, _Wanted(job_id, index, streams), after)
        else:
            await _drain(engine, answer, _Wanted(job_id, index, streams), after)

    return await stream(call, give)


def _streams(call: Call) -> frozenset[int]:
    """What a task printed, unless something else is asked for."""
    text = call.text("stream")
    if text is None:
        return PRINTED
    if text not in {"1", "2", "3"}:
        raise BadInput("The parameter 'stream' is 1 (stdout), 2 (stderr) or 3 (values of calls).")
    return frozenset({int(text)})


class _Wanted(msgspec.Struct, frozen=True):
    job_id: JobId
    index: int | None
    streams: frozenset[int]


async def _drain(engine: Engine, answer: Stream, wanted: _Wanted, after: int) -> int:
    """All there is now; returns the last number."""
    while pieces := await engine.outputs.read(wanted.job_id, after, wanted.index, PAGE_BYTES):
        shown = [piece for piece in pieces if piece.stream in wanted.streams]
        if shown:
            await answer.write(_lines(shown))
        after = pieces[-1].number
    return after


async def _follow(engine: Engine, answer: Stream, wanted: _Wanted, after: int) -> None:
    """Until everything that will ever be written has been given.

    Output is on disk before the end of its task is known, so what is read after the end is all of it.
    """
    job_id, index = wanted.job_id, wanted.index
    with engine.outputs.subscribe(job_id) as news, engine.feed.waking(job_id, news, index):
        while True:
            news.clear()
            over = _is_over(engine, job_id, index)
            after = await _drain(engine, answer, wanted, after)
            if over:
                return
            try:
                async with asyncio.timeout(ALIVE_SECONDS):
                    await news.wait()
            except TimeoutError:
                await answer.rest()


def _is_over(engine: Engine, job_id: JobId, index: int | None) -> bool:
    live = engine.state.jobs.get(job_id)
    return live is None or (index is not None and live.task(index) is None)


async def give_logs(call: Call) -> web.StreamResponse:
    """Each task's last attempt, in the order of their index."""
    start = call.number("from", 0, most=INDEX_MOST)
    left = call.number("limit_bytes", 2**62, least=1, most=2**62)
    found = await open_job(call, call.part("job"))
    engine, job_id = call.parts.engine, found.job.id

    async def give(answer: Stream) -> None:
        index, number, room = start, 0, left
        while room > 0:
            pieces = await engine.outputs.text(job_id, index, number, min(PAGE_BYTES, room))
            if not pieces:
                return
            index, number = pieces[-1].index, pieces[-1].number
            shown, room = _within([piece for piece in pieces if piece.stream in PRINTED], room)
            if shown:
                await answer.write(_lines(shown))

    return await stream(call, give)


def _within(pieces: list[OutputPiece], room: int) -> tuple[list[OutputPiece], int]:
    """As much as there is room for; the last piece may be cut."""
    shown: list[OutputPiece] = []
    for piece in pieces:
        if room <= 0:
            break
        cut = piece if len(piece.data) <= room else msgspec.structs.replace(piece, data=piece.data[:room])
        shown.append(cut)
        room -= len(cut.data)
    return shown, room
