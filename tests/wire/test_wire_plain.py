"""Plain data is what JSON gives back exactly, and nothing else is."""

from __future__ import annotations

import enum
import math
from collections import OrderedDict, UserString, defaultdict, namedtuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.wire.plain import is_plain


class Text(str):
    __slots__ = ()


class Number(enum.IntEnum):
    ONE = 1


Point = namedtuple("Point", "x y")  # noqa: PYI024

WHOLE = st.integers(min_value=-(2**53), max_value=2**53)
LEAVES = st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | st.text()
PLAIN = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def same(one, other) -> bool:
    """Equal, and of the same classes all the way down; 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if type(one) is list:
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is dict:
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return repr(one) == repr(other)


@given(PLAIN)
def test_plain_data_comes_back_exactly(value):
    assert is_plain(value)
    assert same(msgspec.json.decode(msgspec.json.encode(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1, 2},
        frozenset(),
        b"x",
        bytearray(b"x"),
        1j,
        2**53 + 1,
        -(2**53) - 1,
        math.nan,
        math.inf,
        -math.inf,
        "\ud800",
        {"\ud800": 1},
        {1: 2},
        {None: 1},
        {Text("a"): 1},
        Text("a"),
        UserString("a"),
        Number.ONE,
        OrderedDict(a=1),
        defaultdict(int),
        Point(1, 2),
        object(),
        print,
        Ellipsis,
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_else_is_plain_wherever_it_stands(value):
    assert not is_plain(value)
    assert not is_plain([1, value])
    assert not is_plain({"a": [{"b": value}]})


def test_depth_circles_and_growth_are_bounded():
    deep: list = []
    for _ in range(80):
        deep = [deep]
    assert is_plain(deep)
    for _ in range(80):
        deep = [deep]
    assert not is_plain(deep)
    circle: list = [1]
    circle.append(circle)
    assert not is_plain(circle)
    grown: list = [1]
    for _ in range(60):
        grown = [grown, grown]
    assert not is_plain(grown)
