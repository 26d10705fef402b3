"""One event is one line, whatever a peer put into it (T32)."""

from __future__ import annotations

import json
import logging
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.logs import NEWS, JsonLines, TextLines, clean, set_up

NASTY = [
    "\x1b[31mred", "\x1b]52;c;aGk=\x07", "\x1b]8;;http://x\x1b\\y", "\x9b31m", "a\nb", "a\r\nb", "a\u2028b",
    "a\x85b", "\u202egnp.exe", "a\u200bb", "\u2066x\u2069", "\ufeffx", "\ud800", "\x00", "\x7f", "\ue000",
    "\t",
]  # fmt: skip


@pytest.mark.parametrize("text", NASTY)
def test_what_steers_a_terminal_is_made_harmless(text: str):
    assert clean(text).isprintable()
    assert "\N{REPLACEMENT CHARACTER}" in clean(text)


@pytest.mark.parametrize("text", ["", "plain", "naïve café", "日本語", "emoji 🎉", "[red]markup[/]", "a b"])
def test_what_people_write_stays(text: str):
    assert clean(text) == text


@given(st.text(st.characters(), max_size=80), st.integers(1, 60))
def test_any_text_is_printable_and_short_enough(text: str, longest: int):
    shown = clean(text, longest)
    assert len(shown) <= longest + 1
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert shown.endswith("…") or len(text) <= longest
    assert clean(shown, longest + 1) == shown


def record(
    message: str = "node.lost", *, error: bool = False, level=logging.INFO, **extra
) -> logging.LogRecord:
    info = None
    if error:
        try:
            int("bad\x1b[31m")
        except ValueError as refused:
            refused.args = ("bad\x1b[31m",)
            info = sys.exc_info()
    made = logging.getLogger("planetmesh.x").makeRecord(
        "planetmesh.x", level, "f", 1, message, (), info, extra=extra
    )
    made.created = 1_769_860_801.25
    return made


def test_json_lines():
    line = JsonLines().format(record(node="desk", seconds=1.5, tags=["a"]))
    assert json.loads(line) == {
        "at": "2026-01-31T12:00:01.250Z", "level": "info", "event": "node.lost", "logger": "planetmesh.x",
        "node": "desk", "seconds": 1.5, "tags": ["a"],
    }  # fmt: skip


@given(st.text(max_size=30), st.text(max_size=30), st.lists(st.text(max_size=9), max_size=2))
def test_one_event_is_one_line_in_both_forms(message: str, value: str, values: list[str]):
    for form in (JsonLines(), TextLines()):
        line = form.format(record(message.replace("%", ""), node=value, many=values, odd=object()))
        assert len(line.splitlines()) == 1
        assert "\x1b" not in line


def test_text_lines_name_the_level_only_if_it_matters():
    assert TextLines().format(record(node="desk"))[8:] == " node.lost node=desk"
    assert " WARNING node.lost" in TextLines().format(record(level=logging.WARNING))


def test_a_traceback_is_kept_in_both_forms():
    line = JsonLines().format(record(error=True))
    assert "ValueError" in json.loads(line)["traceback"]
    assert len(line.splitlines()) == 1
    text = TextLines().format(record(error=True))
    assert "ValueError" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(("verbose", "shown"), [(False, 1), (True, 2)])
def test_set_up_speaks_to_stderr_once(capsys: pytest.CaptureFixture[str], verbose: bool, shown: int):
    root = logging.getLogger("planetmesh")
    before = (root.handlers[:], root.level, root.propagate)
    try:
        set_up("json")
        set_up("json", verbose=verbose)
        logging.getLogger("planetmesh.test").info("hello", extra={"node": "desk"})
        logging.getLogger("planetmesh.test").debug("details")
    finally:
        root.handlers[:], root.propagate = before[0], before[2]
        root.setLevel(before[1])
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == shown
    assert json.loads(err.splitlines()[0])["event"] == "hello"


@pytest.mark.parametrize(
    ("terminal", "form", "verbose", "shown"),
    [
        (True, "text", False, ["node.healthy", "trouble"]),
        (True, "text", True, ["details", "node.healthy", "trouble"]),
        (True, "json", False, ["details", "node.healthy", "trouble"]),
        (False, "text", False, ["details", "node.healthy", "trouble"]),
    ],
)
def test_a_terminal_gets_news_and_warnings_only(
    capsys: pytest.CaptureFixture[str],
    monkeypatch,
    terminal: bool,
    form: str,
    verbose: bool,
    shown: list[str],
):
    root, news = logging.getLogger("planetmesh"), logging.getLogger(NEWS)
    before = (root.handlers[:], root.level, root.propagate, news.level)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    try:
        set_up(form, verbose=verbose)
        logging.getLogger("planetmesh.test").info("details")
        logging.getLogger(f"{NEWS}.nodes").info("node.healthy")
        logging.getLogger("planetmesh.test").warning("trouble")
    finally:
        root.handlers[:], root.propagate = before[0], before[2]
        root.setLevel(before[1])
        news.setLevel(before[3])
    lines = capsys.readouterr().err.splitlines()
    assert [event for line, event in zip(lines, shown, strict=True) if event in line] == shown
