"""Names of outputs from patterns, and the patterns that collect them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.errors import BadInput
from planetmesh.jobtypes.output_name import (
    check_name_pattern,
    extension_of,
    fill_name,
    glob_of,
    refuse_doubles,
)
from planetmesh.model.patterns import check_pattern, matches


@pytest.mark.parametrize(
    ("pattern", "item", "name"),
    [
        ("{/.}.{ext}", "photos/a b.PNG", "a b.webp"),
        ("{.}.{ext}", "photos/a.png", "photos/a.webp"),
        ("small/{/}", "/share/x/a.png", "small/a.png"),
        ("{//}/{#}.{ext}", "photos/a.png", "photos/5.webp"),
        ("{//}/{/}", "a.png", "a.png"),
        ("{}", "ö/ü.png", "ö/ü.png"),
        ("{unknown}", "a", "{unknown}"),
    ],
)
def test_names_are_filled(pattern, item, name):
    assert fill_name(pattern, item, 4, "webp") == name


@pytest.mark.parametrize(
    ("pattern", "item"),
    [
        ("{}", "/etc/passwd"),
        ("{.}.{ext}", "../up.png"),
        ("{/.}.{ext}", ".hidden"),
        ("{//}/x", ".git/a"),
        ("{/}", "what?.png"),
        ("{/}", "CON.png"),
        ("{/}", ".."),
        ("{/}", "x" * 300),
        ("../{/}", "a"),
    ],
)
def test_names_that_lead_elsewhere_or_cannot_be_collected_are_refused(pattern, item):
    with pytest.raises(BadInput):
        fill_name(pattern, item, 0, "png")


@pytest.mark.parametrize("pattern", ["", "x/", "{name}.png", "{..}"])
def test_patterns_that_name_nothing_are_refused(pattern):
    with pytest.raises(BadInput):
        check_name_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "extension", "found"),
    [
        ("{/.}.{ext}", "webp", "*.webp"),
        ("{/.}.{ext}", "", "*.*"),
        ("{.}.{ext}", "jpg", "**/*.jpg"),
        ("{//}/small/{/}", "", "**/small/*"),
        ("thumbs/[x]-{#}.{ext}", "png", "thumbs/[[]x]-*.png"),
        ("pre-{.}-{#}.png", "", "**/*-*.png"),
        ("sheet.{ext}", "jpg", "sheet.jpg"),
    ],
)
def test_patterns_tell_what_to_collect(pattern, extension, found):
    assert glob_of(pattern, extension) == found
    check_pattern(found)


_PART = st.text("abc[]!- é", min_size=1, max_size=5).map(lambda text: f"x{text}x")
_ITEM = st.lists(_PART, min_size=1, max_size=3).map("/".join)
_PIECES = st.sampled_from(
    ["{}", "{.}", "{/}", "{//}", "{/.}", "{#}", "{ext}", "x", "[", "]", "/", "*?"[:0], "-"]
)


@given(st.lists(_PIECES, min_size=1, max_size=6).map("".join), _ITEM, st.sampled_from(["jpg", "webp"]))
def test_whatever_name_comes_of_a_pattern_is_collected(pattern, item, extension):
    try:
        check_name_pattern(pattern)
        name = fill_name(pattern, f"{item}.png", 7, extension)
    except BadInput:
        return
    assert matches(glob_of(pattern, extension), name)
    assert matches(glob_of(pattern, ""), name)


def test_two_outputs_of_one_name_are_refused_with_both_inputs():
    refuse_doubles([("a/x.png", "x.jpg"), ("b/y.png", "y.jpg"), ("a/x.png", "x.jpg")])
    with pytest.raises(BadInput) as caught:
        refuse_doubles([("a/x.png", "x.jpg"), ("b/X.png", "X.jpg")])
    assert "a/x.png" in caught.value.message
    assert "b/X.png" in caught.value.message


def test_extensions_are_small_letters_without_their_dot():
    assert [extension_of(name) for name in ("a.JPG", "a.b/c", ".png", "x.tar.gz")] == ["jpg", "", "", "gz"]
