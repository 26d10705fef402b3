"""A submitter's function, called as on a node but in this process."""

from __future__ import annotations

import base64
import json
import pickle
import sys
from collections import OrderedDict
from typing import Any

import cloudpickle
import pytest
from test_call import written

from planetmesh.child import python_call
from planetmesh.wire.calls import Frame, read_frames
from planetmesh.wire.typed import from_typed

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def _fresh_worker(monkeypatch):
    monkeypatch.setattr(python_call, "_last", None)


def frames(payload: dict[str, Any], *items: str) -> tuple[list[Frame], tuple[int, str]]:
    def do(call):
        call.payload, call.items = payload, items
        python_call.run(call)

    call, data = written(0, do)
    found = read_frames(data, max(1, len(items)))
    return [found[n] for n in sorted(found)], call.end()


def pickled(function) -> dict[str, str]:
    return {"function": base64.b64encode(cloudpickle.dumps(function)).decode(), "python": HERE}


def plain(*args, **kwargs) -> str:
    return json.dumps({"a": args, "k": kwargs})


def as_pickle(*args, **kwargs) -> str:
    return json.dumps({"p": base64.b64encode(pickle.dumps((args, kwargs))).decode()})


def opened(frame: Frame) -> Any:
    if frame.t:
        return from_typed(json.loads(bytes(frame.t)))
    return json.loads(bytes(frame.v)) if frame.v else pickle.loads(base64.b64decode(frame.p))


def test_plain_and_pickled_arguments():
    found, end = frames(pickled(lambda a, b=2: a + b), plain(1), plain(1, b=5), as_pickle((1,), b=(2,)))
    assert [opened(each) for each in found] == [3, 6, (1, 2)]
    assert [bool(each.t) for each in found] == [False, False, True]
    assert end == (0, "")


def test_a_function_by_name_and_a_job_without_inputs():
    found, _ = frames({"module": "math:sqrt"}, plain(16.0))
    assert opened(found[0]) == 4.0
    found, _ = frames({"module": "os.path:curdir.upper"})
    assert opened(found[0]) == "."


@pytest.mark.parametrize("value", [(1,), {1: 2}, {1}, 2**60, float("inf"), b"x", 1j])
def test_what_is_no_plain_data_comes_back_as_it_was(value):
    found, _ = frames(pickled(lambda: value))
    assert found[0].t
    assert opened(found[0]) == value
    assert type(opened(found[0])) is type(value)


@pytest.mark.parametrize("value", ["\ud800", OrderedDict(a=1), (1, slice(2))])
def test_only_what_is_no_data_of_a_common_type_is_pickled(value):
    found, _ = frames(pickled(lambda: value))
    assert found[0].p
    assert opened(found[0]) == value
    assert type(opened(found[0])) is type(value)


def test_a_result_that_cannot_be_pickled_names_its_type():
    found, (code, message) = frames(pickled(lambda x: x and sys._getframe()), plain(0), plain(1), plain(0))
    assert [bool(each.e) for each in found] == [False, True, False]
    assert found[1].e.message.startswith("A result of type frame cannot be sent back: ")
    assert (code, message[:42]) == (1, "1 of 3 calls raised; first: TypeError: A r")


class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no")


def test_faults_carry_the_story_and_the_exception():
    def outer(x):
        def inner():
            raise KeyError(x)

        try:
            inner()
        except KeyError as error:
            raise Odd(x) from error

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    found, _ = frames(pickled(outer), plain("k"))
    fault = found[0].e
    assert (fault.type.endswith("Odd"), fault.message) == (True, "(it cannot be shown)")
    assert "KeyError: 'k'" in fault.traceback
    assert "in inner" in fault.traceback
    assert pickle.loads(base64.b64decode(fault.p)).args == ("k",)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"module": "no_such_module:f"}, "No module named 'no_such_module'"),
        ({"module": "math:nothing"}, "has no attribute 'nothing'"),
        ({"module": "math:pi"}, "float objects cannot be called"),
        ({"function": "AAAA", "python": HERE}, "invalid load key"),
        (pickled(len) | {"python": "2.7"}, f"pickled by Python 2.7, and this node has {HERE}"),
    ],
)
def test_a_function_that_cannot_be_loaded_fails_each_call_with_the_reason(payload, said):
    found, (code, message) = frames(payload, plain(1), plain(2))
    assert [each.e.message.startswith("The function could not be loaded on this node") for each in found] == [
        True
    ] * 2
    assert said in found[0].e.message
    assert (code, said in message) == (1, True)


def test_arguments_that_cannot_be_read_fail_alone():
    bad = json.dumps({"p": base64.b64encode(b"nonsense").decode()})
    found, _ = frames(pickled(lambda x: x), plain(1), bad, plain(2, 3), plain(4))
    assert [bool(each.e) for each in found] == [False, True, True, False]


def test_the_function_is_loaded_once():
    def count(kept=[]):  # noqa: B006
        kept.append(0)
        return len(kept)

    payload = pickled(count)
    assert [opened(frames(dict(payload))[0][0]) for _ in range(3)] == [1, 2, 3]
