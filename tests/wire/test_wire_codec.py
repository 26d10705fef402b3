"""Bytes to messages and back; and T30, T31: whatever comes in, only PeerMisbehaved or BadInput comes out."""

from __future__ import annotations

import struct
import tracemalloc

import messages
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from planetmesh.errors import BadInput, PeerMisbehaved, TooLarge
from planetmesh.model.job import JobSpec
from planetmesh.wire import agent as wire
from planetmesh.wire.api import CancelJob, SubmitJob
from planetmesh.wire.codec import (
    FRAME_MOST_BYTES,
    FRAME_MOST_MESSAGES,
    MESSAGE_MOST_BYTES,
    decode_from_agent,
    decode_to_agent,
    encode_frames,
    from_json,
    to_json,
)

WORDS = st.text(max_size=20)
COUNTS = st.integers(0, 2**53)
RESULTS = st.builds(
    wire.TaskResult, WORDS, COUNTS, COUNTS, error=WORDS, wall_seconds=st.floats(0, 1e10),
    exit_code=st.none() | st.integers(-(2**31), 2**32),
)  # fmt: skip
FROM_AGENT = st.one_of(
    RESULTS,
    st.sampled_from(messages.FROM_AGENT),
    st.builds(wire.TaskStarted, WORDS, COUNTS, COUNTS),
    st.builds(wire.TaskOutput, WORDS, COUNTS, COUNTS, st.integers(1, 2), COUNTS, st.binary(max_size=50)),
)


@given(st.lists(FROM_AGENT, max_size=20))
def test_messages_come_back_as_they_were(said):
    frames = list(encode_frames(said))
    assert [message for _count, frame in frames for message in decode_from_agent(frame)] == said
    assert sum(count for count, _frame in frames) == len(said)


def test_every_message_to_an_agent_comes_back():
    (count, frame), *more = encode_frames(messages.TO_AGENT)
    assert (count, more) == (len(messages.TO_AGENT), [])
    assert tuple(decode_to_agent(frame)) == messages.TO_AGENT


@given(st.lists(st.integers(1, 400_000), max_size=12))
def test_frames_stay_below_the_limit_and_keep_the_order(sizes):
    said = [wire.TaskOutput("j", 0, 1, 1, at, b"x" * size) for at, size in enumerate(sizes)]
    frames = list(encode_frames(said))
    assert all(len(frame) <= FRAME_MOST_BYTES for _count, frame in frames)
    assert [message for _count, frame in frames for message in decode_from_agent(frame)] == said


def test_many_small_messages_are_spread_over_frames():
    frames = list(encode_frames([wire.Ping(1)] * (2 * FRAME_MOST_MESSAGES + 1)))
    assert [count for count, _frame in frames] == [FRAME_MOST_MESSAGES, FRAME_MOST_MESSAGES, 1]
    for _count, frame in frames:
        decode_to_agent(frame)


def message_size(message: wire.TaskOutput) -> int:
    return len(msgspec.msgpack.encode(message))


def test_a_message_that_fits_no_frame_is_refused_before_it_is_sent():
    room = MESSAGE_MOST_BYTES - message_size(wire.TaskOutput("j", 0, 1, 1, 0, b"x" * 70_000)) + 70_000
    most = wire.TaskOutput("j", 0, 1, 1, 0, b"x" * room)
    assert message_size(most) == MESSAGE_MOST_BYTES
    ((_count, frame),) = encode_frames([most])
    assert len(frame) == FRAME_MOST_BYTES
    assert decode_from_agent(frame) == [most]
    with pytest.raises(TooLarge):
        list(encode_frames([msgspec.structs.replace(most, data=b"x" * (room + 1))]))


def test_nothing_to_say_is_no_frame():
    assert list(encode_frames([])) == []
    assert decode_from_agent(b"\x90") == []


# T30

ARRAY32, MAP32, STR32, BIN32, EXT32 = b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9"
HUGE = struct.pack(">I", 2**32 - 1)
ABUSE = {
    "nothing": b"",
    "an array of 2^32": ARRAY32 + HUGE,
    "an array of 2^32 of arrays of 2^32": (ARRAY32 + HUGE) * 1000,
    "a map of 2^32": b"\x91" + MAP32 + HUGE,
    "a string of 2^32": b"\x91\x92" + STR32 + HUGE,
    "bytes of 2^32": b"\x91" + BIN32 + HUGE,
    "an extension of 2^32": b"\x91" + EXT32 + HUGE + b"\x05",
    "a small extension": b"\x91\xd4\x05\x00",
    "a timestamp": b"\x91\xd6\xff\x00\x00\x00\x00",
    "depth 10 000": b"\x91" * 10_000 + b"\x90",
    "depth 10 000 of maps": b"\x91" + b"\x81\xa1a" * 10_000 + b"\xc0",
    "depth 10 000 in a payload": b"\x91\x98\xa8open_job\xa1j\xa1t\x81\xa1x" + b"\x91" * 10_000 + b"\xc0",
    "an unused byte": b"\xc1",
    "no array": b"\xa4ping",
    "an array of numbers": b"\x93\x01\x02\x03",
    "an empty message": b"\x91\x90",
    "an unknown tag": b"\x91\x91\xa7unknown",
    "a tag of bytes": b"\x91\x91\xc4\x04ping",
    "a number for a tag": b"\x91\x91\x01",
    "a map for a message": b"\x91\x81\xa4type\xa4ping",
    "two frames": b"\x90\x90",
    "text that is no UTF-8": b"\x91\x92\xa7leaving\xa2\xff\xfe",
    "a key that is no text": b"\x91\x92\xa9heartbeat\x81\x01\x02",
}


@pytest.mark.parametrize("what", ABUSE)
@pytest.mark.parametrize("decode", [decode_from_agent, decode_to_agent])
def test_abuse_is_refused_without_a_large_allocation(decode, what: str):
    tracemalloc.start()
    try:
        with pytest.raises(PeerMisbehaved):
            decode(ABUSE[what])
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024


def test_of_doubled_keys_one_counts_and_the_shape_is_still_checked():
    doubled = b"\x91\x92\xa9heartbeat\x82\xa7running\x01\xa7running\x02"
    (beat,) = decode_from_agent(doubled)
    assert beat.load.running in {1, 2}
    with pytest.raises(PeerMisbehaved):
        decode_from_agent(doubled[:-1] + b"\xff")


def test_a_frame_over_the_limit_is_not_even_read():
    frame = msgspec.msgpack.encode([wire.Leaving("x")])
    padded = frame + b"\x00" * (FRAME_MOST_BYTES + 1 - len(frame))
    with pytest.raises(PeerMisbehaved, match="over the limit"):
        decode_from_agent(padded)


def test_too_many_messages_in_a_frame_are_refused():
    frame = msgspec.msgpack.encode([wire.Pong(1)] * (FRAME_MOST_MESSAGES + 1))
    with pytest.raises(PeerMisbehaved, match="messages"):
        decode_from_agent(frame)


def test_the_directions_are_not_mixed_up():
    with pytest.raises(PeerMisbehaved):
        decode_from_agent(msgspec.msgpack.encode([wire.Ping(1)]))
    with pytest.raises(PeerMisbehaved):
        decode_to_agent(msgspec.msgpack.encode([wire.Pong(1)]))


WHOLE = msgspec.msgpack.encode(messages.FROM_AGENT)


def only_misbehaved(frame: bytes) -> None:
    try:
        decoded = decode_from_agent(frame)
    except PeerMisbehaved:
        return
    assert all(isinstance(message, wire.FromAgent) for message in decoded)


def test_every_cut_is_refused():
    for length in range(len(WHOLE)):
        with pytest.raises(PeerMisbehaved):
            decode_from_agent(WHOLE[:length])


@given(st.binary(max_size=200))
@example(b"\xc1")
def test_any_bytes_at_all(frame):
    only_misbehaved(frame)


@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_bytes_changed_on_the_way(changes):
    frame = bytearray(WHOLE)
    for place, value in changes:
        frame[place] = value
    only_misbehaved(bytes(frame))


@given(st.integers(0, len(WHOLE)), st.binary(max_size=20), st.integers(0, 20))
def test_bytes_put_in_or_left_out(place, put, left_out):
    only_misbehaved(WHOLE[:place] + put + WHOLE[place + left_out :])


LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | WORDS | st.binary(max_size=9)
)
TREES = st.recursive(
    LEAVES, lambda kids: st.lists(kids, max_size=5) | st.dictionaries(WORDS, kids, max_size=4), max_leaves=15
)
TAGS = st.sampled_from([type(each).__struct_config__.tag for each in messages.ALL])


@given(st.lists(st.tuples(TAGS, st.lists(TREES, max_size=8)), max_size=3))
def test_right_tags_with_wrong_contents(said):
    only_misbehaved(msgspec.msgpack.encode([[tag, *fields] for tag, fields in said]))


# T31

SPEC = b'{"spec":{"type":"command","payload":{"argv":["a"]}}}'
JSON_ABUSE = {
    "deep": b"[" * 100_000,
    "deep in a payload": b'{"spec":{"type":"c","payload":{"x":' + b"[" * 100_000,
    "a 5000-digit number": b'{"spec":{"type":"c","payload":{},"priority":' + b"1" * 5000 + b"}}",
    "NaN": b'{"spec":{"type":"c","payload":{"x":NaN}}}',
    "Infinity": b'{"spec":{"type":"c","payload":{"x":Infinity}}}',
    "1e999": b'{"spec":{"type":"c","payload":{},"limits":{"attempt_seconds":1e999}}}',
    "a lone surrogate": b'{"spec":{"type":"\\ud800","payload":{}}}',
    "a byte order mark": b"\xef\xbb\xbf" + SPEC,
    "UTF-16": SPEC.decode().encode("utf-16"),
    "no UTF-8": b'{"spec":{"type":"\xff","payload":{}}}',
    "two documents": SPEC + SPEC,
    "nothing": b"",
    "a wrong shape": b'{"spec":7}',
    "an unknown key": b'{"spec":{"type":"c","payload":{}},"keey":"x"}',
    "an unknown key inside": b'{"spec":{"type":"c","payload":{},"priorty":3}}',
    "a key twice": b'{"key":"a","key":"b",' + SPEC[1:],
}


@pytest.mark.parametrize("what", JSON_ABUSE)
def test_json_abuse_is_the_callers_fault(what: str):
    if what == "a key twice":  # either refused or read as one of the two; never anything else
        assert from_json(JSON_ABUSE[what], SubmitJob, most_bytes=10**6).key in {"a", "b"}
        return
    with pytest.raises(BadInput):
        from_json(JSON_ABUSE[what], SubmitJob, most_bytes=10**6)


def test_a_body_over_the_limit_is_too_large():
    with pytest.raises(TooLarge):
        from_json(SPEC, SubmitJob, most_bytes=len(SPEC) - 1)
    assert from_json(SPEC, SubmitJob, most_bytes=len(SPEC)).spec.type == "command"


def test_the_error_says_where():
    with pytest.raises(BadInput, match=r"spec\.priority"):
        from_json(b'{"spec":{"type":"c","payload":{},"priority":"high"}}', SubmitJob, most_bytes=10**6)


@given(st.binary(max_size=100))
def test_any_body_at_all(body):
    try:
        from_json(body, CancelJob, most_bytes=1000)
    except BadInput:
        return
    assert body.strip(b" \t\r\n").startswith(b"{")


@given(st.dictionaries(WORDS, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS, max_size=4))
def test_json_comes_back_as_it_was(payload):
    spec = JobSpec(type="command", payload=payload)
    assert from_json(to_json(SubmitJob(spec, "k")), SubmitJob, most_bytes=10**6) == SubmitJob(spec, "k")
