"""The messages themselves: a golden example of each, growth at the end only, and bounds on every number."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import get_args

import messages
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.errors import PeerMisbehaved
from planetmesh.wire import agent as wire
from planetmesh.wire.codec import PROTOCOL, decode_from_agent, decode_to_agent

GOLDEN = Path(__file__).with_name("golden.json")


def encoded(message: object) -> bytes:
    return msgspec.msgpack.encode(message)


def test_there_is_an_example_of_every_message_with_every_field_set():
    assert [type(each) for each in messages.FROM_AGENT] == list(get_args(wire.FromAgent))
    assert [type(each) for each in messages.TO_AGENT] == list(get_args(wire.ToAgent))
    for message in messages.ALL:
        for field in msgspec.structs.fields(type(message)):
            if not field.required:
                assert getattr(message, field.name) != field.default, f"{message} leaves {field.name} out"


def test_the_bytes_of_every_message_are_those_of_the_golden_file():
    """A change here is a change of protocol: fields only at the end, with a default; else PROTOCOL + 1.

    PLANETMESH_WRITE_GOLDEN=1 writes the file anew.
    """
    now = {
        "protocol": PROTOCOL,
        "messages": {type(each).__name__: encoded(each).hex() for each in messages.ALL},
    }
    if os.environ.get("PLANETMESH_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
    assert json.loads(GOLDEN.read_text(encoding="utf-8")) == now


@pytest.mark.parametrize("message", messages.ALL, ids=lambda each: type(each).__name__)
def test_a_field_of_a_newer_version_is_tolerated(message):
    raw = [*msgspec.msgpack.decode(encoded(message)), "from the future", 42]
    decode = decode_from_agent if isinstance(message, get_args(wire.FromAgent)) else decode_to_agent
    assert decode(encoded([raw])) == [message]


@pytest.mark.parametrize("message", messages.ALL, ids=lambda each: type(each).__name__)
def test_what_has_a_default_may_be_left_out_at_the_end(message):
    fields = msgspec.structs.fields(type(message))
    required = sum(field.required for field in fields)
    raw = msgspec.msgpack.decode(encoded(message))[: 1 + required]
    decode = decode_from_agent if isinstance(message, get_args(wire.FromAgent)) else decode_to_agent
    (got,) = decode(encoded([raw]))
    assert type(got) is type(message)


ODD = [
    -1,
    -(2**63),
    2**53 + 1,
    2**63,
    2**64 - 1,
    math.nan,
    math.inf,
    -math.inf,
    -0.5,
    1e300,
    True,
    None,
    "7",
    [],
]


def numbers_of(message: wire.FromAgent) -> list[tuple[int, object]]:
    raw = msgspec.msgpack.decode(encoded(message))
    return [(place, value) for place, value in enumerate(raw) if type(value) in {int, float}]


@pytest.mark.parametrize("message", messages.FROM_AGENT, ids=lambda each: type(each).__name__)
def test_no_number_of_an_agent_is_odd(message):
    """Each number is replaced by each nonsense: refused, or harmless for what stores and shows it."""
    for place, _value in numbers_of(message):
        for odd in ODD:
            raw = msgspec.msgpack.decode(encoded(message))
            raw[place] = odd
            try:
                (got,) = decode_from_agent(encoded([raw]))
            except PeerMisbehaved:
                continue
            for field in msgspec.structs.fields(type(got)):
                number = getattr(got, field.name)
                if isinstance(number, float):
                    assert 0 <= number <= 1e10, (field.name, odd)
                elif isinstance(number, int) and field.name != "protocol":
                    assert -(2**31) <= number <= 2**53, (field.name, odd)


@given(st.one_of(st.floats(), st.integers(-(2**63), 2**64 - 1)))
def test_a_load_is_bounded(value):
    raw = [["heartbeat", {"cpu": value, "running": value if isinstance(value, int) else 0}]]
    try:
        (beat,) = decode_from_agent(encoded(raw))
    except PeerMisbehaved:
        return
    assert 0 <= beat.load.cpu <= 1e6
    assert 0 <= beat.load.running <= 2**53


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hostname", "x" * 256), ("refuses", "x" * 4097), ("tags", ["x"] * 257), ("tags", ["x" * 256]),
        ("gpus", [["a", "b", 1]] * 257), ("cpus", -1), ("memory_bytes", 2**60), ("machine", "x" * 256),
    ],
)  # fmt: skip
def test_what_a_node_says_of_itself_is_bounded(field: str, value: object):
    raw = msgspec.msgpack.decode(encoded(messages.FROM_AGENT[0]))
    assert decode_from_agent(encoded([raw]))
    raw[2][field] = value
    with pytest.raises(PeerMisbehaved, match=field):
        decode_from_agent(encoded([raw]))


def test_durable_messages_are_those_that_end_or_carry_something():
    assert set(wire.DURABLE) == {wire.TaskOutput, wire.TaskResult, wire.TaskReturned}
    assert set(wire.DURABLE) <= set(get_args(wire.FromAgent))
