"""Output as lines."""

from __future__ import annotations

from itertools import pairwise

from dashboard_views import HOSTILE
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.dashboard.log_lines import LINE_MOST_LETTERS, Line, LogLines, find
from planetmesh.dashboard.plain import BAD
from planetmesh.wire.api import OutputPiece


def piece(data: bytes, *, stream: int = 1, attempt: int = 1, number: int = 1) -> OutputPiece:
    return OutputPiece(number, 0, attempt, stream, 0, data)


def texts(log: LogLines) -> list[str]:
    return [line.text for line in log.lines()]


@given(st.text(st.characters(codec="utf-8"), max_size=60), st.lists(st.integers(0, 200), max_size=5))
def test_however_it_is_cut_the_lines_are_the_same(text: str, cuts: list[int]) -> None:
    data = text.encode()
    whole, parts = LogLines(), LogLines()
    whole.take(piece(data))
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    for start, end in pairwise(places):
        parts.take(piece(data[start:end]))
    assert texts(whole) == texts(parts)


def test_streams_do_not_mix_within_a_line() -> None:
    log = LogLines()
    log.take(piece(b"hel"))
    log.take(piece(b"oops\n", stream=2))
    log.take(piece(b"lo\n"))
    assert log.lines() == [Line("oops", BAD), Line("hello")]


def test_a_new_attempt_is_marked() -> None:
    log = LogLines()
    log.take(piece(b"half"))
    log.take(piece(b"again\n", attempt=2))
    assert texts(log) == ["half", "── attempt 2 ──", "again"]


def test_a_progress_bar_shows_what_it_drew_last() -> None:
    log = LogLines()
    log.take(piece(b"10%\r50%\r100%\r\nnext"))
    assert texts(log) == ["100%", "next"]


def test_it_is_bounded() -> None:
    log = LogLines(most=10)
    for number in range(100):
        log.take(piece(b"%d\n" % number))
    assert texts(log) == [str(number) for number in range(90, 100)]
    assert log.dropped == 90
    log.take(piece(b"x" * 100_000))
    log.take(piece(b"y" * 100_000))
    assert max(len(text) for text in texts(log)) <= LINE_MOST_LETTERS + 1


def test_nothing_hostile_is_left() -> None:
    log = LogLines()
    log.take(piece(HOSTILE.encode() + b"\xff\xfe\x00\x9b31m\n"))
    assert all(text.isprintable() for text in texts(log))


def test_finding_goes_around() -> None:
    lines = [Line("a"), Line("Error one"), Line("b"), Line("error two")]
    assert find(lines, "error", 0, 1) == 1
    assert find(lines, "error", 2, 1) == 3
    assert find(lines, "error", 4, 1) == 1
    assert find(lines, "error", 0, -1) == 3
    assert find(lines, "none", 0, 1) is None
    assert find([], "x", 0, 1) is None


def test_colours_say_nothing_and_what_else_commands_a_terminal_stays_to_be_seen() -> None:
    log = LogLines()
    log.take(piece(b"\x1b[1;31merror\x1b[0m: \x1b[38;5;9mno\x1b[m\x1b[K\n\x1b[2J\x1b]0;owned\x07\n"))
    assert texts(log) == ["error: no", "�[2J�]0;owned�"]
