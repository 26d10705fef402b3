"""Reading a blob from another node. What comes is not believed: whoever takes it in checks the digest."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator

from planetmesh.errors import NotFound, PeerMisbehaved, Unreachable
from planetmesh.trust.tls import HANDSHAKE_SECONDS, cut, refusal_in
from planetmesh.wire.peer import (
    LENGTH_BYTES,
    AskBlob,
    RefuseBlob,
    decode_answer,
    encode_message,
    length_of,
)

CONNECT_SECONDS = 5.0
STALL_SECONDS = 40.0
"""Without a byte; longer than the holder waits for its own source."""
PIECE_BYTES = 1024 * 1024


async def read_from_peer(
    context: ssl.SSLContext, address: str, port: int, question: AskBlob, size: int
) -> AsyncGenerator[bytes, None]:
    """The bytes from the offset on, at most up to `size`.

    Raises Unreachable, NotAllowed, NotFound or PeerMisbehaved; what was yielded before stays good.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                address, port, ssl=context, ssl_handshake_timeout=HANDSHAKE_SECONDS, limit=PIECE_BYTES
            )
    except (OSError, TimeoutError) as error:
        silent = Unreachable(f"The node at {address} port {port} does not answer.")
        raise refusal_in(error) or silent from error
    try:
        writer.write(encode_message(question))
        await _read_answer(reader, size)
        left = size - question.offset
        while left:
            async with asyncio.timeout(STALL_SECONDS):
                piece = await reader.read(min(PIECE_BYTES, left))
            if not piece:
                raise Unreachable(f"The node at {address} stopped {left} bytes before the end.")
            left -= len(piece)
            yield piece
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        raise refusal_in(error) or Unreachable(f"The node at {address} fell silent.") from error
    finally:
        cut(writer.transport)


async def _read_answer(reader: asyncio.StreamReader, size: int) -> None:
    async with asyncio.timeout(STALL_SECONDS):
        length = length_of(await reader.readexactly(LENGTH_BYTES))
        answer = decode_answer(await reader.readexactly(length))
    if isinstance(answer, RefuseBlob):
        raise NotFound(f"The node does not hand it out: {answer.reason[:200]!a}.")
    if answer.size != size:
        raise PeerMisbehaved(f"The node says that the blob has {answer.size} bytes, and it has {size}.")
