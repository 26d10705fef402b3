"""What comes of a caller's own calls: values and ends of all his jobs in one stream of lines.

Whoever makes many small calls would otherwise open a stream for each of their jobs.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import msgspec
from aiohttp import web

from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.api.door import Stream, stream
from planetmesh.coordinator.api.outputs import ALIVE_SECONDS, NUMBER_MOST
from planetmesh.coordinator.engine import Engine
from planetmesh.coordinator.views import ended_job_view
from planetmesh.mesh.effects import JobEnded
from planetmesh.model.ids import JobId
from planetmesh.store.outputs import FreshValues
from planetmesh.store.pieces import NumberedValues
from planetmesh.wire.api import ValueKind, ValueLine

PAGE_BYTES = 1024 * 1024
OWNERS_KEPT = 4096

_encoder = msgspec.json.Encoder()


async def give_values(call: Call) -> web.StreamResponse:
    engine, submitter = call.parts.engine, call.principal.id
    newest = await engine.outputs.newest()
    after = call.number("after", newest, most=NUMBER_MOST)

    async def give(answer: Stream) -> None:
        teller = _Teller(engine, answer, submitter, fresh, after)
        await teller.hello()
        while True:
            news.clear()
            # Values are on disk before the end of their job is known: what is read after it is all.
            ended, is_lost = ends.take()
            await teller.tell_values()
            await teller.tell_ends(ended, is_lost=is_lost)
            try:
                async with asyncio.timeout(ALIVE_SECONDS):
                    await news.wait()
            except TimeoutError:
                await answer.rest()

    with engine.outputs.subscribe_values() as fresh:
        news = fresh.news
        with engine.feed.hearing_ends(submitter, news) as ends, call.open_ended():
            return await stream(call, give)


class _Teller:
    """One listener's place among all values."""

    def __init__(
        self, engine: Engine, answer: Stream, submitter: str, fresh: FreshValues, after: int
    ) -> None:
        self._engine = engine
        self._answer = answer
        self._submitter = submitter
        self._fresh = fresh
        self._after = after
        self._owners: OrderedDict[JobId, str] = OrderedDict()

    async def hello(self) -> None:
        await self._write([ValueLine(number=self._after, kind=ValueKind.HELLO)])

    async def tell_values(self) -> None:
        """All there are now."""
        fresh = self._fresh.take()
        if fresh is not None:
            await self._tell([each for each in fresh if each[1].number > self._after])
            return
        while found := await self._engine.outputs.values(self._after, PAGE_BYTES):
            await self._tell(found)

    async def _tell(self, found: list[NumberedValues]) -> None:
        if not found:
            return
        lines = [
            ValueLine(
                number=piece.number,
                kind=ValueKind.VALUES,
                job=job_id,
                index=piece.index,
                attempt=piece.attempt,
                offset=piece.offset,
                data=piece.data,
            )
            for job_id, piece in found
            if await self._owner(job_id) == self._submitter
        ]
        self._after = found[-1][1].number
        await self._write(lines)

    async def tell_ends(self, ended: list[JobEnded], *, is_lost: bool) -> None:
        lines = [
            ValueLine(number=self._after, kind=ValueKind.ENDED, job=each.job.id, view=ended_job_view(each))
            for each in ended
        ]
        if is_lost:
            lines.append(ValueLine(number=self._after, kind=ValueKind.RESYNC))
        await self._write(lines)

    async def _write(self, lines: list[ValueLine]) -> None:
        if lines:
            await self._answer.write(_encoder.encode_lines(lines))

    async def _owner(self, job_id: JobId) -> str:
        """Who handed the job in; nobody if it is not known any more."""
        live = self._engine.state.jobs.get(job_id)
        if live is not None:
            return live.job.submitter
        if job_id not in self._owners:
            stored = await self._engine.store.job(job_id)
            self._owners[job_id] = stored.summary.submitter if stored is not None else ""
            if len(self._owners) > OWNERS_KEPT:
                self._owners.popitem(last=False)
        return self._owners[job_id]
