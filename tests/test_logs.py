"""One event is one line, whatever a peer put into it (T32)."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh import logs
from planetmesh.errors import BadInput
from planetmesh.log_file import LogFile
from planetmesh.logs import BURST, NEWS, TELL_SECONDS, Budget, JsonLines, TextLines, clean, set_up

NASTY = [
    "\x1b[31mred", "\x1b]52;c;aGk=\x07", "\x1b]8;;http://x\x1b\\y", "\x9b31m", "a\nb", "a\r\nb", "a\u2028b",
    "a\x85b", "\u202egnp.exe", "a\u200bb", "\u2066x\u2069", "\ufeffx", "\ud800", "\x00", "\x7f", "\ue000",
    "\t",
]  # fmt: skip


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """What `set_up` changes is the whole process's."""
    loggers = [logging.getLogger(), logging.getLogger("planetmesh"), logging.getLogger(NEWS)]
    before = [(each.handlers[:], each.level, each.propagate) for each in loggers]
    yield
    for each, (handlers, level, propagate) in zip(loggers, before, strict=True):
        each.handlers[:] = handlers
        each.propagate = propagate
        each.setLevel(level)


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
    set_up("json")
    set_up("json", verbose=verbose)
    logging.getLogger("planetmesh.test").info("hello", extra={"node": "desk"})
    logging.getLogger("planetmesh.test").debug("details")
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
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    set_up(form, verbose=verbose)
    logging.getLogger("planetmesh.test").info("details")
    logging.getLogger(f"{NEWS}.nodes").info("node.healthy")
    logging.getLogger("planetmesh.test").warning("trouble")
    lines = capsys.readouterr().err.splitlines()
    assert [event for line, event in zip(lines, shown, strict=True) if event in line] == shown


# Hostile fields


def test_a_value_cannot_pass_for_further_fields():
    line = TextLines().format(record(node='desk level=x" reason="y', plain="a", empty=""))
    assert line[8:] == ' node.lost node="desk level=x\\" reason=\\"y" plain=a empty=""'


def test_text_is_clean_however_deep_it_lies():
    line = JsonLines().format(record(tags=["a\x1b[31m"], kinds={"b\u202e": ("c\n",)}, odd=b"\x1b", nan=None))
    found = json.loads(line)
    assert found["tags"] == ["a\ufffd[31m"]
    assert found["kinds"] == {"b\ufffd": ["c\ufffd"]}
    assert found["odd"] == "b'\\x1b'"


def test_a_traceback_cannot_pass_for_a_line():
    lines = TextLines().format(record(error=True)).splitlines()
    assert all(line.startswith("    ") for line in lines[1:])
    assert len(lines) > 1


def test_what_libraries_say_is_one_clean_line_too(capsys: pytest.CaptureFixture[str]):
    set_up("text")
    logging.getLogger("asyncio").warning("went %s", "wrong\x1b[31m\n12:00:00 node.lost node=desk")
    (line,) = capsys.readouterr().err.splitlines()
    assert line[8:].startswith(' WARNING library.said text="went wrong\ufffd[31m\ufffd12:00:00')


# How often


def test_an_event_that_comes_too_often_is_counted_instead():
    now = [0.0]
    budget = Budget(lambda: now[0])
    assert [budget.allows("a") for _ in range(BURST + 5)] == [True] * BURST + [False] * 5
    assert budget.allows("b")
    assert budget.take_left_out() == {}
    now[0] = TELL_SECONDS
    assert budget.take_left_out() == {"a": 5}
    assert budget.take_left_out() == {}
    allowed = sum(budget.allows("a") for _ in range(1000))
    assert allowed == TELL_SECONDS / logs.REFILL_SECONDS


def test_a_million_failures_are_a_few_lines(tmp_path: Path):
    file = LogFile(tmp_path / "log", 10**9, 3)
    set_up("text", file=file)
    for index in range(20_000):
        logging.getLogger("planetmesh.test").info("task.failed", extra={"task": index})
    assert logs.counts().left_out >= 20_000 - 2 * BURST
    assert len((tmp_path / "log").read_text().splitlines()) == logs.counts().lines < 2 * BURST


# The file


def say(event: str, **fields: object) -> None:
    logging.getLogger("planetmesh.test").info(event, extra=fields)


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_file_gets_json_whatever_stderr_gets(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "log"
    set_up("text", file=LogFile(path, 10**6, 3), process="agent")
    logs.always(node_id="5f")
    say("node.lost", node="desk")
    (line,) = lines_of(path)
    assert (line["event"], line["node"], line["process"], line["node_id"]) == (
        "node.lost", "desk", "agent", "5f",
    )  # fmt: skip
    assert path.stat().st_mode & 0o777 == 0o600
    assert "process" not in capsys.readouterr().err


def test_a_full_file_is_moved_aside_and_the_oldest_goes(tmp_path: Path):
    path = tmp_path / "log"
    set_up("text", verbose=True, file=LogFile(path, 1000, 2))
    for number in range(100):
        say("a.line", number=number)
    files = sorted(tmp_path.iterdir())
    assert [each.name for each in files] == ["log", "log.1", "log.2"]
    assert all(each.stat().st_size <= 1000 for each in files)
    assert all(each.stat().st_mode & 0o777 == 0o600 for each in files)
    numbers = [line["number"] for each in reversed(files) for line in lines_of(each)]
    assert numbers == list(range(numbers[0], 100))
    counts = logs.counts()
    assert counts.file_bytes == sum(each.stat().st_size for each in files)
    assert counts.rotations > 2


def test_a_line_longer_than_the_file_may_be_is_written_alone(tmp_path: Path):
    path = tmp_path / "log"
    set_up("text", file=LogFile(path, 200, 1))
    say("a.line", text="x" * 500)
    say("a.line", text="y")
    assert [line["text"] for line in lines_of(path)] == ["y"]
    assert [line["text"] for line in lines_of(tmp_path / "log.1")] == ["x" * 500]


@pytest.mark.parametrize("how", ["moved", "removed", "copied and truncated"])
def test_what_logrotate_does_needs_no_word(tmp_path: Path, how: str):
    path = tmp_path / "log"
    set_up("text", file=LogFile(path, 10**6, 3))
    say("before.it")
    if how == "moved":
        path.rename(tmp_path / "log-2026")
    elif how == "removed":
        path.unlink()
    else:
        path.write_bytes(b"")
    say("after.it")
    assert [line["event"] for line in lines_of(path)] == ["after.it"]


def test_a_full_disk_costs_lines_and_no_more(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    path = tmp_path / "log"
    set_up("text", file=LogFile(path, 10**6, 3))
    say("before.it")
    write, is_full = os.write, [True]

    def refuse(file: int, data: bytes) -> int:
        if not is_full[0]:
            return write(file, data)
        write(file, data[:7])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    say("while.full")
    say("while.full")
    is_full[0] = False
    say("after.it")
    monkeypatch.undo()
    events = [line["event"] for line in lines_of(path)]
    assert events == ["before.it", "after.it", "log.file_recovered"]
    said = capsys.readouterr().err
    assert said.count("log.file_failed") == 1
    assert "No space left on device" in said
    assert logs.counts().lost >= 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path: Path):
    script = """
import logging, sys
from pathlib import Path
from planetmesh import logs
from planetmesh.errors import BadInput
from planetmesh.log_file import LogFile
path = Path(sys.argv[1]) / "log"
logs.set_up("text", verbose=True, file=LogFile(path, 10**9, 3))
for number in range(3000):
    logging.getLogger("planetmesh.test").debug("a.line", extra={"number": number})
text = path.read_bytes()
assert text.endswith(b"}\\n"), text[-80:]
print(logs.counts().lost)
"""
    argv = [sys.executable, "-c", script, str(tmp_path)]
    command = f'mount -t tmpfs -o size=64k none {tmp_path} && exec "$0" "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command, *argv], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) > 1000
    assert done.stderr.count("log.file_failed") == 1


def test_where_no_log_can_be_written_is_said(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "none" / "log"):
        with pytest.raises(BadInput, match="No log can be written"):
            LogFile(path, 1000, 1)
