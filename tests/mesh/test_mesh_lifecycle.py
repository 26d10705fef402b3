"""The tables of moves: what they allow and refuse, and that the drawings in the docs are these tables."""

from __future__ import annotations

import os
import re
from enum import StrEnum
from pathlib import Path

import builders
import pytest
from state_drawings import drawings

from planetmesh.errors import IllegalMove, PeerMisbehaved
from planetmesh.mesh.lifecycle import (
    MOVES,
    NODE_MOVES,
    PHASE_MOVES,
    Cause,
    NodeCause,
    Phase,
    PhaseCause,
    advance,
    advance_node,
    phase_after,
)
from planetmesh.model.ids import JobId
from planetmesh.model.job import ENDED, Task, TaskState
from planetmesh.model.node import NodeState

DOCS = Path(__file__).parents[2] / "docs" / "states.md"
PLACE = re.compile(r"(?<=<!-- drawn: )([a-z ]+)( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)


def test_the_drawings_in_the_docs_are_these_tables():
    """After a change of a table: PLANETMESH_DRAW_STATES=1 writes the drawings anew."""
    text, drawn = DOCS.read_text(encoding="utf-8"), drawings()
    if os.environ.get("PLANETMESH_DRAW_STATES"):
        text = PLACE.sub(lambda place: f"{place[1]}{place[2]}{drawn[place[1]]}\n", text)
        DOCS.write_text(text, encoding="utf-8")
    assert {place[1]: place[3].rstrip("\n") for place in PLACE.finditer(text)} == drawn


@pytest.mark.parametrize("causes", [Cause, NodeCause, PhaseCause])
def test_the_docs_explain_every_cause(causes: type[StrEnum]):
    text = DOCS.read_text(encoding="utf-8")
    assert [cause for cause in causes if f"| `{cause.value}` |" not in text] == []


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


@pytest.mark.parametrize("state", list(NodeState))
@pytest.mark.parametrize("cause", list(NodeCause))
def test_nodes_move_by_their_table_and_no_other(state: NodeState, cause: NodeCause):
    node = builders.node("n1", state=state)
    if (state, cause) in NODE_MOVES:
        moved = advance_node(node, cause, reliability=0.5)
        assert (moved.state, moved.reliability) == (NODE_MOVES[state, cause], 0.5)
        return
    with pytest.raises(IllegalMove, match=rf"n1 is {state} and cannot move by '{cause}'"):
        advance_node(node, cause)


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("cause", list(PhaseCause))
def test_trust_moves_by_its_table_and_no_other(phase: Phase, cause: PhaseCause):
    if (phase, cause) in PHASE_MOVES:
        assert phase_after(phase, cause) is PHASE_MOVES[phase, cause]
        return
    with pytest.raises(IllegalMove, match=rf"'{phase}' cannot move by '{cause}'"):
        phase_after(phase, cause)


def test_from_everywhere_there_is_a_way_back_to_health_and_trust():
    assert {state for state, cause in NODE_MOVES if cause is NodeCause.SAID_HELLO} == set(NodeState)
    lifted = {phase for phase, cause in PHASE_MOVES if cause is PhaseCause.LIFTED}
    assert lifted == set(Phase) - {Phase.GOOD}


def test_an_end_has_no_way_out_but_that_a_person_asks_for_it():
    assert [move for move in MOVES if move[0] in ENDED] == [(TaskState.FAILED, Cause.ASKED_AGAIN)]


def test_every_state_is_reached_and_every_live_one_can_be_cancelled():
    assert set(MOVES.values()) == set(TaskState)
    for state in set(TaskState) - ENDED:
        assert MOVES[state, Cause.CANCELLED] is TaskState.CANCELLED


def test_an_illegal_move_is_a_peers_fault_and_no_assertion():
    assert issubclass(IllegalMove, PeerMisbehaved)
