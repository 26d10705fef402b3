"""What tasks leave unfinished on a line: nothing of ours is glued to it or drawn over it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from api_double import Does, Double
from terminal import Terminal

FAILS = {"exit_code": 3, "outcome": "exit_code", "error": "Exit status 3."}


@pytest.mark.slow
@pytest.mark.parametrize("stream", [1, 2])
def test_on_a_terminal_the_bar_is_not_drawn_over_it(double: Double, home, stream) -> None:
    double.plan = lambda _spec, index: Does(pieces=((stream, b"part %d" % index),), seconds=0.4 * index)
    with Terminal.planetmesh(home.root, "run", "x", ":::", "a", "b", "c", columns=60) as terminal:
        assert terminal.end() == 0
    assert terminal.screen.text.splitlines() == ["part 0", "part 1", "part 2"]


def test_a_sentence_begins_a_line_of_its_own(double: Double, home, say) -> None:
    double.plan = lambda _spec, _index: Does(pieces=((2, b"no end"),), **FAILS)
    assert say("run", "--retries", "0", "x", ":::", "a", "b").error.splitlines()[:2] == [
        "no endno end",
        "warning: 2 of 2 tasks failed.",
    ]
    command = [sys.executable, "-m", "planetmesh", "--home", str(home.root), "run", "x", ":::", "a"]
    double.plan = lambda _spec, _index: Does(pieces=((1, b"no end"),), **FAILS)
    mixed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=30)
    assert mixed.stdout.splitlines()[0] == b"no end"


def test_what_is_written_to_a_pipe_stays_as_it_was(double: Double, say) -> None:
    double.plan = lambda _spec, index: Does(pieces=((1, b"%d" % index), (2, b"%d" % index)))
    said = say("run", "-k", "x", ":::", "a", "b")
    assert (said.text, said.error) == ("01", "01")


def test_labels_begin_lines_too(double: Double, home, say) -> None:
    double.plan = lambda _spec, index: Does(pieces=((1, b"part %d" % index),))
    say("run", "x", ":::", "a", "b")
    with Terminal.planetmesh(home.root, "logs", "last", columns=60) as terminal:
        assert terminal.end() == 0
    assert terminal.screen.text.splitlines() == ["── task 0 ──", "part 0", "── task 1 ──", "part 1"]
