"""Messages that cannot be told: what goes in their place, what is kept of them, and over restarts."""

from __future__ import annotations

import json
import logging
import math

import msgspec
import pytest

from planetmesh.agent import aside as aside_module
from planetmesh.agent.aside import NOTHING, Aside
from planetmesh.agent.outbox import Outbox
from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome
from planetmesh.wire.agent import FromAgent, Held, TaskOutput, TaskResult, TaskReturned
from planetmesh.wire.codec import MESSAGE_MOST_BYTES

decode = msgspec.msgpack.Decoder(FromAgent).decode
JOB = JobId("aaaaaaaaaa")


def opened(tmp_path):
    return Outbox(tmp_path / "outbox", aside=Aside(tmp_path / "refused"))


def told(outbox):
    records = outbox.read(outbox.first_unacknowledged, most_bytes=10**7, most_count=1000)
    return [decode(record) for record in records]


def good(index=0):
    return TaskResult(JOB, index, 1, Outcome.OK, 0)


BROKEN = {
    "seconds": TaskResult(JOB, 0, 1, Outcome.OK, 0, wall_seconds=math.nan),
    "code": TaskResult(JOB, 0, 1, Outcome.EXIT_CODE, 2**40),
    "memory": TaskResult(JOB, 0, 1, Outcome.OK, memory_peak_bytes=-1),
    "long error": TaskResult(JOB, 0, 1, Outcome.SIGNAL, error="e" * 5000),
    "a name that is no Unicode": TaskResult(JOB, 0, 1, Outcome.STAGING, error="no \udcff here"),
    "too large": TaskResult(JOB, 0, 1, Outcome.OK, error="e" * 2**20),
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_end_that_would_be_refused_is_told_as_a_failed_one(tmp_path, name, caplog):
    outbox = opened(tmp_path)
    outbox.put([good(1), BROKEN[name], good(2)])
    first, instead, last = told(outbox)
    assert (first, last) == (good(1), good(2))
    assert (instead.index, instead.attempt, instead.outcome) == (0, 1, Outcome.OUTPUT)
    assert instead.error.startswith("How it ended could not be told: it ")
    assert outbox.aside.count == 1
    assert [record.levelno for record in caplog.records if record.msg == "outbox.set_aside"] == [
        logging.ERROR
    ]
    (path,) = (tmp_path / "refused").iterdir()
    kept = json.loads(path.read_bytes())
    assert JOB in kept["message"]
    assert kept["reason"]
    assert path.stat().st_size < 200_000
    assert Held(JOB, 0, 1, True) in outbox.ended()
    outbox.close()


def test_one_that_was_stopped_stays_stopped(tmp_path):
    outbox = opened(tmp_path)
    outbox.put(
        [TaskResult(JOB, 0, 1, Outcome.CANCELLED, memory_peak_bytes=-1), TaskReturned(JOB, 1, 2, "\udcff")]
    )
    assert [getattr(each, "outcome", None) for each in told(outbox)] == [Outcome.CANCELLED, None]
    assert told(outbox)[1] == TaskReturned(JOB, 1, 2)
    outbox.close()


def test_an_attempt_whose_output_has_a_hole_does_not_end_well(tmp_path):
    outbox = opened(tmp_path)
    outbox.put([TaskOutput(JOB, 0, 1, 1, 0, b"x" * MESSAGE_MOST_BYTES), good(0), good(1)])
    hole, spoiled, other = told(outbox)
    assert hole == decode(NOTHING)
    assert (spoiled.outcome, other) == (Outcome.OUTPUT, good(1))
    assert "piece of its output" in spoiled.error
    outbox.close()
    again = opened(tmp_path)
    assert told(again)[1] == spoiled
    again.close()


def test_what_the_coordinator_refuses_is_told_otherwise_and_at_last_not_at_all(tmp_path):
    outbox = opened(tmp_path)
    outbox.put([good(0), good(1)])
    outbox.acknowledge(1)
    outbox.set_aside("the coordinator refuses it (because)")
    (instead,) = told(outbox)
    assert (instead.index, instead.outcome) == (1, Outcome.OUTPUT)
    assert "refuses it (because)" in instead.error
    outbox.set_aside("the coordinator refuses it (because)")
    assert told(outbox) == [decode(NOTHING)]
    assert outbox.ended() == (), "the hello must not name it: else it would count as in our hands for ever"
    outbox.acknowledge(2)
    outbox.put([good(2)])
    assert told(outbox) == [good(2)]
    outbox.close()


def test_it_is_remembered_over_a_restart(tmp_path):
    outbox = opened(tmp_path)
    outbox.put([good(0), good(1)])
    outbox.set_aside("first")
    before = told(outbox)
    again = opened(tmp_path)
    assert told(again) == before
    assert again.ended() == outbox.ended()
    again.set_aside("second")
    third = opened(tmp_path)
    assert told(third) == [decode(NOTHING), good(1)]
    assert third.ended() == (Held(JOB, 1, 1, True),)
    for each in (outbox, again, third):
        each.close()


def test_a_number_that_belongs_to_another_message_now_is_left_alone(tmp_path):
    outbox = opened(tmp_path)
    outbox.put([good(0)])
    outbox.set_aside("refused")
    outbox.close()
    for path in (tmp_path / "outbox").iterdir():
        path.unlink()
    again = opened(tmp_path)
    again.put([good(7)])
    assert told(again) == [good(7)]
    again.close()


def test_what_another_version_wrote_is_no_reason_not_to_start(tmp_path, monkeypatch):
    outbox = opened(tmp_path)
    outbox.put([good(0)])
    newer = msgspec.msgpack.encode(["result", JOB, 1, 3, "melted", 0, "", 1.0])
    other = msgspec.msgpack.encode(["telemetry", 1, 2])
    monkeypatch.setattr(Outbox, "_judged", lambda _self, message: message)
    monkeypatch.setattr(Outbox, "_note_end", lambda *_given: None)
    outbox.put([newer, other, b"\xc1"])
    outbox.close()
    monkeypatch.undo()
    again = opened(tmp_path)
    first, second, *others = told(again)
    assert (first, second.index, second.attempt, second.outcome) == (good(0), 1, 3, Outcome.OUTPUT)
    assert others == [decode(NOTHING)] * 2
    assert [held.index for held in again.ended()] == [0, 1]
    again.close()


def test_files_are_few_and_a_full_disk_stops_nothing(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(aside_module, "FILES_MOST", 3)
    outbox = opened(tmp_path)
    outbox.put([TaskResult(JOB, index, 1, Outcome.OK, memory_peak_bytes=-1) for index in range(10)])
    assert len(list((tmp_path / "refused").iterdir())) == 3

    def refuse(*_given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(aside_module.os, "fdopen", refuse)
    outbox.put([TaskResult(JOB, 10, 1, Outcome.OK, memory_peak_bytes=-1), good(11)])
    monkeypatch.undo()
    assert [each.index for each in told(outbox)] == list(range(12))
    assert "outbox.unwritable" in caplog.text
    (tmp_path / "refused" / "00000000000000000001.json").write_text("nonsense")
    outbox.close()
    opened(tmp_path).close()
