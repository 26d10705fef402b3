"""Codes: what is typed, what is told apart locally, what is never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.errors import BadInput
from planetmesh.trust.codes import ALPHABET, Code, new_code, new_long_code, parse_code

secret = st.text(ALPHABET, min_size=8, max_size=8)
slot = st.integers(1, 99)


@given(slot, secret)
def test_a_code_reads_back_however_it_is_typed(number, text):
    code = Code(number, text)
    assert parse_code(code.text) == code
    assert parse_code(f"  {code.text.lower().replace('-', ' ')}\n") == code
    assert parse_code(code.text.replace("0", "o").replace("1", "l")) == code
    assert parse_code(code.text.replace("0", "O").replace("1", "I")) == code


@given(slot, secret, st.data())
def test_any_single_wrong_symbol_is_noticed(number, text, data):
    plain = Code(number, text).text.replace("-", "")
    place = data.draw(st.integers(0, len(plain) - 1))
    other = data.draw(st.sampled_from([each for each in ALPHABET if each != plain[place]]))
    with pytest.raises(BadInput):
        parse_code(plain[:place] + other + plain[place + 1 :])


@given(slot, secret, st.integers(0, 6))
def test_swapped_neighbours_are_noticed(number, text, place):
    if text[place] == text[place + 1]:
        return
    check = Code(number, text).text[-1]
    swapped = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    with pytest.raises(BadInput):
        parse_code(f"{number}-{swapped}-{check}")


@given(st.text(max_size=400))
def test_nothing_else_is_a_code_and_nothing_breaks(text):
    with pytest.raises(BadInput) as caught:
        parse_code(text)
    assert caught.value.hint
    assert caught.value.message in {
        "This is not a pairing code.",
        "There is a typing error in the pairing code.",
    }


def test_a_long_code_carries_the_authority():
    code = new_long_code(7, "ab" * 32)
    assert code.is_long
    assert parse_code(code.text) == code
    assert len(code.secret) * 5 >= 128


def test_the_secret_is_not_in_the_repr_and_differs_each_time():
    code = new_code(3)
    assert code.secret not in repr(code)
    assert code.secret not in str(code)
    assert code.secret not in f"{code}"
    assert len({new_code(3).secret for _ in range(50)}) == 50
