"""Lines that are drawn anew in place, on the tests' own screen."""

from __future__ import annotations

import os

import pytest
from rich.text import Text
from terminal import Screen

from planetmesh.cli.block import Block, can_draw, fitted


def show(screen: Screen, block: Block, lines: list[str], above: str = "") -> str:
    size = os.terminal_size((screen.columns, screen.rows))
    screen.feed(block.drawn([Text(line) for line in lines], size, above).replace("\n", "\r\n"))
    return screen.text


def test_it_is_drawn_over_itself_and_what_is_said_scrolls_above():
    screen, block = Screen(40, 8), Block()
    assert show(screen, block, ["one", "two"]) == "one\ntwo"
    assert show(screen, block, ["ONE"], "said\n") == "said\nONE"
    assert show(screen, block, ["1", "2", "3"], "more\n") == "said\nmore\n1\n2\n3"
    assert show(screen, block, []) == "said\nmore"


def test_it_stays_at_the_bottom_of_a_full_screen():
    screen, block = Screen(40, 6), Block()
    for number in range(20):
        shown = show(screen, block, ["a", "b"], f"line {number}\n")
    assert shown == "line 17\nline 18\nline 19\na\nb"


def test_a_block_as_high_as_the_screen_leaves_no_copies_behind():
    screen, block = Screen(40, 4), Block()
    for number in range(3):
        assert show(screen, block, ["a", "b", str(number)]) == f"a\nb\n{number}"
    assert screen.kept_as_history == 0


def test_no_line_fills_its_row_and_no_more_lines_than_rows():
    size = os.terminal_size((20, 5))
    lines = fitted([Text("x" * 50), Text("字" * 50), *[Text("more")] * 10], size)
    assert len(lines) == 4
    assert all(line.cell_len <= 19 for line in lines)
    assert lines[0].plain.endswith("…")


def test_a_terminal_made_narrower_has_wrapped_what_stood_there():
    block = Block()
    block.drawn([Text("x" * 70), Text("short")], os.terminal_size((80, 24)))
    # Seventy letters are two rows of forty, and `short` one; the cursor stands below.
    assert block.wiped(40).startswith("\r\x1b[3A")


def test_lines_that_were_typed_below_it_go_with_it():
    screen, block = Screen(40, 8), Block()
    show(screen, block, ["panel"])
    screen.feed("typed\r\n")
    block.push(1)
    assert show(screen, block, ["panel"]) == "panel"


@pytest.mark.parametrize("kind", ["dumb", "", "unknown"])
def test_terminals_that_cannot_move_their_cursor_get_no_drawing(monkeypatch, kind):
    ours, theirs = os.openpty()
    try:
        monkeypatch.setenv("TERM", "xterm")
        assert can_draw(theirs)
        monkeypatch.setenv("TERM", kind)
        assert not can_draw(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_pipe_gets_no_drawing(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    read, write = os.pipe()
    try:
        assert not can_draw(write)
    finally:
        os.close(read)
        os.close(write)
