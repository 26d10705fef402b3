"""Values of common types that JSON has no word for, as JSON that says which type each one is.

What JSON gives back exactly stands as itself, and lists as lists. All else is an object with one key, the
type's name: `{"tuple": [1, 2]}`, `{"bytes": "<base64>"}`, `{"dict": [[1, "a"]]}`, `{"array": [dtype, shape,
base64]}`. Reading one makes values of these types and runs no code of whoever wrote it, which a pickle does.
"""

from __future__ import annotations

import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from math import isfinite, prod
from typing import Any
from uuid import UUID

from planetmesh.errors import BadInput
from planetmesh.wire.calls import DEEPEST, WHOLE_MOST
from planetmesh.wire.plain import PARTS_MOST

LEVELS_MOST = DEEPEST // 3
"""Of values in each other; a dict takes three levels of JSON."""
DIGITS_MOST = 4000
"""Of a whole number; reading longer ones takes ever longer, and Python refuses them."""
DIMENSIONS_MOST = 32

_DTYPE = re.compile(r"[<>|](?:[biufcSU][1-9]\d{0,8}|[mM]8(?:\[[0-9a-zA-Z]{1,10}\])?)")
"""Numbers, texts and times of a fixed size; neither objects nor records."""
_AWARE = {type(None), timezone}
_PLAIN_LEAVES = frozenset({str, int, float, bool, type(None)})


class NotTyped(Exception):
    """A value of some other type, or one that is too deep or has too many parts."""


def to_typed(value: Any) -> Any:
    """The same as plain data; raises NotTyped for what `from_typed` would not give back exactly."""
    return _Writer().write(value, LEVELS_MOST)


class _Writer:
    def __init__(self) -> None:
        self._left = PARTS_MOST

    def write(self, value: Any, levels: int) -> Any:
        kind = type(value)
        if kind in _PLAIN_LEAVES:
            return _leaf(value)
        if kind in _WRITERS:
            return {_NAMES[kind]: _WRITERS[kind](value)}
        if kind in _GROUPS or kind is list or kind is dict:
            return self._write_group(value, levels - 1)
        return _array(value)

    def _write_group(self, value: Any, levels: int) -> Any:
        self._left -= len(value)
        if levels < 0 or self._left < 0:
            raise NotTyped
        kind = type(value)
        if kind is dict:
            return {
                "dict": [[self.write(key, levels), self.write(each, levels)] for key, each in value.items()]
            }
        parts = [self.write(each, levels) for each in value]
        return parts if kind is list else {_GROUPS[kind]: parts}


def _leaf(value: Any) -> Any:
    if type(value) is int and not -WHOLE_MOST <= value <= WHOLE_MOST:
        # By bits first: a number far too long would be refused while it is written.
        if value.bit_length() > DIGITS_MOST * 3:
            raise NotTyped
        return {"int": str(value)}
    if type(value) is float and not isfinite(value):
        return {"float": str(value)}
    if type(value) is str and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise NotTyped from None
    return value


def _number(value: float) -> Any:
    return value if isfinite(value) else str(value)


def _moment(value: datetime | time) -> str:
    # A named zone would come back as a mere offset, and so would the second of two equal hours.
    if type(value.tzinfo) not in _AWARE or value.fold:
        raise NotTyped
    text = value.isoformat()
    if str(type(value).fromisoformat(text).tzinfo) != str(value.tzinfo):
        raise NotTyped
    return text


def _text(data: bytes | bytearray) -> str:
    return b64encode(data).decode()


def _array(value: Any) -> Any:
    """Of numpy, if that is what it is; whoever has such a value has loaded numpy already."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        raise NotTyped
    is_array = type(value) is numpy.ndarray
    if not is_array and not isinstance(value, numpy.generic):
        raise NotTyped
    dtype = value.dtype.str
    if not _DTYPE.fullmatch(dtype) or value.dtype.metadata or value.ndim > DIMENSIONS_MOST:
        raise NotTyped
    body = [dtype, list(value.shape), _text(numpy.asarray(value).tobytes())]
    if is_array:
        return {"array": body}
    if type(value) is not value.dtype.type:
        raise NotTyped
    return {"scalar": body}


_WRITERS: dict[type, Callable[[Any], Any]] = {
    bytes: _text,
    bytearray: _text,
    complex: lambda value: [_number(value.real), _number(value.imag)],
    datetime: _moment,
    date: date.isoformat,
    time: _moment,
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    Decimal: str,
    Fraction: lambda value: [str(value.numerator), str(value.denominator)],
    UUID: str,
    range: lambda value: [str(value.start), str(value.stop), str(value.step)],
}
_NAMES = {kind: kind.__name__.lower() for kind in _WRITERS}
_GROUPS: dict[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset"}


def from_typed(tree: Any) -> Any:
    """The value; raises BadInput for what `to_typed` has not written."""
    try:
        return _read(tree, LEVELS_MOST)
    except (ValueError, TypeError, ArithmeticError, RecursionError, ImportError) as error:
        raise BadInput(f"A value of types cannot be read: {error}") from error


def _read(tree: Any, levels: int) -> Any:
    if isinstance(tree, list):
        return _read_all(tree, levels - 1)
    if not isinstance(tree, dict):
        return tree
    if len(tree) != 1:
        raise ValueError("an object that names no type")
    ((name, body),) = tree.items()
    if name == "dict":
        pairs = (_read_all(pair, levels - 1) for pair in body)
        return {key: each for key, each in pairs}  # noqa: C416  each has two parts, or is refused
    if name in _MAKERS:
        return _MAKERS[name](_read_all(body, levels - 1))
    if name not in _READERS:
        raise ValueError("a type that is not known here")
    return _READERS[name](body)


def _read_all(parts: Any, levels: int) -> list[Any]:
    if levels < 0 or not isinstance(parts, list):
        raise ValueError("it is too deep, or no list")
    return [_read(each, levels) for each in parts]


def _whole(text: Any) -> int:
    if not isinstance(text, str) or len(text) > DIGITS_MOST:
        raise ValueError("no whole number")
    return int(text)


def _bytes(text: Any) -> bytes:
    return b64decode(text, validate=True)


def _read_array(body: Any) -> Any:
    import numpy as np

    dtype, shape, data = body
    if not _DTYPE.fullmatch(dtype) or len(shape) > DIMENSIONS_MOST:
        raise ValueError("an array of something else")
    if any(type(each) is not int or each < 0 for each in shape):
        raise ValueError("an array of no shape")
    kind, content = np.dtype(dtype), _bytes(data)
    if prod(shape) * kind.itemsize != len(content):
        raise ValueError("an array of another size")
    return np.ndarray(shape, kind, bytearray(content))


_MAKERS: dict[str, Callable[[list[Any]], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}
_READERS: dict[str, Callable[[Any], Any]] = {
    "int": _whole,
    "float": float,
    "bytes": _bytes,
    "bytearray": lambda body: bytearray(_bytes(body)),
    "complex": lambda body: complex(*map(float, body)),
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda body: timedelta(*body),
    "decimal": Decimal,
    "fraction": lambda body: Fraction(*map(_whole, body)),
    "uuid": UUID,
    "range": lambda body: range(*map(_whole, body)),
    "array": _read_array,
    "scalar": lambda body: _read_array(body)[()],
}
