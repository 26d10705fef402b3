"""What nodes say to each other: small, typed, bounded."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.errors import PeerMisbehaved
from planetmesh.wire.peer import (
    LENGTH_BYTES,
    MESSAGE_MOST_BYTES,
    AskBlob,
    GiveBlob,
    RefuseBlob,
    decode_answer,
    decode_question,
    encode_message,
    length_of,
)


@pytest.mark.parametrize("message", [AskBlob("t", 7), GiveBlob(9), RefuseBlob("no")])
def test_what_is_said_is_understood(message):
    data = encode_message(message)
    content = data[LENGTH_BYTES:]
    assert length_of(data[:LENGTH_BYTES]) == len(content)
    decode = decode_question if isinstance(message, AskBlob) else decode_answer
    assert decode(content) == message


@pytest.mark.parametrize("length", [0, MESSAGE_MOST_BYTES + 1, 2**32 - 1])
def test_a_length_beyond_the_limit_is_refused(length):
    with pytest.raises(PeerMisbehaved):
        length_of(length.to_bytes(4, "big"))


@given(st.binary(max_size=80))
def test_nonsense_is_refused_and_nothing_else_happens(content):
    for decode in (decode_question, decode_answer):
        with contextlib.suppress(PeerMisbehaved):
            decode(content)


@pytest.mark.parametrize("message", [AskBlob("t" * 5000, 1), AskBlob("t", -1), AskBlob("t", 2**60)])
def test_numbers_and_texts_are_bounded(message):
    with pytest.raises(PeerMisbehaved):
        decode_question(encode_message(message)[LENGTH_BYTES:])
