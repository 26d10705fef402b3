"""What a call writes: a line for each item, bounded, whatever the values are."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from planetmesh.child.call import Call
from planetmesh.wire.calls import Fault, read_frames


def written(items: int, do: Callable[[Call], None], most_bytes: int = 10**6) -> tuple[Call, bytes]:
    """What `do` makes a call of so many items write."""
    read, write = os.pipe()
    parts: list[bytes] = []
    reader = threading.Thread(target=lambda: parts.extend(iter(lambda: os.read(read, 65536), b"")))
    reader.start()
    call = Call({}, ("x",) * items, 0, "/", write, most_bytes)
    try:
        do(call)
    finally:
        os.close(write)
        reader.join()
        os.close(read)
    return call, b"".join(parts)


def test_values_pickles_and_faults_are_lines():
    def do(call: Call) -> None:
        call.emit({"a": [1.5, None]})
        call.emit_pickled(b"\x80\n")
        call.emit_error(Fault("ValueError", "bad", "Traceback"))

    call, data = written(3, do)
    assert data.splitlines() == [
        b'{"n":0,"v":{"a":[1.5,null]}}',
        b'{"n":1,"p":"gAo="}',
        b'{"n":2,"e":{"type":"ValueError","message":"bad","traceback":"Traceback"}}',
    ]
    assert call.end() == (1, "1 of 3 inputs failed; first: ValueError: bad")


@pytest.mark.parametrize(("finals", "bad"), [([], False), ([True, True], True), ([True, False], False)])
def test_inputs_are_bad_if_all_faults_are_final(finals: list[bool], bad: bool):
    def do(call: Call) -> None:
        call.emit(1)
        for is_final in finals:
            call.emit_error(Fault("ValueError", "bad"), is_final=is_final)

    assert written(3, do)[0].has_bad_inputs is bad


def test_items_may_come_in_any_order():
    def do(call: Call) -> None:
        call.emit("c", 2)
        call.emit("a", 0)
        call.emit("b")

    call, data = written(3, do)
    assert {n: bytes(frame.v) for n, frame in read_frames(data, 3).items()} == {
        0: b'"a"',
        1: b'"b"',
        2: b'"c"',
    }
    assert call.end() == (0, "")


def test_a_job_without_inputs_has_one_value():
    call, data = written(0, lambda call: call.emit_error(Fault("OSError", "no")))
    assert call.end() == (1, "OSError: no")
    assert len(read_frames(data, 1)) == 1


def test_what_is_no_plain_data_is_refused_and_nothing_written():
    def do(call: Call) -> None:
        with pytest.raises(TypeError, match="tuple"):
            call.emit((1, 2))
        call.emit([1, 2])

    assert written(1, do)[1] == b'{"n":0,"v":[1,2]}\n'


def test_a_value_larger_than_a_pipe_is_whole():
    data = written(1, lambda call: call.emit("x" * 500_000))[1]
    assert len(data) == 500_000 + len(b'{"n":0,"v":""}\n')


@pytest.mark.parametrize("most_bytes", [0, 100, 1024, 5000, 10_000])
def test_there_is_a_reason_for_each_value_that_does_not_fit(most_bytes):
    def do(call: Call) -> None:
        for _ in range(5):
            call.emit("x" * 3000)

    call, data = written(5, do, most_bytes)
    assert len(data) <= most_bytes
    frames = read_frames(data, 5)
    if most_bytes >= 5 * 512:
        assert len(frames) == 5
        assert {frame.e.type for frame in frames.values() if frame.e} <= {"ResultTooLarge"}
    code, message = call.end()
    assert (code, "inputs failed; first: ResultTooLarge" in message) == (1, True)


def test_long_stories_are_cut_and_halves_of_characters_pass():
    fault = Fault("E", "m" * 10**6, "t" * 10**6 + "\ud800 end")
    data = written(1, lambda call: call.emit_error(fault))[1]
    (frame,) = read_frames(data, 1).values()
    assert len(data) < 100_000
    assert frame.e.traceback.endswith("\\ud800 end")
