"""Answers without an end: outputs and the feed, as NDJSON.

Each line carries a number; after a broken connection the stream goes on behind the last one seen, so a
caller sees every line once and never notices a coordinator's restart.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Protocol, TypeVar

import aiohttp
import msgspec

from planetmesh.client.calls import Caller
from planetmesh.client.connect import Call
from planetmesh.client.failures import read_error
from planetmesh.errors import PeerMisbehaved, Unreachable

SILENCE_SECONDS = 60.0
"""A stream that is silent for so long is asked for again: a dead coordinator sends no goodbye."""
LINE_MOST_BYTES = 64 * 1024 * 1024


BYTES_SILENCE_SECONDS = 600.0
"""Where there are no lines the coordinator cannot send an empty one; it may look through many tasks."""


class Numbered(Protocol):
    """What a line is made of: everything with a number to resume after."""

    @property
    def number(self) -> int: ...


N = TypeVar("N", bound=Numbered)
T = TypeVar("T")


async def follow(caller: Caller, call: Call, kind: type[N], *, after: int | None) -> AsyncGenerator[N, None]:
    """Lines numbered above `after`, across restarts, until the coordinator ends the stream in order.

    Without `after` the coordinator says where it begins, with its first line.
    """
    patience = caller.patience()
    while True:
        place = {} if after is None else {"after": str(after)}
        resumed = replace(call, query=call.query | place)
        try:
            async for line in read_lines(caller, resumed, kind):
                patience = caller.patience()
                if after is None or line.number > after:
                    after = line.number
                    yield line
            return
        except Unreachable as error:
            if not caller.may_repeat(call, error):
                raise
            await patience.wait(error)


async def read_lines(caller: Caller, call: Call, kind: type[T]) -> AsyncGenerator[T, None]:
    """The lines of one answer; raises ConnectionLost if it breaks off."""
    decoder = msgspec.json.Decoder(kind)
    async with caller.link.send(call, read_seconds=SILENCE_SECONDS) as response:
        if response.status >= 400:
            raise read_error(response.status, await response.read())
        async for line in _split(response):
            try:
                yield decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
                raise PeerMisbehaved(f"A line from the coordinator cannot be understood: {error}") from error


async def read_bytes(caller: Caller, call: Call) -> AsyncGenerator[bytes, None]:
    """An answer that is no JSON, as it comes; raises ConnectionLost if it breaks off."""
    async with caller.link.send(call, read_seconds=BYTES_SILENCE_SECONDS) as response:
        if response.status >= 400:
            raise read_error(response.status, await response.read())
        async for chunk in response.content.iter_any():
            yield chunk


async def _split(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = bytearray()
    async for chunk in response.content.iter_any():
        if b"\n" not in chunk:
            rest += chunk
            if len(rest) > LINE_MOST_BYTES:
                raise PeerMisbehaved(f"A line from the coordinator is longer than {LINE_MOST_BYTES} bytes.")
            continue
        first, *others = chunk.split(b"\n")
        rest += first
        for complete in (bytes(rest), *others[:-1]):
            if complete.strip():
                yield complete
        rest = bytearray(others[-1])
    if rest.strip():
        yield bytes(rest)
