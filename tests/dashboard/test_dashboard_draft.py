"""How the form's fields are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.client.plan import Plan
from planetmesh.dashboard.draft import (
    command_words,
    inputs_of,
    order_lines,
    problem_lines,
    whole_number,
)
from planetmesh.dashboard.plain import text_of
from planetmesh.errors import BadInput
from planetmesh.model.job import JobSpec, Range


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ffmpeg -i {} {.}.mp4", ("ffmpeg", "-i", "{}", "{.}.mp4")),
        ("  echo 'two words'  ", ("echo", "two words")),
        ("a | b", ("a | b",)),
        ("ls *.png", ("ls *.png",)),
        ("echo {#} {/.}", ("echo", "{#}", "{/.}")),
    ],
)
def test_a_command_line(line: str, words: tuple[str, ...]) -> None:
    assert command_words(line) == words


def test_an_open_quote_is_said() -> None:
    with pytest.raises(BadInput, match="quote"):
        command_words("echo 'x")


@given(st.text(max_size=40))
def test_inputs_are_a_range_or_lines(text: str) -> None:
    span, lines = inputs_of(text)
    assert not (span and lines)
    assert all(line.strip() for line in lines)


def test_inputs() -> None:
    assert inputs_of(" 1..100:5 ") == ("1..100:5", ())
    assert inputs_of("a\n\n b\n") == ("", ("a", " b"))
    assert inputs_of("1..2\n3..4") == ("", ("1..2", "3..4"))


def test_whole_numbers() -> None:
    assert whole_number(" ", "GPUs", 0, 64) is None
    assert whole_number("2", "GPUs", 0, 64) == 2
    for text in ("x", "-1", "65", "1.5", "9" * 100):
        with pytest.raises(BadInput, match="is not a number of GPUs"):
            whole_number(text, "GPUs", 0, 64)


class _Order:
    spec = JobSpec(type="command", payload={"argv": ["true"]}, inputs=Range(1, 3))
    plan = Plan()
    notes = ("a note",) * 9


def test_what_would_be_sent() -> None:
    lines = [text_of(line) for line in order_lines(_Order())]
    assert lines == ["✓ 3 tasks, each 1 CPU", "a note", "a note", "a note"]
    assert text_of(problem_lines("No.", "Try again.")[0]) == "✗ No.  Try again."
