"""Tables on terminals of any width: nothing is cut in the middle of a word that somebody needs."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.cli.audit import brief_id
from planetmesh.cli.output import printer_for, wrapped
from planetmesh.cli.shapes import JOBS, NODES, TASKS, reason_of, show_tasks, show_time
from planetmesh.cli.tables import lay_out
from planetmesh.cli.top_lines import NODES as TOP_NODES
from planetmesh.model.node import NodeState, Sandbox
from planetmesh.wire.api import JobView, NodeView, TaskCounts, TaskView


def node(name: str, note: str = "", **more) -> NodeView:
    usual = {
        "id": name, "name": name, "state": NodeState.HEALTHY, "cpus": 2, "memory_bytes": 2**34, "gpus": (),
        "tags": (), "running": 0, "load": 0.5, "rtt_ms": 1.0, "reliability": 1.0, "last_heartbeat_at": None,
        "draining": bool(note), "sandbox": Sandbox("user+landlock"), "version": "1", "note": note,
    }  # fmt: skip
    return NodeView(**{**usual, **more})


NOTE = "It is draining (`planetmesh node resume attic`)."


@pytest.fixture
def shown(capsys, monkeypatch):
    """What a terminal of this width shows."""

    def shown(things, shape, width: int) -> list[str]:
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(width))
        printer_for(json=False, quiet=False).rows(things, shape)
        return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()

    return shown


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_nodes_fit_a_terminal_and_say_name_state_and_note(shown, width: int) -> None:
    lines = shown([node("desk"), node("attic", NOTE)], NODES, width)
    assert all(len(line) <= width for line in lines), lines
    assert lines[0].split()[:2] == ["NAME", "STATE"]
    assert " draining" in "\n".join(lines)
    assert "…" not in "\n".join(lines)
    assert NOTE in " ".join(" ".join(lines).split())


def test_a_wide_terminal_shows_every_column(shown) -> None:
    titles = shown([node("desk", tags=("gpu",), note="x")], NODES, 200)[0].split()
    assert titles == [column.title for column in NODES.columns]


def test_columns_that_say_nothing_go_first() -> None:
    short, _ = lay_out([node("desk")], NODES, 70)
    assert {"GPUS", "TAGS"}.isdisjoint(each.column.title for each in short)
    assert "SANDBOX" in {each.column.title for each in short}


def test_jobs_are_called_by_their_names_at_eighty_columns(shown) -> None:
    counts = TaskCounts(10_000, 0, 0, 0, 0, 9800, 200, 0)
    job = JobView(
        id="2rj85vx7q5", name="holiday pictures of last year", type="command", status="PARTIALLY_COMPLETED",
        priority=0, submitter="me", created_at="2026-01-31T12:00:00Z", started_at="2026-01-31T12:00:00Z",
        completed_at="2026-01-31T12:01:00Z", tasks=counts,
    )  # fmt: skip
    title, line = shown([job], JOBS, 80)
    assert title.split() == ["JOB", "NAME", "STATUS", "TASKS", "TIME"]
    assert "  holiday pict" in line
    assert "10000/10000, 200 failed" in line


def test_what_was_dropped_by_a_cancellation_was_not_done() -> None:
    counts = TaskCounts(
        total=60, queued=0, assigned=0, running=0, retrying=0, completed=36, failed=2, cancelled=22
    )
    job = JobView(
        id="a", name="", type="command", status="CANCELLED", priority=0, submitter="me", created_at="",
        started_at=None, completed_at=None, tasks=counts,
    )  # fmt: skip
    assert show_tasks(job) == "38/60, 2 failed"


def test_what_top_prints_once_drops_whole_columns(shown) -> None:
    assert shown([node("desk")], TOP_NODES, 30) == [
        "NAME  STATE    RUNNING  LOAD",
        "desk  HEALTHY        0   50%",
    ]


def test_the_machine_is_named_once_in_a_failure() -> None:
    task = TaskView(
        id="a/0", job_id="a", index=0, status="FAILED", node="attic", node_id="n", attempts=1, exit_code=9,
        started_at=None, finished_at=None, payload=None,
        last_error="It ended with exit code 9 on attic (no attempts left of 3).",
    )  # fmt: skip
    assert reason_of(task) == "on attic: It ended with exit code 9 (no attempts left of 3)."


def test_an_id_in_the_audit_trail_is_brief_and_a_name_is_not() -> None:
    assert brief_id("7e9b1a1c6236084788456e9bd5f62b47") == "7e9b1a1c"
    assert brief_id("weights.missing_input") == "weights.missing_input"


@given(st.text(min_size=1), st.text(), st.integers(1, 200))
def test_any_text_at_any_width_is_laid_out(payload: str, error: str, width: int) -> None:
    task = TaskView(
        id="a/0", job_id="a", index=0, status="FAILED", node="n", node_id="n", attempts=1, exit_code=1,
        started_at=None, finished_at=None, last_error=error, payload=payload,
    )  # fmt: skip
    short, _ = lay_out([task], TASKS, width)
    assert {"TASK", "STATUS", "NODE"} <= {each.column.title for each in short}


def test_sentences_break_at_blanks_and_never_inside_a_command(monkeypatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    text = f"Waiting: No machine can run it now. attic: {NOTE} " + "word " * 20
    lines = wrapped(text).splitlines()
    assert len(lines) > 3
    assert "`planetmesh node resume attic`" in "\n".join(lines)
    assert " ".join(lines).split() == text.split()
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    assert wrapped(text) == text


def test_a_name_is_cut_only_for_what_others_need(shown) -> None:
    long_name = "a-name-of-thirty-letters-and-x"
    assert any(long_name in line for line in shown([node(long_name)], NODES, 80))
    narrow = shown([node(long_name)], NODES, 40)[1]
    assert narrow.startswith("a-name-of-")
    assert "HEALTHY" in narrow
    assert len(narrow) <= 40


def test_a_pipe_gets_all_columns_and_all_letters(capsys) -> None:
    printer_for(json=False, quiet=False).rows([node("n" * 10_000), node("desk")], NODES)
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == [column.title for column in NODES.columns]
    assert "n" * 10_000 in first
    assert len(second) < 300


def test_times_are_brief_before_columns_go(shown) -> None:
    at = datetime.now(UTC).isoformat()
    job = JobView(
        id="qrfk0rsr6j", name="render", type="command", status="RUNNING", priority=0, submitter="me",
        created_at=at, started_at=at, completed_at=None, tasks=TaskCounts(9, 0, 0, 0, 0, 9, 0, 0),
    )  # fmt: skip
    assert show_time(at) in shown([job], JOBS, 80)[1]
    narrow = "\n".join(shown([job], JOBS, 60))
    assert "CREATED" in narrow
    assert "render" in narrow
    assert show_time(at) not in narrow
