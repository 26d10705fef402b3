"""Frames of values are read from a stranger's text: garbage is passed over, nothing costs much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.wire.calls import Fault, read_frame, read_frames


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_passed_over(data):
    assert all(n < 5 for n in read_frames(data, 5))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b'{"n":0}',
        b'{"n":-1,"v":1}',
        b'{"n":"0","v":1}',
        b'{"n":0,"v":1,"p":"x"}',
        b'{"n":0,"v":1,"e":{"type":"a","message":"b"}}',
        b'{"n":0,"v":}',
        b'{"n":0,"v":1} x',
        b'{"n":0,"v":"\xff"}',
        b'{"n":0,"v":' + b"[" * 100_000,
        b'{"n":0,"v":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"n":0,"e":{}}',
        b'{"n":0,"e":"x"}',
        b'{"n":1e400,"v":1}',
    ],
)
def test_no_frame(line):
    assert read_frame(line) is None


def test_the_first_of_two_frames_for_an_item_counts():
    found = read_frames(b'{"n":1,"v":1}\nnoise\n{"n":1,"v":2}\n{"n":9,"v":3}\n{"n":0,"p":"AA"}', 2)
    assert (bytes(found[1].v), found[0].p, len(found)) == (b"1", "AA", 2)


def test_a_fault_in_one_sentence():
    assert (Fault("E", "bad").sentence, Fault("E", "").sentence) == ("E: bad", "E")
