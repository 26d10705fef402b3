"""Words and small drawings."""

from __future__ import annotations

import unicodedata

import pytest
from dashboard_views import AT, HOSTILE, NOW
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.dashboard.plain import (
    MARKS_MOST,
    bar,
    columns,
    parse_time,
    plain,
    seconds_since,
    show_ago,
    show_between,
    spark,
    text_of,
)

NEVER = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text(), st.integers(1, 50))
def test_whatever_comes_is_one_line_that_a_terminal_only_shows(text: str, most: int) -> None:
    shown = plain(text, most)
    assert not {unicodedata.category(letter) for letter in shown} & NEVER
    assert len(shown) <= most + 1


def test_hostile_text_keeps_its_letters() -> None:
    shown = plain(HOSTILE)
    assert "red" in shown
    assert "[bold]x[/bold]" in shown
    assert "日本" in shown
    assert plain("naïve 🎉") == "naïve 🎉"


def test_marks_do_not_pile_up() -> None:
    assert plain("e" + "\u0301" * 50) == "e" + "\u0301" * MARKS_MOST
    assert plain("a\ufe0fb") == "ab"


def test_ten_thousand_letters_are_cut() -> None:
    assert plain("x" * 10_000) == "x" * 200 + "…"


@given(st.floats(0, 1), st.integers(1, 40))
def test_a_bar_is_as_wide_as_it_should_be(share: float, width: int) -> None:
    assert len(text_of(bar(share, width))) == width


def test_a_bar_is_full_only_at_the_end() -> None:
    assert text_of(bar(1.0, 4)) == "━━━━"
    assert text_of(bar(0.0, 4)) == "────"
    assert text_of(bar(0.6, 4)) == "━━╸─"


@given(st.lists(st.floats(0, 1e9), max_size=50), st.integers(0, 30), st.integers(1, 6))
def test_drawings_keep_to_their_size(values: list[float], width: int, height: int) -> None:
    assert len(spark(values, width)) == width
    drawn = columns(values, width, height)
    assert [len(line) for line in drawn] == [width] * height


def test_the_highest_value_fills_the_chart_and_little_is_still_seen() -> None:
    assert columns([0, 1000, 1], 3, 2) == [" █ ", " █▁"]
    assert spark([0.0, 0.5, 1.0], 3, 1.0) == "▁▅█"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "never"), (0.5, "now"), (59, "59s"), (60, "1m"), (7200, "2h"), (200_000, "2d")],
)
def test_how_long_ago(seconds: float | None, text: str) -> None:
    assert show_ago(seconds) == text


def test_times() -> None:
    assert seconds_since(AT, NOW + 5) == 5
    assert seconds_since(AT, NOW - 5) == 0
    assert parse_time("yesterday") is None
    assert show_between(AT, "2023-11-14T22:13:22.5Z", NOW) == "2.5s"
    assert show_between(AT, None, NOW + 61) == "1:01"
    assert show_between(None, None, NOW) == ""
