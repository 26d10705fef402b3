"""What the back end for joblib decides by itself; tests/system/test_joblib_whole.py runs it on a mesh."""

from __future__ import annotations

from functools import partial

import joblib
import msgspec
import pytest

from planetmesh.child.nested import Nested
from planetmesh.client.functions import PYTHON_TAG, pack_function
from planetmesh.client.remote_call import CallOptions
from planetmesh.errors import BadInput
from planetmesh.joblib import Functions, MeshBackend, count_slots, register
from planetmesh.model.ids import NodeId
from planetmesh.model.node import NodeState, Sandbox
from planetmesh.model.resources import Resources
from planetmesh.wire.api import NodeView

GIB = 1024**3
NODE = NodeView(
    id=NodeId("a" * 32), name="desk", state=NodeState.HEALTHY, cpus=8, memory_bytes=8 * GIB, gpus=(),
    tags=(PYTHON_TAG, "fast"), running=0, load=None, rtt_ms=None, reliability=1.0, last_heartbeat_at=None,
    draining=False, sandbox=Sandbox(), version="1", offer_cpus=4.0, offer_memory_bytes=6 * GIB,
)  # fmt: skip


def asking(**changes) -> CallOptions:
    return msgspec.structs.replace(CallOptions(), **changes)


class Adder:
    def __init__(self, first: int) -> None:
        self.first = first

    def add(self, second: int) -> int:
        return self.first + second


class Wrapper:
    """As scikit-learn wraps what it hands to joblib."""

    def __init__(self, function) -> None:
        self.function = function

    def __call__(self, *args):
        return self.function(*args)


@pytest.mark.parametrize(
    ("options", "changes", "slots"),
    [
        ({}, {}, 4),
        ({"requests": Resources(2000)}, {}, 2),
        ({"requests": Resources(500, 4 * GIB)}, {}, 1),
        ({"requests": Resources(1000, 0, 1)}, {}, 0),
        ({"tags": ("fast",)}, {}, 4),
        ({"tags": ("slow",)}, {}, 0),
        ({"node": NodeId("b" * 32)}, {}, 0),
        ({"node": NODE.id}, {}, 4),
        ({}, {"state": NodeState.OFFLINE}, 0),
        ({}, {"draining": True}, 0),
        ({}, {"note": "it failed 3 times"}, 0),
        ({}, {"tags": ("python3.99",)}, 0),
    ],
)
def test_places_for_calls(options, changes, slots) -> None:
    assert count_slots([msgspec.structs.replace(NODE, **changes)], asking(**options)) == slots
    assert count_slots([NODE, NODE], asking(**options)) >= 2 * slots if not changes else slots == 0


def test_the_same_function_is_the_same_object() -> None:
    functions, adder = Functions(), Adder(3)
    assert len({functions.wrapped(function) for function in [lambda x: x + 1 for _ in range(5)]}) == 1
    assert functions.wrapped(adder.add) is functions.wrapped(adder.add)
    assert functions.wrapped(Wrapper(pow)) is functions.wrapped(Wrapper(pow))
    assert functions.wrapped(partial(pow, 2)) is functions.wrapped(partial(pow, 2))
    others = [
        pow,
        divmod,
        adder.add,
        Adder(4).add,
        partial(pow, 2),
        partial(pow, 3),
        lambda x: x,
        lambda x: -x,
    ]
    assert len({functions.wrapped(each) for each in others}) == len(others)
    assert [functions.wrapped(each) for each in others] == [functions.wrapped(each) for each in others]


def test_what_cannot_be_sent_is_said() -> None:
    numbers = (n for n in range(3))
    with pytest.raises(BadInput, match="cannot be sent"):
        Functions().wrapped(lambda: next(numbers))


def test_a_wrapped_function_is_shown_and_sent_as_itself() -> None:
    nested = Nested(Adder(3).add)
    assert nested(4) == 7
    assert pack_function(nested).payload.name == "Adder.add"
    assert Nested(Wrapper(pow)).__qualname__ == "Wrapper"


def test_joblib_within_uses_threads() -> None:
    def inside() -> tuple[str, int]:
        backend, _ = joblib.parallel.get_active_backend()
        return type(backend).__name__, backend.nesting_level

    assert Nested(inside)() == ("ThreadingBackend", 1)


def test_the_name_is_known_to_joblib() -> None:
    register()
    register()
    with joblib.parallel_config("planetmesh", cpus=2):
        backend, _ = joblib.parallel.get_active_backend()
    assert isinstance(backend, MeshBackend)
    with pytest.raises(ValueError, match="no meaning"):
        backend.effective_n_jobs(0)
    assert backend.effective_n_jobs(3) == 3
