"""One word for one thing: table heads, states, and how commands stand in sentences."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "dashboard"))

from dashboard_views import counts, job_view, node_view, snapshot, task_view

from planetmesh.cli import shapes, top_lines
from planetmesh.cli.main import COMMANDS
from planetmesh.dashboard import rows
from planetmesh.model.node import NodeState

PACKAGE = Path(__file__).parents[1] / "planetmesh"
BELOW = ("drain", "resume", "revoke", "forget", "rename", "tag")
"""Commands of `node` and `people`."""
COMMAND = re.compile(rf"\bplanetmesh (?:{'|'.join(COMMANDS)})\b(?: (?:{'|'.join(BELOW)})\b)?")
NAMED = re.compile(r"planetmesh[^.\w]")
"""Before it takes its time to read a file as a tree: by its module's name it is followed by a dot."""
PROSE = re.compile(r"[.,;)] |[.)]$|(?<= )[a-z]+ [a-z]+(?= |$)")
"""What no command line holds that stands at a sentence's end: marks of a sentence, or two words in a row."""


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Every text of a file but its docstrings, `X` for what is put in; none where our name is in no text."""
    source = path.read_text(encoding="utf-8")
    if not NAMED.search(source):
        return
    tree = ast.parse(source)
    passed = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    for each in ast.walk(tree):
        if isinstance(each, ast.JoinedStr):
            passed |= {id(value) for value in each.values}
            yield (
                each.lineno,
                "".join(value.value if isinstance(value, ast.Constant) else "X" for value in each.values),
            )
    for each in ast.walk(tree):
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and id(each) not in passed:
            yield each.lineno, each.value


def bare_in_prose(text: str) -> Iterator[str]:
    """Commands that stand within a sentence as if they were words of it."""
    for line in text.split("\n"):
        if "\n" in text and line.startswith("  "):
            continue  # an example in a command's help
        for found in COMMAND.finditer(line):
            in_ticks = line.count("`", 0, found.start()) % 2
            if not in_ticks and PROSE.search(line, found.end()):
                yield line[found.start() :]


def test_commands_in_prose_stand_in_backticks():
    """A command that ends its sentence is there to be copied whole: no backticks, no full stop."""
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {command}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, text in texts(path)
        for command in bare_in_prose(text)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "is_wrong"),
    [
        ("Run planetmesh code there, and type it here.", True),
        ("First: planetmesh node revoke X", False),
        ("Without it: planetmesh up --join HOST:PORT.", True),
        ("planetmesh retry X runs its failed tasks again", True),
        ("`planetmesh retry X` runs its failed tasks again.", False),
        ("Say it like: planetmesh run gzip ::: a.txt b.txt", False),
    ],
)
def test_the_rule_itself(text, is_wrong):
    assert bool(list(bare_in_prose(text))) is is_wrong


def titles(columns, thing, word: str, *more) -> set[str]:
    """Heads of the columns that show just this word of a thing."""
    found = set()
    for column in columns:
        shown = column.show(thing, *more) if more else column.text(thing)
        text = shown if isinstance(shown, str) else "".join(piece for piece, _style in shown)
        if text.strip() == word:
            found.add(column.title)
    return found


def test_a_thing_has_one_head_in_all_tables():
    shot = snapshot()
    job = job_view("films", tasks=counts(completed=1))
    for columns in (shapes.JOBS.columns, top_lines.jobs_shape(shot).columns):
        assert titles(columns, job, job.id) == {"JOB"}
    assert titles(rows.JOBS, job, job.id, shot) == {"JOB"}
    task = task_view(7, attempts=4321)
    assert (
        titles(shapes.TASKS.columns, task, "4321") == titles(rows.TASKS, task, "4321", shot) == {"ATTEMPTS"}
    )


@pytest.mark.parametrize(
    ("state", "word"), [("HEALTHY", "draining"), ("SUSPECT", "SUSPECT"), ("OFFLINE", "OFFLINE")]
)
def test_a_drained_machine_is_called_so_in_all_tables(state, word):
    node = node_view("desk", state=NodeState(state), draining=True)
    for columns in (shapes.NODES.columns, top_lines.NODES.columns):
        assert titles(columns, node, word) == {"STATE"}
    assert titles(rows.NODES, node, word, snapshot(node)) == {"STATE"}
