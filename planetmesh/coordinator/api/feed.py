"""The event feed as lines of JSON, after a number, without an end."""

from __future__ import annotations

import asyncio

from aiohttp import web

from planetmesh.coordinator.api.call import Call
from planetmesh.coordinator.api.door import Stream, stream
from planetmesh.coordinator.api.outputs import ALIVE_SECONDS, NUMBER_MOST
from planetmesh.wire.api import FeedEvent, rfc3339
from planetmesh.wire.codec import to_json

PIECE_BYTES = 256 * 1024
"""Written at a time; the next piece waits until the caller took this one."""


async def give_feed(call: Call) -> web.StreamResponse:
    engine = call.parts.engine
    feed = engine.feed
    after = call.number("after", feed.number, most=NUMBER_MOST)

    async def give(answer: Stream) -> None:
        hello = FeedEvent(after, "hello", rfc3339(engine.read_clock().wall) or "")
        await answer.write(to_json(hello) + b"\n")
        while True:
            lines = feed.take(subscriber, PIECE_BYTES, engine.read_clock())
            if lines:
                await answer.write(lines)
                continue
            try:
                async with asyncio.timeout(ALIVE_SECONDS):
                    await subscriber.news.wait()
            except TimeoutError:
                await answer.rest()

    with feed.subscribe(after) as subscriber, call.open_ended():
        return await stream(call, give)
