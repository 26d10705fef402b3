"""A hostile joiner: speaks pairing frames by hand, as far as it likes."""

from __future__ import annotations

import asyncio
import secrets
from hashlib import sha256
from typing import Self

from planetmesh.model.identity import Role
from planetmesh.trust import tls
from planetmesh.trust.codes import Code
from planetmesh.trust.frames import read_frame, write_frames
from planetmesh.trust.pairing import JoinerExchange


class Evil:
    """One raw connection to a pairing listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> Evil:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls.pairing_client_context(), server_hostname="x"
        )
        return cls(reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)

    def exchange(self, code: Code, role: Role = Role.AGENT) -> JoinerExchange:
        shown = self.writer.get_extra_info("ssl_object").getpeercert(True)
        return JoinerExchange(code, role, sha256(shown).digest(), secrets.token_bytes(16))

    async def send(self, *frames: bytes) -> None:
        await write_frames(self.writer, *frames)

    async def receive(self) -> bytes | None:
        """The next frame, or None if the desk has closed without a word."""
        try:
            async with asyncio.timeout(5):
                return await read_frame(self.reader)
        except (asyncio.IncompleteReadError, OSError):
            return None

    async def ask(self, *frames: bytes) -> bytes | None:
        try:
            await self.send(*frames)
        except OSError:
            return None
        return await self.receive()


async def guess(port: int, code: Code, role: Role = Role.AGENT) -> str:
    """One whole guess; says how far it came: 'hello', 'pake' (an answer to the guess) or 'in'."""
    async with await Evil.connect(port) as evil:
        exchange = evil.exchange(code, role)
        greeting = await evil.ask(exchange.hello())
        if greeting is None:
            return "closed"
        answer = await evil.ask(exchange.pake(greeting))
        if answer is None:
            return "hello"
        proof = await evil.ask(exchange.confirm(answer))
        return "pake" if proof is None else "in"
