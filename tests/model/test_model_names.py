"""Names from peers never lead out of their folder (SECURITY T26)."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.errors import BadInput
from planetmesh.model.names import folded, safe_parts

FOLDER = PurePosixPath("/srv/job")


@pytest.mark.parametrize(
    "name", ["a", "a/b.txt", "x.py", "ü/ß.png", "a b", ".config", "a.b.c", "CONSOLE.txt"]
)
def test_ordinary_names_are_taken(name):
    assert "/".join(safe_parts(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        *["", ".", "..", "/", "/abs", "../x", "a/../../x", "a/..", "a//b", "a/", "./a", "C:\\x", "C:x"],
        *["\\\\srv\\s", "a\\b", "CON", "con.txt", "nul", "a/AUX.tar.gz", "COM1", "lpt9.x", "a:b", "a."],
        *["a ", " a", "a/b./c", "x" * 300, "a\0b", "a\nb", "a\x1b[31m", "a\u202eb", "a\u200bb", "\udc80"],
        *["a?", "a*", "a|b", "<a>", 'a"b', "x/" * 40 + "y", "ab/" * 500 + "c", "CON .txt", "COM\u00b9"],
    ],
)
def test_names_that_could_lead_elsewhere_are_refused(name):
    with pytest.raises(BadInput) as caught:
        safe_parts(name)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 7000


@given(st.one_of(st.text(max_size=30), st.text(st.sampled_from(list("./\\ab:~ \0")), max_size=12)))
def test_whatever_is_taken_lies_below_the_folder(name):
    try:
        path = FOLDER.joinpath(*safe_parts(name))
    except BadInput:
        return
    assert os.path.normpath(path) == str(path)
    assert path.is_relative_to(FOLDER)
    assert path != FOLDER


def test_names_that_are_one_file_somewhere_fold_alike():
    assert folded("Straße") == folded("STRASSE")
    assert folded("e\u0301") == folded("\u00e9")
