"""Further inputs by a WebSocket that stays open: for who makes one call after the other.

A request for each costs both ends several times as much. Whatever goes wrong here, the caller asks by a
request instead: doing it twice is the same as doing it once. Belongs to the call desk.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp
import msgspec

from planetmesh.client.connect import ANSWER_SECONDS, Link
from planetmesh.client.failures import error_of
from planetmesh.errors import MeshError
from planetmesh.model.ids import JobId
from planetmesh.wire.api import InputsTaken, MoreInputs

PATH = "/v1/inputs"
MESSAGE_MOST_BYTES = 32 * 1024
"""Longer ones are requests: they are rare, and the coordinator lets few of them in at a time."""
REQUESTS_FIRST = 3
"""So many are requests before one is opened: another connection is not worth it for a few calls."""
REQUESTS_WITHOUT = 100
"""And so many before it is tried again where none could be opened: the coordinator may have none."""


class InputLine:
    """Used by one event loop."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._requests_left = REQUESTS_FIRST
        self._turn = asyncio.Lock()

    async def add(self, job: JobId, items: tuple[str, ...], first: int) -> bool:
        """They are on the coordinator's disk; False: ask by a request. Raises what is answered."""
        content = msgspec.json.encode(MoreInputs(job, items, first))
        if len(content) > MESSAGE_MOST_BYTES:
            return False
        async with self._turn:
            if self._socket is None and self._requests_left > 0:
                self._requests_left -= 1
                return False
            try:
                answer = await self._ask(content)
            except (aiohttp.ClientError, msgspec.MsgspecError, MeshError, OSError, TimeoutError):
                self._requests_left = REQUESTS_WITHOUT if self._socket is None else REQUESTS_FIRST
                await self._drop()
                return False
            except BaseException:
                # Its answer would be taken for the next one's.
                await self._drop()
                raise
        if answer.error is not None:
            raise error_of(answer.error)
        return True

    async def close(self) -> None:
        """Let it go; a later `add` would open another."""
        await self._drop()

    async def _ask(self, content: bytes) -> InputsTaken:
        if self._socket is None:
            self._socket = await self._link.open_socket(PATH)
        await self._socket.send_bytes(content)
        answer = await self._socket.receive(timeout=ANSWER_SECONDS)
        if answer.type is not aiohttp.WSMsgType.BINARY:
            raise ConnectionResetError("The coordinator closed the WebSocket.")
        return msgspec.json.decode(answer.data, type=InputsTaken)

    async def _drop(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            with suppress(aiohttp.ClientError, OSError):
                await socket.close()
