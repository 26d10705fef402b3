"""Pairing frames on a stream: two bytes of length, then the frame. Used by both sides of a pairing."""

from __future__ import annotations

import asyncio

from planetmesh.errors import PairingFailed
from planetmesh.trust.pairing import FRAME_MOST_BYTES

_LENGTH_BYTES = 2


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """The next frame; raise PairingFailed if it is empty or too long, IncompleteReadError at the end."""
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    if not 0 < length <= FRAME_MOST_BYTES:
        raise PairingFailed("The pairing failed.")
    return await reader.readexactly(length)


async def write_frames(writer: asyncio.StreamWriter, *frames: bytes) -> None:
    """Send frames in one go."""
    writer.write(b"".join(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame for frame in frames))
    await writer.drain()
