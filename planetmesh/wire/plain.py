"""Which values JSON gives back exactly: these travel as they are, all others pickled."""

from __future__ import annotations

from math import isfinite
from typing import Any

from planetmesh.wire.calls import DEEPEST, WHOLE_MOST

PARTS_MOST = 1_000_000
"""Of one value; a list in which lists stand again and again grows without end when it is written out."""

_NESTS = frozenset({list, dict})


def is_plain(value: Any) -> bool:
    """None, bool, int within 2^53, finite float, str, list, dict with str keys; no other classes of these."""
    if type(value) not in _NESTS:
        return _is_plain_leaf(value)
    layer, parts = [value], 0
    for _ in range(DEEPEST - 1):
        parts += sum(map(len, layer))
        if parts > PARTS_MOST or not all(map(_has_plain_keys, layer)):
            return False
        below: list[Any] = []
        for each in layer:
            for child in each.values() if type(each) is dict else each:
                if type(child) in _NESTS:
                    below.append(child)
                elif not _is_plain_leaf(child):
                    return False
        if not below:
            return True
        layer = below
    return False


def _has_plain_keys(value: Any) -> bool:
    return type(value) is list or all(type(key) is str and _is_unicode(key) for key in value)


def _is_plain_leaf(value: Any) -> bool:
    kind = type(value)
    if kind is int:
        return bool(-WHOLE_MOST <= value <= WHOLE_MOST)
    if kind is str:
        return _is_unicode(value)
    if kind is float:
        return isfinite(value)
    return value is None or kind is bool


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
