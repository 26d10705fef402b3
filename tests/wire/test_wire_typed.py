"""Values of common types go to a reader as data, exactly; nothing else does, and nothing of it is run."""

from __future__ import annotations

import enum
from collections import OrderedDict, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.errors import BadInput
from planetmesh.wire.calls import DEEPEST, is_deeper
from planetmesh.wire.typed import DIGITS_MOST, LEVELS_MOST, NotTyped, from_typed, to_typed

Point = namedtuple("Point", "x y")  # noqa: PYI024


def first_of_two(moment):
    return moment.replace(fold=0)


OFFSETS = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.dates()
    | st.times().map(first_of_two)
    | st.datetimes().map(first_of_two)
    | st.datetimes(timezones=OFFSETS | st.just(UTC)).map(first_of_two)
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.builds(range, st.integers(), st.integers(), st.integers().filter(bool)),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
VALUES = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=3) | st.binary().map(bytearray),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HASHABLE, inner, max_size=3),
    max_leaves=8,
)
ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    np.array([True, False]),
    np.array(["a", "üü"]),
    np.array([b"x", b"yy"]),
    np.array(["2026-01-31", "NaT"], dtype="M8[D]"),
    np.array([1, 2], dtype="m8[ms]"),
    np.array(3 + 4j),
    np.zeros((0, 5), dtype=">u4"),
    np.array([np.nan, -np.inf, -0.0], dtype=np.float32),
]


class Letter(str):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1


def through(value):
    tree = msgspec.json.decode(msgspec.json.encode(to_typed(value)))
    assert not is_deeper(tree, DEEPEST)
    return from_typed(tree)


def same(one, other) -> bool:
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, list | tuple):
        return all(map(same, one, other))
    if isinstance(one, dict):
        return all(map(same, one.items(), other.items()))
    if isinstance(one, set | frozenset):
        return sorted(map(_told, one)) == sorted(map(_told, other))
    return repr(one) == repr(other)


def _told(value) -> str:
    """With the class, and with the order of inner sets out of the way."""
    if isinstance(value, tuple | frozenset):
        told = [_told(each) for each in value]
        return f"{type(value)}{told if isinstance(value, tuple) else sorted(told)}"
    return f"{type(value)}{value!r}"


@given(VALUES)
def test_what_is_written_comes_back_exactly(value):
    assert same(through(value), value)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: array.dtype.str)
def test_arrays_come_back_with_their_type_and_shape_and_may_be_written_to(array):
    found = through([array])[0]
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable


@pytest.mark.parametrize("scalar", [np.float32(1.5), np.int64(7), np.bool_(True), np.str_("x")], ids=repr)
def test_single_numbers_of_numpy_come_back_as_such(scalar):
    found = through((scalar,))[0]
    assert type(found) is type(scalar)
    assert found == scalar


@pytest.mark.parametrize(
    "value",
    [
        Point(1, 2),
        Letter("a"),
        Colour.RED,
        OrderedDict(a=1),
        object(),
        len,
        "\ud800",
        10 ** (DIGITS_MOST * 4),
        datetime(2026, 1, 31, tzinfo=ZoneInfo("Europe/Vienna")),
        datetime(2026, 1, 31, tzinfo=timezone(timedelta(hours=1), "mine")),
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=UTC),
        np.array([object()]),
        np.zeros(2, dtype=[("a", "i4")]),
        np.ma.array([1, 2], mask=[0, 1]),
        (1, [object()]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_others_are_not_written(value):
    with pytest.raises(NotTyped):
        to_typed(value)


def test_a_value_without_end_is_not_written():
    endless: list[object] = []
    endless.append((endless, endless))
    with pytest.raises(NotTyped):
        to_typed(endless)


def test_the_deepest_value_passes_and_one_level_more_does_not():
    deepest: object = 1
    for _ in range(LEVELS_MOST):
        deepest = {1: deepest}
    assert same(through(deepest), deepest)
    with pytest.raises(NotTyped):
        to_typed([deepest])


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"tuple": [], "list": []},
        {"os.system": ["true"]},
        {"__reduce__": []},
        {"tuple": 5},
        {"dict": [[1]]},
        {"dict": [[[], 1]]},
        {"set": [[]]},
        {"int": "x"},
        {"int": "9" * (DIGITS_MOST + 1)},
        {"float": []},
        {"bytes": "?"},
        {"datetime": 5},
        {"fraction": ["1", "0"]},
        {"range": ["1", "2", "0"]},
        {"uuid": "x"},
        {"timedelta": [10**12, 0, 0]},
        {"decimal": "ten"},
        {"array": ["|O", [1], "AAAAAAAAAAA="]},
        {"array": ["i4,i4", [1], "AAAAAAAAAAA="]},
        {"array": ["<U0", [10**12], ""]},
        {"array": ["<i4", [-1, -1], "AAAAAA=="]},
        {"array": ["<i4", [True], "AAAAAA=="]},
        {"array": ["<i4", [10**9], "AAAAAA=="]},
        {"array": ["<i4"]},
        {"scalar": ["<i4", [1, 1, "x"], ""]},
    ],
    ids=str,
)
def test_what_nobody_writes_is_refused(tree):
    with pytest.raises(BadInput):
        from_typed(tree)


def test_a_tree_that_is_too_deep_is_refused():
    tree: object = 1
    for _ in range(5000):
        tree = [tree]
    with pytest.raises(BadInput, match="too deep"):
        from_typed(tree)


def test_some_of_each_kind_is_readable_by_people():
    value = (
        1,
        {2},
        b"x",
        1j,
        date(2026, 1, 31),
        time(12),
        Decimal("1.50"),
        Fraction(1, 3),
        UUID(int=5),
        {1: 2},
    )
    assert to_typed(value) == {
        "tuple": [
            1,
            {"set": [2]},
            {"bytes": "eA=="},
            {"complex": [0.0, 1.0]},
            {"date": "2026-01-31"},
            {"time": "12:00:00"},
            {"decimal": "1.50"},
            {"fraction": ["1", "3"]},
            {"uuid": "00000000-0000-0000-0000-000000000005"},
            {"dict": [[1, 2]]},
        ]
    }
