"""Bytes to messages and back, with a version and a size limit. Anything odd is PeerMisbehaved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from planetmesh.errors import BadInput, PeerMisbehaved, TooLarge
from planetmesh.wire.agent import FromAgent, ToAgent

PROTOCOL = 3
"""Raised when a message is added or changes its meaning; the coordinator refuses other numbers."""
FRAME_MOST_BYTES = 1024 * 1024
FRAME_MOST_MESSAGES = 4096
_HEADER_BYTES = 5
MESSAGE_MOST_BYTES = FRAME_MOST_BYTES - _HEADER_BYTES

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_from_agent = msgspec.msgpack.Decoder(list[FromAgent])
_to_agent = msgspec.msgpack.Decoder(list[ToAgent])


def encode_frames(messages: Iterable[FromAgent] | Iterable[ToAgent]) -> Iterator[tuple[int, bytes]]:
    """WebSocket frames with all the messages in order, each with the number of messages in it.

    Raises TooLarge for a message that fits into no frame.
    """
    parts: list[bytes] = []
    size = _HEADER_BYTES
    for message in messages:
        part = _encoder.encode(message)
        if len(part) > MESSAGE_MOST_BYTES:
            raise TooLarge(f"A message of {len(part)} bytes is over the limit of {MESSAGE_MOST_BYTES}.")
        if size + len(part) > FRAME_MOST_BYTES or len(parts) == FRAME_MOST_MESSAGES:
            yield len(parts), _join(parts)
            parts, size = [], _HEADER_BYTES
        parts.append(part)
        size += len(part)
    if parts:
        yield len(parts), _join(parts)


def _join(parts: list[bytes]) -> bytes:
    """A MessagePack array of messages that are encoded already."""
    return b"\xdd" + len(parts).to_bytes(4, "big") + b"".join(parts)


def decode_from_agent(frame: bytes) -> list[FromAgent]:
    """Raises PeerMisbehaved."""
    return _decode(_from_agent, frame)


def decode_to_agent(frame: bytes) -> list[ToAgent]:
    """Raises PeerMisbehaved."""
    return _decode(_to_agent, frame)


def _decode(decoder: msgspec.msgpack.Decoder[list[T]], frame: bytes) -> list[T]:
    if len(frame) > FRAME_MOST_BYTES:
        raise PeerMisbehaved(f"A frame of {len(frame)} bytes is over the limit of {FRAME_MOST_BYTES}.")
    try:
        messages = decoder.decode(frame)
    except (msgspec.MsgspecError, RecursionError, ValueError, MemoryError) as error:
        raise PeerMisbehaved(f"A frame could not be read: {error}") from error
    if len(messages) > FRAME_MOST_MESSAGES:
        raise PeerMisbehaved(f"A frame holds {len(messages)} messages; {FRAME_MOST_MESSAGES} is the limit.")
    return messages


def to_json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def from_json(body: bytes, kind: type[T], *, most_bytes: int) -> T:
    """Read one JSON document of a known shape; raises BadInput or TooLarge with where it is wrong."""
    if len(body) > most_bytes:
        raise TooLarge(f"The request is {len(body)} bytes long; {most_bytes} is the limit.")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError, UnicodeError) as error:
        raise BadInput(f"The request could not be read: {error}") from error
