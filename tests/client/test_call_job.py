"""Lines of values in, settled calls out: cut anywhere, out of order, twice, from repeated attempts."""

from __future__ import annotations

import base64
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.client.call_job import CallJob
from planetmesh.client.functions import Arguments, exception_of, open_frame, pack_arguments, pack_function
from planetmesh.client.remote_call import CallOptions, RemoteCall
from planetmesh.errors import BadInput, CallFailed, PicklesRefused
from planetmesh.model.ids import JobId
from planetmesh.model.job import Outcome, TaskState
from planetmesh.wire.api import TaskView, ValueKind, ValueLine
from planetmesh.wire.calls import Fault, Frame, read_frame
from planetmesh.wire.python import PythonItem

JOB = JobId("0123456789")


def job_of(count: int, **options: object) -> CallJob:
    wanted = CallOptions(**options)
    return CallJob(JOB, [RemoteCall(abs, Arguments("{}"), wanted) for _ in range(count)], wanted)


def values(data: bytes, index: int = 0, attempt: int = 1) -> ValueLine:
    return ValueLine(number=1, kind=ValueKind.VALUES, job=JOB, index=index, attempt=attempt, data=data)


def task(
    index: int,
    status: TaskState = TaskState.FAILED,
    *,
    width: int = 1,
    error: str = "boom",
    outcome: Outcome | None = None,
) -> TaskView:
    return TaskView(
        id=f"{JOB}/{index}",
        job_id=JOB,
        index=index,
        status=status,
        node=None,
        node_id=None,
        attempts=1,
        exit_code=1,
        started_at=None,
        finished_at=None,
        last_error="boom",
        payload=None,
        width=width,
        outcome=outcome,
    )


FRAMES = b'{"n":0,"v":1}\n{"n":1,"v":[2]}\n{"n":2,"v":null}\n'


@given(st.lists(st.integers(1, len(FRAMES) - 1), max_size=6))
def test_values_may_be_cut_anywhere(cuts):
    job = job_of(3)
    places = [0, *sorted(set(cuts)), len(FRAMES)]
    for start, end in pairwise(places):
        job.take(values(FRAMES[start:end]))
    assert [call.result(0) for call in job.calls] == [1, [2], None]
    assert job.left == 0


def test_chunks_count_from_their_first_call():
    auto, fixed = job_of(4), job_of(4, chunk=2)
    auto.take(values(b'{"n":0,"v":"a"}\n', index=2))
    fixed.take(values(b'{"n":1,"v":"b"}\n', index=1))
    assert auto.calls[2].result(0) == "a"
    assert fixed.calls[3].result(0) == "b"


def test_two_attempts_do_not_mix_and_the_first_value_counts():
    job = job_of(1)
    job.take(values(b'{"n":0,', attempt=1))
    job.take(values(b'{"n":0,"v":2}\n', attempt=2))
    job.take(values(b'"v":1}\n', attempt=1))
    assert job.calls[0].result(0) == 2


def test_nonsense_of_a_node_settles_nothing():
    job = job_of(1)
    for data in (b"\xff\n", b"[]\n", b'{"n":7,"v":1}\n', b'{"n":-1,"v":1}\n', b'{"n":0}\n', b"\n"):
        job.take(values(data))
    assert job.left == 1


def test_what_a_call_raised_is_final_unless_it_is_tried_again():
    once, again = job_of(1), job_of(1, retries=1)
    for job in (once, again):
        job.take(values(b'{"n":0,"e":{"type":"KeyError","message":"k"}}\n'))
    with pytest.raises(KeyError):
        once.calls[0].result(0)
    assert not again.calls[0].done()
    again.take(values(b'{"n":0,"v":5}\n', attempt=2))
    assert again.calls[0].result(0) == 5


def test_a_task_that_failed_takes_its_calls_with_it():
    job = job_of(4, retries=1)
    job.take(values(b'{"n":0,"v":1}\n{"n":1,"e":{"type":"ValueError","message":"m"}}\n'))
    job.take_end(task(0, width=3))
    job.take_end(task(3, TaskState.CANCELLED))
    assert job.calls[0].result(0) == 1
    with pytest.raises(ValueError, match="m"):
        job.calls[1].result(0)
    with pytest.raises(CallFailed, match="boom"):
        job.calls[2].result(0)
    assert job.calls[3].cancelled()
    assert job.left == 0


def test_what_has_no_value_at_the_end_says_so():
    job = job_of(1)
    job.close()
    with pytest.raises(CallFailed, match="not kept"):
        job.calls[0].result(0)


def test_a_job_is_unwanted_once_nobody_waits_for_the_rest():
    job = job_of(2)
    job.take(values(b'{"n":0,"v":1}\n'))
    assert not job.is_unwanted
    job.calls[1].cancel()
    assert job.is_unwanted
    job.take(values(b'{"n":1,"v":1}\n'))
    assert job.calls[1].cancelled()
    assert not job.is_unwanted


def test_plain_arguments_are_json_and_others_are_pickled():
    assert msgspec.json.decode(pack_arguments((1, "é"), {"k": [None]}).text, type=PythonItem) == PythonItem(
        [1, "é"], {"k": [None]}
    )
    assert msgspec.json.decode(pack_arguments(((1, 2),), {}).text, type=PythonItem).p


def test_what_cannot_be_pickled_is_said_before_anything_is_sent():
    with pytest.raises(BadInput, match="arguments"):
        pack_arguments((iter(()), (each for each in ())), {})
    lock = __import__("threading").Lock()
    with pytest.raises(BadInput, match="cannot be sent"):
        pack_function(lambda: lock)


def test_a_pickle_from_a_node_is_not_opened_unasked():
    bomb = b"cbuiltins\neval\n(V1/0\ntR."
    frame = Frame(0, p=base64.b64encode(bomb).decode())
    with pytest.raises(PicklesRefused):
        open_frame(frame, pickles=False)
    with pytest.raises(CallFailed, match="division by zero"):
        open_frame(frame, pickles=True)
    fault = Fault("Odd", "m", "", base64.b64encode(bomb).decode())
    assert isinstance(exception_of(fault, pickles=False), CallFailed)


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt", "print", "UnicodeDecodeError", "x.Y"])
def test_only_ordinary_exceptions_come_back_as_themselves(kind):
    assert type(exception_of(Fault(kind, "m"), pickles=False)) is CallFailed


def test_a_frame_of_the_wire_is_read():
    frame = read_frame(b'{"n":0,"v":1.5}')
    assert frame is not None
    assert open_frame(frame, pickles=False) == 1.5


def test_values_of_common_types_are_no_pickles():
    frame = read_frame(b'{"n":0,"t":{"tuple":[1,{"bytes":"eA=="}]}}')
    assert frame is not None
    assert open_frame(frame, pickles=False) == (1, b"x")
    frame = read_frame(b'{"n":0,"t":{"os.system":["true"]}}')
    assert frame is not None
    with pytest.raises(CallFailed, match="cannot be read here"):
        open_frame(frame, pickles=True)


def test_calls_that_join_later_get_their_own_values():
    job = job_of(1)
    job.take(values(b'{"n":0,"v":10}\n'))
    more = [RemoteCall(abs, Arguments("{}"), CallOptions()) for _ in range(2)]
    assert job.add(more) == 1
    job.take(values(b'{"n":0,"v":12}\n', index=2))
    job.take(values(b'{"n":0,"v":11}\n', index=1))
    assert [call.result(0) for call in more] == [11, 12]
    assert (job.left, more[1].job, more[1].number) == (0, JOB, 2)


def test_calls_that_were_not_taken_belong_to_nobody():
    job = job_of(1)
    more = [RemoteCall(abs, Arguments("{}"), CallOptions())]
    job.add(more)
    job.take_back(1)
    assert (len(job.calls), job.left, more[0].job) == (1, 1, None)
    job.take(values(b'{"n":0,"v":1}\n', index=1))
    job.close()
    assert not more[0].done()


@pytest.mark.parametrize("outcome", [Outcome.SIGNAL, Outcome.MEMORY, Outcome.EXIT_CODE])
def test_of_a_task_whose_process_died_only_the_call_in_hand_has_failed(outcome):
    job = job_of(6, chunk=4)
    job.take(values(b'{"n":0,"v":1}\n'))
    job.take_end(task(0, outcome=outcome))
    assert isinstance(job.calls[1].exception(0), CallFailed)
    assert job.orphans == job.calls[2:4]
    job.close()
    assert [call.done() for call in job.calls] == [True, True, False, False, True, True]
    assert job.left == 0


def test_with_automatic_chunks_too():
    job = job_of(6, chunk=0)
    job.take(values(b'{"n":0,"v":1}\n', index=2))
    job.take_end(task(2, width=3, outcome=Outcome.SIGNAL))
    assert job.orphans == [job.calls[4]]


@pytest.mark.parametrize("outcome", [Outcome.TIMED_OUT, Outcome.LOST, Outcome.OUTPUT, Outcome.STAGING, None])
def test_other_ends_are_those_of_all_its_calls(outcome):
    job = job_of(3, chunk=3)
    job.take_end(task(0, outcome=outcome))
    assert job.orphans == []
    assert all(isinstance(call.exception(0), CallFailed) for call in job.calls)


def test_a_call_that_raised_is_not_taken_for_the_one_that_died():
    job = job_of(4, chunk=4, retries=1)
    job.take(values(b'{"n":0,"e":{"type":"ValueError","message":"m"}}\n'))
    job.take_end(task(0, outcome=Outcome.SIGNAL))
    assert isinstance(job.calls[0].exception(0), ValueError)
    assert isinstance(job.calls[1].exception(0), CallFailed)
    assert job.orphans == job.calls[2:]
    job.take_end(task(0, outcome=Outcome.SIGNAL))
    assert job.orphans == job.calls[2:], "told twice they are there once"


TOO_LARGE = b'{"n":0,"e":{"type":"ResultTooLarge","message":"m"}}\n'


def test_a_value_that_others_left_no_room_for_is_made_once_more_alone():
    job = job_of(2, chunk=0)
    job.take(values(TOO_LARGE))
    assert job.orphans == [job.calls[0]]
    assert job.calls[0].was_orphaned
    for options in ({"chunk": 1}, {"chunk": 2, "at_most_once": True}):
        job = job_of(2, **options)
        job.take(values(TOO_LARGE))
        assert "ResultTooLarge" in str(job.calls[0].exception(0))
