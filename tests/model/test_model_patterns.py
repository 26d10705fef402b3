"""Which files an output pattern means, by example; and that no pattern leads out or takes for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.errors import BadInput
from planetmesh.model.patterns import check_pattern, matches


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*.png", "a.png"),
        ("out.txt", "out.txt"),
        ("./out.txt", "out.txt"),
        ("out", "out/deep/a.txt"),
        ("out/", "out/a.txt"),
        ("out/**", "out/a.txt"),
        ("out/**", "out/deep/er/a.txt"),
        ("**/*.exr", "a.exr"),
        ("**/*.exr", "x/y/a.exr"),
        ("frames/[0-9]?.exr", "frames/07.exr"),
        (".hidden", ".hidden"),
        ("ü*", "über.txt"),
        ("[ab]/*", "a/x"),
    ],
)
def test_a_pattern_means(pattern, name):
    check_pattern(pattern)
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*.png", "a.jpg"),
        ("*.png", "deep/a.png"),
        ("*.PNG", "a.png"),
        ("*", ".hidden"),
        ("**/*.exr", ".cache/a.exr"),
        ("out", "outer/a.txt"),
        ("a?b", "a/b"),
        ("x.txt", "x.txt.bak"),
    ],
)
def test_a_pattern_does_not_mean(pattern, name):
    assert not matches(pattern, name)


@pytest.mark.parametrize(
    "pattern", ["", "/", "/etc/passwd", "../x", "a/../b", "a\0b", "x" * 2000, "a/" * 40, "."]
)
def test_patterns_that_lead_nowhere_are_refused(pattern):
    with pytest.raises(BadInput):
        check_pattern(pattern)


@given(
    st.text(st.sampled_from("ab*?[]/."), min_size=1, max_size=12),
    st.text(st.sampled_from("ab./"), max_size=12),
)
def test_every_pattern_has_an_answer(pattern, name):
    matches(pattern, name)


def test_many_stars_take_no_time():
    assert not matches("/".join(["**", "a"] * 15), "/".join("a" * 14 + "b"))
    assert not matches("*a" * 40 + "*b", "a" * 200)
