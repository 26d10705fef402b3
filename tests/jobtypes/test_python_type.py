"""The job type `python`: what is refused at the submit, and what is made of the values that come back."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest

from planetmesh.errors import BadInput, TooLarge
from planetmesh.jobtypes.registry import job_type
from planetmesh.model.blob import Digest, StagedFile
from planetmesh.model.job import Items, JobSpec, One, Range
from planetmesh.wire.api import Encoding, Parse

FUNCTION = {"function": base64.b64encode(b"any pickle").decode(), "python": "3.11", "name": "square"}
TAG = ("python3.11",)
MODULE = {"module": "os.path:join"}
KIND = job_type("python")


def check(payload: dict[str, Any], *items: str, tags: tuple[str, ...] = TAG, inputs: Any = None) -> None:
    inputs = inputs or (Items(items) if items else One())
    KIND.check(JobSpec(type="python", payload=payload, inputs=inputs, tags=tags))


def test_functions_by_value_and_by_name_are_taken():
    check(FUNCTION, '{"a":[1],"k":{"x":null}}', "{}", '{"p":"gAQ="}')
    check(FUNCTION)
    check(MODULE, '{"a":["x"]}', tags=())


@pytest.mark.parametrize(
    "payload",
    [
        {},
        FUNCTION | MODULE,
        {"module": "os.path"},
        {"module": "os.path:join:x"},
        {"module": "../x:y"},
        {"module": ":x"},
        FUNCTION | {"python": ""},
        FUNCTION | {"python": "2.7"},
        FUNCTION | {"python": "3.11.7"},
        FUNCTION | {"function": "no base64!"},
        FUNCTION | {"function": "abc"},
        FUNCTION | {"more": 1},
        FUNCTION | {"function": "A" * 1_048_580},
        FUNCTION | {"name": "x" * 201},
    ],
)
def test_functions_that_can_never_be_called_are_refused(payload):
    with pytest.raises(BadInput):
        check(payload)


@pytest.mark.parametrize(
    "item",
    [
        "",
        "7",
        "[1]",
        '{"a":1}',
        '{"k":[]}',
        '{"p":1}',
        '{"b":1}',
        '{"a":[1],"p":"gAQ="}',
        '{"a":[' + "[" * 10_000 + "]" * 10_000 + "]}",
        '{"a":["\ud800"]}',
    ],
)
def test_arguments_that_cannot_be_read_are_refused_with_their_number(item):
    with pytest.raises(BadInput, match="of call 2 "):
        check(FUNCTION, "{}", item)


def test_long_arguments_and_ranges_are_refused():
    with pytest.raises(TooLarge, match="Call 1"):
        check(FUNCTION, '{"a":["' + "x" * 600_000 + '"]}')
    with pytest.raises(BadInput, match="range"):
        check(FUNCTION, inputs=Range(1, 9))


def test_a_pickled_function_must_ask_for_its_python():
    with pytest.raises(BadInput, match=r"Python 3\.11 has pickled") as caught:
        check(FUNCTION, tags=("gpu", "python3.12"))
    assert "the tag python3.11" in caught.value.hint


def test_a_task_is_one_call_for_all_its_inputs():
    launch = KIND.launch(FUNCTION, ("{}", "{}"), 3)
    assert (launch.argv, launch.call) == ((), "planetmesh.child.python_call:run")


def test_descriptions_are_one_line():
    assert KIND.describe(FUNCTION) == "square(…)"
    assert KIND.describe(FUNCTION, ('{"a":[1,"x"],"k":{"y":[2]}}',)) == 'square(1, "x", y=[2])'
    assert KIND.describe(MODULE, ('{"p":"gAQ="}', "{}", "{}")) == "join(…) and 2 more"
    assert len(KIND.describe(FUNCTION, ('{"a":["' + "x" * 1000 + '"]}',))) < 100
    assert KIND.describe({"function": "AAAA", "python": "3.11"}, ("nonsense",)) == "function(…)"


def test_functions_of_one_name_are_not_alike():
    other = FUNCTION | {"function": base64.b64encode(b"another one").decode()}
    kinds = {KIND.kind(FUNCTION), KIND.kind(other), KIND.kind(MODULE)}
    assert len(kinds) == 3
    assert all(kind.startswith(("python square ", "python join ")) for kind in kinds)
    assert KIND.kind(FUNCTION) == KIND.kind(dict(FUNCTION))


def gathered(data: bytes, count: int, *, is_cut: bool = False) -> tuple[Any, Encoding]:
    value = KIND.gather(data, Parse.TEXT, is_cut=is_cut, count=count)
    return msgspec.json.decode(msgspec.json.encode(value.value)), value.encoding


def test_the_value_of_one_call_is_itself():
    assert gathered(b'{"n":0,"v":{"a":[1.50,null]}}\n', 1) == ({"a": [1.5, None]}, Encoding.JSON)
    assert gathered(b'{"n":0,"t":{"tuple":[1]}}\n', 1) == ({"tuple": [1]}, Encoding.TYPED)
    assert gathered(b'{"n":0,"p":"gAQ="}\n', 1) == ("gAQ=", Encoding.PICKLE)


def test_what_came_of_many_calls_is_a_list():
    fault = b'{"type":"ValueError","message":"bad","traceback":"T"}'
    data = b'{"n":0,"t":{"set":[]}}\n{"n":3,"p":"gAQ="}\nnoise\n{"n":1,"e":%b}\n{"n":2' % fault
    told = {"type": "ValueError", "message": "bad", "traceback": "T"}
    parts = [
        {"encoding": "typed", "value": {"set": []}},
        {"error": told},
        None,
        {"encoding": "pickle", "value": "gAQ="},
    ]
    assert gathered(data, 4, is_cut=True) == (parts, Encoding.CALLS)
    assert gathered(b'{"n":0,"e":%b}' % fault, 1) == ([{"error": told}], Encoding.CALLS)
    assert gathered(b"", 1) == ([None], Encoding.CALLS)


def test_a_value_that_is_nested_too_deeply_is_no_value():
    deep = b'{"n":0,"v":' + b"[" * 150 + b"]" * 150 + b"}"
    assert gathered(deep, 1) == ([None], Encoding.CALLS)


FOLDER = "arguments-0123456789abcdef"


def parcel(name: str = FOLDER, *, is_tree: bool = True) -> StagedFile:
    return StagedFile(name, Digest("a" * 64), 9, is_tree=is_tree)


def check_files(item: str, *own: StagedFile | None, function: Any = FUNCTION, files: Any = ()) -> None:
    inputs = Items((item,) * max(1, len(own)), own)
    KIND.check(JobSpec(type="python", payload=function, inputs=inputs, tags=TAG, files=files))


def test_arguments_and_functions_may_lie_in_files_of_their_own():
    check_files(f'{{"f":"{FOLDER}"}}', parcel())
    check_files(f'{{"f":"{FOLDER}","p":"gAQ=","b":2}}', parcel(), parcel())
    large = {"python": "3.11", "folder": "function-0123456789abcdef", "buffers": 1}
    check_files("{}", function=large, files=(parcel(large["folder"]),))
    check_files("{}", function=FUNCTION | large, files=(parcel("x"), parcel(large["folder"])))
    assert KIND.kind(large) != KIND.kind(large | {"folder": "function-1123456789abcdef"})


@pytest.mark.parametrize(
    ("item", "own"),
    [
        (f'{{"f":"{FOLDER}"}}', None),
        (f'{{"f":"{FOLDER}"}}', parcel("arguments-1123456789abcdef")),
        (f'{{"f":"{FOLDER}"}}', parcel(is_tree=False)),
        (f'{{"f":"{FOLDER}","a":[1]}}', parcel()),
        (f'{{"f":"{FOLDER}","b":-1}}', parcel()),
        (f'{{"f":"{FOLDER}","b":100000}}', parcel()),
        ('{"f":"../../etc"}', parcel("../../etc")),
        ('{"f":"/etc"}', parcel("/etc")),
        ('{"f":"."}', parcel(".")),
        ('{"b":1,"p":"gAQ="}', parcel()),
    ],
)
def test_a_folder_that_is_not_the_inputs_own_is_refused(item, own):
    with pytest.raises(BadInput, match="call 1 "):
        check_files(item, own)


@pytest.mark.parametrize(
    "function",
    [
        {"python": "3.11", "folder": "function-0123456789abcdef"},
        {"python": "3.11", "folder": "../x"},
        FUNCTION | {"buffers": 1},
        MODULE | {"folder": "function-0123456789abcdef"},
        {"folder": "function-0123456789abcdef"},
    ],
)
def test_a_function_whose_folder_is_not_there_is_refused(function):
    with pytest.raises(BadInput):
        check_files("{}", function=function)
