"""Printers and streams: golden tables, exact bytes, harmless terminals."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.cli.bytes_out import Stream, harmless
from planetmesh.cli.last_line import bar, fitted
from planetmesh.cli.output import Column, Shape, printer_for
from planetmesh.cli.progress import ProgressLine
from planetmesh.cli.transfer_line import TransferLine
from planetmesh.client.pace import Rate, show_rate, show_seconds
from planetmesh.client.progress import Progress
from planetmesh.wire.api import TaskCounts

SHAPE = Shape[dict](
    (Column("NAME", lambda row: row["name"]), Column("SIZE", lambda row: str(row["size"]), right=True)),
    key=lambda row: row["name"],
    empty="Nothing here.",
)
ROWS = [{"name": "a", "size": 5}, {"name": "longer [red]", "size": 12345}]


def test_the_same_rows_in_three_forms(capsys) -> None:
    printer_for(json=False, quiet=False).rows(ROWS, SHAPE)
    assert capsys.readouterr().out == "NAME           SIZE\na                 5\nlonger [red]  12345\n"
    printer_for(json=True, quiet=False).rows(ROWS, SHAPE)
    assert json.loads(capsys.readouterr().out) == ROWS
    printer_for(json=False, quiet=True).rows(ROWS, SHAPE)
    assert capsys.readouterr().out == "a\nlonger [red]\n"


def test_an_empty_list_is_told_to_people_and_is_empty_for_programs(capsys) -> None:
    printer_for(json=False, quiet=False).rows([], SHAPE)
    assert capsys.readouterr() == ("", "Nothing here.\n")
    printer_for(json=True, quiet=False).rows([], SHAPE)
    assert capsys.readouterr().out == "[]\n"


def test_a_table_on_a_terminal_shows_markup_as_text(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    printer_for(json=False, quiet=False).rows([*ROWS, {"name": "\x1b[31mred", "size": 1}], SHAPE)
    shown = capsys.readouterr().out
    assert "longer [red]" in shown
    assert "\x1b[31mred" not in shown


@given(st.text())
def test_json_is_plain_ascii_and_loses_nothing(text) -> None:
    from contextlib import redirect_stdout

    with redirect_stdout(io.StringIO()) as out:
        printer_for(json=True, quiet=True).done("", {"text": text.encode("utf-8", "replace").decode()})
    shown = out.getvalue()
    assert shown.isascii()
    assert all(letter.isprintable() for letter in shown.removesuffix("\n"))
    assert json.loads(shown)["text"] == text.encode("utf-8", "replace").decode()


@given(st.lists(st.binary(max_size=20)))
def test_pipes_get_exact_bytes(pieces) -> None:
    out = io.BytesIO()
    stream = Stream(out, exact=True)
    for piece in pieces:
        stream.write(piece)
    stream.finish()
    assert out.getvalue() == b"".join(pieces)


@given(st.lists(st.binary(max_size=20) | st.text(max_size=9).map(str.encode)))
def test_terminals_get_no_control_characters_however_the_bytes_are_cut(pieces) -> None:
    out = io.BytesIO()
    stream = Stream(out, exact=False)
    for piece in pieces:
        stream.write(piece)
    stream.finish()
    shown = out.getvalue().decode()
    assert shown == harmless(b"".join(pieces).decode("utf-8", "replace"))
    assert not any(ord(letter) < 32 and letter not in "\n\t\r" for letter in shown)
    assert not any(0x7F <= ord(letter) < 0xA0 or letter in "\u202e\u200b\u2028" for letter in shown)


def test_text_of_all_tongues_passes_a_terminal_whole() -> None:
    out = io.BytesIO()
    stream = Stream(out, exact=False)
    for byte in "Grüße 世界\n".encode():
        stream.write(bytes([byte]))
    assert out.getvalue().decode() == "Grüße 世界\n"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (6.4, "0:06"), (750, "12:30"), (11100, "3:05:00"), (900000, "10 days")]
)
def test_times_in_words(seconds, text) -> None:
    assert show_seconds(seconds) == text


def test_the_progress_line() -> None:
    counts = TaskCounts(200, 70, 0, 10, 0, 117, 3, 0)
    line = ProgressLine(None)
    assert line.parts(counts, nodes=3) == ["120/200", "3 failed", "10 running", "3 nodes"]
    line._rate.measure(0.0, 0)
    line._rate.measure(8.0, 120)
    assert line.parts(counts, nodes=1) == ["120/200", "3 failed", "0:05 left", "10 running", "15/s", "1 node"]
    fetching = Progress("fetching", 3 * 2**20, 2**30, 0, 2, 9)
    assert "fetched 3.0 MiB" in line.parts(counts, 1, fetching)
    full = TaskCounts(2, 0, 0, 0, 0, 2, 0, 0)
    assert ProgressLine(None).parts(full, 0) == ["2/2"]
    assert ProgressLine(None, inputs=True).parts(full, 0) == ["2/2 inputs"]


def test_no_time_is_told_while_nothing_can_run() -> None:
    line = ProgressLine(None)
    line._rate.measure(0.0, 0)
    line._rate.measure(2.0, 99)
    assert line.parts(TaskCounts(100, 0, 0, 1, 0, 99, 0, 0), 0)[:2] == ["99/100", "0:01 left"]
    for stuck in (TaskCounts(100, 1, 0, 0, 0, 99, 0, 0), TaskCounts(100, 0, 0, 0, 1, 99, 0, 0)):
        assert line.parts(stuck, 0)[:2] == ["99/100", "waiting"]


@pytest.mark.parametrize("count", [1, 3, 10_000])
def test_a_rate_of_long_ago_says_nothing_of_what_is_left(count) -> None:
    rate = Rate()
    rate.measure(0.0, 0)
    rate.measure(2.0, 30)
    told = []
    for second in range(3, 600):
        rate.measure(float(second), 30)
        told.append(rate.left(count))
    assert told[0]
    assert told[-1] == ""
    assert "0:00 left" not in told


def test_a_rate_is_calm_where_things_come_one_by_one() -> None:
    rate = Rate()
    for second in range(61):
        rate.measure(float(second), second // 6)
        assert rate.value is None or abs(rate.value - 1 / 6) < 0.001
    for second in range(61, 200):
        rate.measure(float(second), 10)
    assert rate.value is None
    assert show_rate(1 / 6) == "10/min"


def test_time_left_does_not_jump_where_tasks_end_in_bursts() -> None:
    rate = Rate()
    told: list[float] = []
    for second in range(401):
        rate.measure(float(second), second // 20 * 4)  # four at once, each twenty seconds
        if rate.value:
            told.append(rate.value)
    assert len(told) > 370
    assert all(abs(each - 0.2) < 0.001 for each in told)


def test_a_rate_follows_what_becomes_slower() -> None:
    rate = Rate()
    for second in range(61):
        rate.measure(float(second), second * 100)
    assert rate.value == pytest.approx(100)
    for second in range(61, 181):
        rate.measure(float(second), 6000 + (second - 60) * 10)
    assert rate.value is not None
    assert rate.value < 20


def test_the_line_of_a_transfer() -> None:
    line = TransferLine(printer_for(json=False, quiet=False))
    progress = Progress("sending", 2**20, 3 * 2**20, 2**20, 1, 3)
    assert line.parts(progress) == ["1.0 MiB of 3.0 MiB", "1/3 files"]
    line._rate.measure(0.0, 0)
    line._rate.measure(2.0, 2**20)
    assert line.parts(progress) == ["1.0 MiB of 3.0 MiB", "0:04 left", "512.0 KiB/s", "1/3 files"]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (79, "sending [============>           ] 1.2 GiB of 2.4 GiB  0:25 left  3/12 files"),
        (60, "sending [====>   ] 1.2 GiB of 2.4 GiB  0:25 left  3/12 files"),
        (39, "sending 1.2 GiB of 2.4 GiB  0:25 left"),
        (36, "sending [===>   ] 1.2 GiB of 2.4 GiB"),
        (30, "sending 1.2 GiB of 2.4 GiB"),
        (15, "sending 1.2 GiB"),
        (3, "sending 1."),
    ],
)
def test_a_line_never_wraps_and_loses_the_least_first(width: int, shown: str) -> None:
    text = fitted("sending", 0.5, ["1.2 GiB of 2.4 GiB", "0:25 left", "3/12 files"], width)
    assert text == shown
    assert len(text) <= max(width, 10)


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.999, 1.0, 1.5])
def test_a_bar_is_as_long_as_it_is_to_be(share: float) -> None:
    assert len(bar(share, 8)) == 10
