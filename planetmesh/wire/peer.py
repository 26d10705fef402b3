"""Node↔node: one question and one answer over TLS, then the bytes of a blob until the connection closes.

Each message is four bytes of length (big-endian) and a tagged MessagePack struct. There is no HTTP here:
what is not spoken needs no parser.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from planetmesh.errors import PeerMisbehaved
from planetmesh.model.blob import Size
from planetmesh.wire.agent import Sentence

MESSAGE_MOST_BYTES = 16 * 1024
LENGTH_BYTES = 4


class AskBlob(msgspec.Struct, frozen=True, array_like=True, tag="ask_blob"):
    """The reader's only word. Which blob is meant stands in the ticket."""

    ticket: Annotated[str, Meta(max_length=4096)]
    offset: Size = 0
    """Where to go on."""


class GiveBlob(msgspec.Struct, frozen=True, array_like=True, tag="give_blob"):
    """All bytes from the offset on follow. They may come slowly: the holder may be fetching them itself."""

    size: Size
    """Of the whole blob."""


class RefuseBlob(msgspec.Struct, frozen=True, array_like=True, tag="refuse_blob"):
    reason: Sentence


Answer = GiveBlob | RefuseBlob

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
_question = msgspec.msgpack.Decoder(AskBlob)
_answer: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode_message(message: AskBlob | Answer) -> bytes:
    content = _encoder.encode(message)
    return len(content).to_bytes(LENGTH_BYTES, "big") + content


def length_of(head: bytes) -> int:
    """How many bytes the message has; raises PeerMisbehaved beyond the limit."""
    length = int.from_bytes(head, "big")
    if not 0 < length <= MESSAGE_MOST_BYTES:
        raise PeerMisbehaved(f"A message of {length} bytes is over the limit of {MESSAGE_MOST_BYTES}.")
    return length


def decode_question(content: bytes) -> AskBlob:
    """Raises PeerMisbehaved."""
    return _decode(_question, content)


def decode_answer(content: bytes) -> Answer:
    """Raises PeerMisbehaved."""
    return _decode(_answer, content)


def _decode(decoder: msgspec.msgpack.Decoder[T], content: bytes) -> T:
    try:
        return decoder.decode(content)
    except (msgspec.MsgspecError, RecursionError, ValueError, MemoryError) as error:
        raise PeerMisbehaved(f"A message of another node could not be read: {error}") from error
