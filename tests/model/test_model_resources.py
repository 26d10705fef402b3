"""Amounts, and how people write them: tables of sense and nonsense."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.errors import BadInput
from planetmesh.model.resources import (
    NOTHING,
    Resources,
    parse_cpus,
    parse_duration,
    parse_size,
    show_size,
)

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1), ("1024", 1024), ("512b", 512), ("1k", KIB), ("1K", KIB), ("1KiB", KIB), ("1kb", 1000),
        ("500MB", 500_000_000), ("500M", 500 * MIB), ("500MiB", 500 * MIB), ("12 GiB", 12 * GIB),
        ("12g", 12 * GIB), ("9007199254740993", 9007199254740993),
        ("1.5g", 3 * GIB // 2), ("2TB", 2 * 10**12), ("2T", 2 * TIB), (" 7 m ", 7 * MIB), ("0.5k", 512),
        ("1i", 1), ("4194303T", 4194303 * TIB),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", " ", "0", "0g", "0.1", "-1", "+1", "g", "1x", "1gg", "1e3", "1,5g", "0x10", "nan", "inf", "1 g b",
     "g1", "1.g", ".5g", "4194304T", "9" * 400, "1.5.5g", "1\n2", "１", "٣g"],
)  # fmt: skip
def test_what_is_not_a_size(text: str):
    with pytest.raises(BadInput, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172800), ("250ms", 0.25), (" 5 M ", 300),
     ("0.5", 0.5), ("9999999999", 9999999999)],
)  # fmt: skip
def test_durations(text: str, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "0", "0s", "-5", "+5", "5x", "1h30m", "1:30", "inf", "nan", "1e3", "ten", "m", "10000000000",
     "200000d", "9" * 400, "5 5", "５s"],
)  # fmt: skip
def test_what_is_not_a_duration(text: str):
    with pytest.raises(BadInput, match="is not a length of time"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "millis"),
    [("1", 1000), ("2", 2000), ("0.5", 500), ("0.001", 1), ("1.2345", 1234), (" 3 ", 3000)],
)
def test_cpus(text: str, millis: int):
    assert parse_cpus(text) == millis


@pytest.mark.parametrize(
    "text", ["", "0", "0.0001", "-1", "nan", "inf", "-inf", "many", "1 2", "0x2", "1cpu", "1e400"]
)
def test_what_is_not_a_number_of_cpus(text: str):
    with pytest.raises(BadInput, match="is not a number of CPUs"):
        parse_cpus(text)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str):
    for parse, most in ((parse_size, 2**62), (parse_duration, 10**10), (parse_cpus, 10**320)):
        with suppress(BadInput):
            assert 0 < parse(text) < most


@given(st.integers(1, 2**62 - 1))
def test_a_size_in_bytes_is_read_exactly(size: int):
    assert parse_size(str(size)) == size
    assert parse_size(f"{size}b") == size


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 * GIB, "5.0 GiB"),
     (3 * TIB, "3.0 TiB"), (5000 * TIB, "5000.0 TiB")],
)  # fmt: skip
def test_sizes_for_people(size: int, text: str):
    assert show_size(size) == text


AMOUNT = st.builds(Resources, st.integers(0, 10**6), st.integers(0, 2**40), st.integers(0, 16))


@given(AMOUNT, AMOUNT)
def test_what_is_added_can_be_taken_away(one: Resources, other: Resources):
    assert one + other - other == one
    assert one.fits_in(one + other)
    assert (one + other).fits_in(one) == (other == NOTHING)


@given(AMOUNT, AMOUNT)
def test_how_often_is_as_often_as_it_fits(want: Resources, free: Resources):
    count = want.how_often_in(free)
    if want == NOTHING:
        assert count == 0
        return
    assert want.times(count).fits_in(free) or count == 0
    assert not want.times(count + 1).fits_in(free)


def test_nothing_fits_into_less_than_nothing():
    assert Resources(1000).how_often_in(Resources(0) - Resources(500)) == 0
