"""The outbox: order, numbers, restarts, torn files, a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planetmesh.agent import segment as segments
from planetmesh.agent.outbox import Outbox
from planetmesh.errors import StorageFailed
from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome
from planetmesh.wire.agent import FromAgent, Held, TaskOutput, TaskResult, TaskReturned

decode = msgspec.msgpack.Decoder(FromAgent).decode


def message(number, size=0):
    if size:
        return TaskOutput(JobId("j"), number, 1, 1, 0, b"x" * size)
    return TaskReturned(JobId("j"), number, 1)


def indexes(outbox, start=None):
    start = outbox.first_unacknowledged if start is None else start
    found = []
    while records := outbox.read(start + len(found), most_bytes=5000, most_count=100):
        found += [decode(record).index for record in records]
    return found


def test_messages_come_out_as_they_went_in(tmp_path):
    outbox = Outbox(tmp_path / "o")
    outbox.put([message(0), message(1, 10_000)])
    outbox.put([message(2)])
    assert indexes(outbox) == [0, 1, 2]
    assert [len(outbox.read(0, most_bytes=most, most_count=9)) for most in (1, 5000, 50_000)] == [1, 1, 3]
    assert outbox.read(3, most_bytes=10, most_count=9) == []
    outbox.acknowledge(2)
    assert (outbox.first_unacknowledged, indexes(outbox)) == (2, [2])
    outbox.close()


def test_numbers_go_on_after_a_restart(tmp_path):
    for start in range(5):
        outbox = Outbox(tmp_path / "o")
        assert outbox.next_number == start * 3
        outbox.put([message(start * 3 + each) for each in range(3)])
        outbox.acknowledge(outbox.next_number)
        outbox.close()
    assert len(list((tmp_path / "o").iterdir())) == 1


def test_nothing_is_taken_after_the_end(tmp_path, caplog):
    """A launcher may still speak; the numbers of closed files belong to others by then."""
    outbox = Outbox(tmp_path / "o")
    outbox.put([message(0)])
    outbox.close()
    outbox.put([message(1)])
    outbox.close()
    assert caplog.text == ""
    again = Outbox(tmp_path / "o")
    assert indexes(again) == [0]
    again.close()


def test_what_was_confirmed_leaves_the_disk(tmp_path):
    outbox = Outbox(tmp_path / "o", segment_bytes=10_000)
    for number in range(40):
        outbox.put([message(number, 1000)])
    assert len(list((tmp_path / "o").iterdir())) > 3
    outbox.acknowledge(40)
    assert len(list((tmp_path / "o").iterdir())) == 1
    outbox.close()


def test_old_messages_are_read_from_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("planetmesh.agent.outbox.RECENT_BYTES", 5000)
    outbox = Outbox(tmp_path / "o", segment_bytes=10_000)
    for number in range(100):
        outbox.put([message(number, 700)])
    assert indexes(outbox) == list(range(100))
    outbox.acknowledge(37)
    assert indexes(outbox) == list(range(37, 100))
    assert indexes(outbox, 90) == list(range(90, 100))
    outbox.close()


def test_it_knows_whose_ends_it_holds_also_after_a_restart(tmp_path):
    outbox = Outbox(tmp_path / "o")
    outbox.put([message(0), message(1, 10), TaskResult(JobId("j"), 2, 5, Outcome.OK)])
    ends = outbox.ended()
    assert ends == (Held(JobId("j"), 0, 1, False), Held(JobId("j"), 2, 5, True))
    outbox._segments[-1].close()
    again = Outbox(tmp_path / "o")
    assert again.ended() == ends
    again.acknowledge(2)
    assert again.ended() == ends[1:]
    again.close()


def test_it_says_when_it_is_full(tmp_path):
    outbox = Outbox(tmp_path / "o", most_bytes=20_000, segment_bytes=5_000)
    while not outbox.is_full:
        outbox.put([message(outbox.next_number, 1000)])
    assert 20_000 < outbox.size_bytes < 25_000
    outbox.acknowledge(10)
    assert not outbox.is_full
    outbox.close()


def test_a_disk_that_is_full_at_the_start_is_told_in_words(tmp_path, monkeypatch):
    def refuse(*_given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segments.Segment, "create", refuse)
    with pytest.raises(StorageFailed, match=r"cannot be kept in .*No space left on device") as caught:
        Outbox(tmp_path / "o")
    assert "Free some space" in caught.value.hint


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    outbox = Outbox(tmp_path / "o")
    outbox.put([message(0)])
    written = os.write

    def half_then_full(descriptor, data):
        if len(data) < 10:
            raise OSError(28, "No space left on device")
        return written(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(segments.os, "write", half_then_full)
    outbox.put([message(1)])
    assert outbox.is_full
    assert indexes(outbox) == [0, 1]
    monkeypatch.undo()
    outbox.put([message(2)])
    assert not outbox.is_full
    outbox.close()
    assert indexes(Outbox(tmp_path / "o")) == [0, 1, 2]


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(1, 400), garbage=st.binary(max_size=40), flip=st.booleans())
def test_a_torn_tail_is_cut_off(new_folder, cut, garbage, flip):
    folder = new_folder() / "o"
    outbox = Outbox(folder)
    outbox.put([message(number) for number in range(20)])
    outbox._segments[-1].close()
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    cut = min(cut, len(content))
    if flip:
        content[-cut] ^= 0x55
        path.write_bytes(bytes(content))
    else:
        path.write_bytes(bytes(content[:-cut]) + garbage)
    again = Outbox(folder)
    kept = indexes(again)
    assert kept == list(range(len(kept)))
    assert len(kept) >= 20 - 1 - cut * 20 // len(content) - 1
    again.put([message(len(kept))])
    again.close()
    assert indexes(Outbox(folder)) == [*kept, len(kept)]


def test_damage_in_the_middle_keeps_the_numbers_true(tmp_path):
    outbox = Outbox(tmp_path / "o", segment_bytes=500)
    for number in range(60):
        outbox.put([message(number)])
    outbox.close()
    first = min((tmp_path / "o").iterdir())
    content = bytearray(first.read_bytes())
    content[100] ^= 1
    first.write_bytes(content)
    again = Outbox(tmp_path / "o")
    assert indexes(again) == list(range(again.first_unacknowledged, 60))
    assert again.next_number == 60
    again.close()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.lists(st.integers(0, 900), max_size=6)),
            st.tuples(st.just("confirm"), st.integers(0, 30)),
            st.tuples(st.just("reopen"), st.none()),
        ),
        max_size=25,
    )
)
def test_any_life_of_an_outbox(new_folder, steps):
    """Never loses, doubles or reorders what was not confirmed; never counts back."""
    folder = new_folder() / "o"
    outbox = Outbox(folder, segment_bytes=2000)
    total = 0
    for step, argument in steps:
        if step == "put":
            outbox.put([message(total + place, size) for place, size in enumerate(argument)])
            total += len(argument)
        elif step == "confirm":
            outbox.acknowledge(outbox.first_unacknowledged + argument)
        else:
            confirmed = outbox.first_unacknowledged
            outbox.close()
            outbox = Outbox(folder, segment_bytes=2000)
            assert outbox.first_unacknowledged <= confirmed
        assert outbox.next_number == total
        assert indexes(outbox) == list(range(outbox.first_unacknowledged, total))
    outbox.close()


WRITER = """
    import sys
    from pathlib import Path
    from planetmesh.agent.outbox import Outbox
    from planetmesh.wire.agent import TaskReturned
    outbox = Outbox(Path(sys.argv[1]), segment_bytes=20_000)
    number = 0
    while True:
        outbox.put([TaskReturned("j", number + each, 1) for each in range(7)])
        number += 7
        print(number, flush=True)
"""


def test_kill_loses_nothing_that_was_put(tmp_path):
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), tmp_path / "o"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert writer.stdout
    while (said := int(writer.stdout.readline())) <= 100:
        continue
    writer.send_signal(signal.SIGKILL)
    said = int([said, *writer.stdout.read().split()][-1])
    writer.stdout.close()
    writer.wait()
    outbox = Outbox(tmp_path / "o")
    assert outbox.next_number >= said
    assert indexes(outbox) == list(range(outbox.next_number))
    outbox.close()


@pytest.mark.parametrize("batch", [1, 100])
def test_messages_that_come_together_cost_one_write_and_none_waits_for_the_disk(tmp_path, monkeypatch, batch):
    """What makes thousands of results a second possible; how many it is, a benchmark says."""
    outbox = Outbox(tmp_path / "o")
    calls: Counter[str] = Counter()
    for name in ("write", "fsync", "open"):
        real = getattr(os, name)

        def counted(*arguments, name=name, real=real, **named):
            calls[name] += 1
            return real(*arguments, **named)

        monkeypatch.setattr(segments.os, name, counted)
    for _ in range(2000 // batch):
        outbox.put([message(0)] * batch)
        outbox.acknowledge(outbox.next_number)
    assert calls == {"write": 2000 // batch}
    outbox.sync()
    assert calls["fsync"] == 2, "the file and its folder"
    monkeypatch.undo()
    outbox.close()
