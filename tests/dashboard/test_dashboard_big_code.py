"""Large letters."""

from __future__ import annotations

import pytest

from planetmesh.dashboard.big_code import GLYPHS, big
from planetmesh.trust.codes import ALPHABET, new_code


def test_there_is_a_glyph_for_every_letter_of_a_code_and_no_two_are_alike() -> None:
    assert set(GLYPHS) == set(ALPHABET) | {"-"}
    assert len(set(GLYPHS.values())) == len(GLYPHS)
    for glyph in GLYPHS.values():
        rows = glyph.split()
        assert len(rows) == 5
        assert len({len(row) for row in rows}) == 1


@pytest.mark.parametrize("width", [34, 74, 194])
def test_it_fits(width: int) -> None:
    code = new_code(7).text
    drawn = big(code, width)
    assert max(len(line) for line in drawn) <= width
    assert len(drawn) == {34: 1, 74: 3, 194: 5}[width]
    assert drawn == [code] or code not in drawn


def test_the_longest_code_still_fits_eighty_columns() -> None:
    assert len(big("99-MWMW-MWMW-M", 74)) == 3


def test_what_is_no_code_stays_as_it_is() -> None:
    assert big("", 80) == [""]
    assert big("héllo", 80) == ["héllo"]
