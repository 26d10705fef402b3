"""`logs --mesh` tells what changed, once, in one line each, and nothing of it moves the terminal."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from terminal import Terminal

from planetmesh.cli import mesh_events
from planetmesh.cli.mesh_events import Telling
from planetmesh.wire.api import FeedEvent


def event(kind: str, data: Any = None) -> FeedEvent:
    return FeedEvent(1, kind, "2026-01-02T03:04:05Z", data)


def job(status: str, completed: int = 0, failed: int = 0, name: str = "") -> FeedEvent:
    tasks = {"completed": completed, "failed": failed, "total": 5}
    return event("job", {"id": "abc", "name": name, "status": status, "tasks": tasks})


def told(*events: FeedEvent) -> list[str]:
    telling = Telling()
    return [line for each in events for line in telling.lines(each)]


def test_a_job_is_told_when_its_status_changes_not_at_each_step():
    assert told(job("QUEUED"), job("RUNNING"), job("RUNNING", 2), job("RUNNING", 3), job("FAILED", 4, 1)) == [
        "job abc is QUEUED: 0 of 5 completed",
        "job abc is RUNNING: 0 of 5 completed",
        "job abc is FAILED: 4 of 5 completed, 1 failed",
    ]
    assert told(job("RUNNING", name="films")) == ["job abc 'films' is RUNNING: 0 of 5 completed"]


def test_nodes():
    def node(state: str, *, draining: bool = False) -> FeedEvent:
        return event("node", {"id": "n", "name": "desk", "state": state, "draining": draining, "load": 0.3})

    assert told(node("HEALTHY"), node("HEALTHY"), node("HEALTHY", draining=True), node("OFFLINE")) == [
        "node desk is HEALTHY",
        "node desk is HEALTHY, draining",
        "node desk is OFFLINE",
    ]
    assert told(event("node_removed", {"id": "n", "name": "desk"})) == ["node desk is forgotten"]


def test_failed_tasks_and_not_too_many_of_them():
    def task(index: int, status: str, error: str | None = "Exit 1.") -> dict[str, Any]:
        return {"id": f"abc/{index}", "status": status, "last_error": error}

    assert told(event("tasks", [task(0, "FAILED"), task(1, "COMPLETED", None), task(2, "RETRYING")])) == [
        "task abc/0 failed: Exit 1.",
        "task abc/2 will be tried again: Exit 1.",
    ]
    many = told(event("tasks", [task(index, "FAILED") for index in range(100)]))
    assert len(many) == mesh_events.FAILURES_MOST + 1
    assert many[-1] == "80 more tasks failed"


def test_the_rest():
    assert told(event("hello"), event("pairing", {"slot": "3", "action": "open_pairing"})) == [
        "pairing window 3: open_pairing"
    ]
    assert told(event("resync")) == ["some events were missed"]
    assert told(event("something new", {"a": 1})) == []


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(mesh_events, "KNOWN_MOST", 2)
    telling = Telling()
    for name in "abcd":
        list(telling.lines(event("node", {"id": name, "name": name, "state": "HEALTHY"})))
    assert len(telling._known) == 2


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 40])
def test_on_a_terminal_lines_break_between_words(coordinator, home, say, columns) -> None:
    name = "a long name with many words in it for films"
    with Terminal.planetmesh(home.root, "logs", "--mesh", columns=columns) as terminal:
        # Whatever happens before it listens is not told.
        while "films" not in terminal.screen.text:
            say("run", "--detach", "--name", name, "true")
            with contextlib.suppress(AssertionError):
                terminal.until(lambda text: "films" in text, 1.0)
        shown = terminal.until(lambda text: "of 1 completed" in text)
        terminal.type("\x03")
        assert terminal.end() == 130
    lines = shown.splitlines()
    assert max(map(len, lines)) < columns
    assert f"'{name}' is QUEUED: 0 of 1 completed" in " ".join(shown.split())
    assert lines[1].startswith(" " * (21 if columns == 80 else 2))
