"""The table of moves: what it allows, what it refuses, and that the drawing in the docs is this table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from planetmesh.errors import IllegalMove, PeerMisbehaved
from planetmesh.mesh.lifecycle import MOVES, Cause, advance
from planetmesh.model.ids import JobId
from planetmesh.model.job import ENDED, Task, TaskState

DOCS = Path(__file__).parents[2] / "docs" / "states.md"


def draw() -> str:
    """The table as a state diagram: one arrow for all causes between two states."""
    arrows: dict[tuple[TaskState, TaskState], list[str]] = {}
    for (before, cause), after in MOVES.items():
        arrows.setdefault((before, after), []).append(cause.value)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {TaskState.QUEUED}"]
    for (before, after), causes in sorted(arrows.items(), key=lambda arrow: _place(*arrow[0])):
        lines.append(f"    {before} --> {after}: {', '.join(causes)}")
    lines += [f"    {state} --> [*]" for state in TaskState if state in ENDED]
    return "\n".join([*lines, "```"])


def _place(before: TaskState, after: TaskState) -> tuple[int, int]:
    order = list(TaskState)
    return order.index(before), order.index(after)


def test_the_drawing_in_the_docs_is_this_table():
    """After a change of the table: PLANETMESH_DRAW_STATES=1 writes the drawing anew."""
    text = DOCS.read_text(encoding="utf-8")
    start, end = text.index("```mermaid"), text.index("```\n", text.index("```mermaid") + 3) + 3
    if os.environ.get("PLANETMESH_DRAW_STATES"):
        DOCS.write_text(text[:start] + draw() + text[end:], encoding="utf-8")
        text = DOCS.read_text(encoding="utf-8")
        end = text.index("```\n", start + 3) + 3
    assert text[start:end] == draw()


def test_the_docs_name_every_cause():
    text = DOCS.read_text(encoding="utf-8")
    assert [cause for cause in Cause if f"`{cause.value}`" not in text] == []


@pytest.mark.parametrize("state", list(TaskState))
@pytest.mark.parametrize("cause", list(Cause))
def test_moves_are_those_of_the_table_and_no_others(state: TaskState, cause: Cause):
    task = Task(JobId("a000000000"), 3, state, attempt=2)
    if (state, cause) in MOVES:
        moved = advance(task, cause, error="x")
        assert (moved.state, moved.error, moved.attempt) == (MOVES[state, cause], "x", 2)
        return
    with pytest.raises(IllegalMove, match=rf"a000000000/3 is {state} \(attempt 2.*by '{cause}'"):
        advance(task, cause)


def test_an_end_has_no_way_out_but_that_a_person_asks_for_it():
    assert [move for move in MOVES if move[0] in ENDED] == [(TaskState.FAILED, Cause.ASKED_AGAIN)]


def test_every_state_is_reached_and_every_live_one_can_be_cancelled():
    assert set(MOVES.values()) == set(TaskState)
    for state in set(TaskState) - ENDED:
        assert MOVES[state, Cause.CANCELLED] is TaskState.CANCELLED


def test_an_illegal_move_is_a_peers_fault_and_no_assertion():
    assert issubclass(IllegalMove, PeerMisbehaved)
