"""Every event that planetmesh logs, read out of its source: name, level, fields, who says it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "planetmesh"
LOGGERS = {"log", "_log", "logger"}
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
_SPEAKS = re.compile(rf"\b(?:{'|'.join(LOGGERS)})\s*\.")
WORDS_FOR_PEOPLE = {"dask.py"}
"""Speaks in a user's own program, by the rules of Dask's log."""
WHO = {
    "coordinator": "coordinator",
    "trust": "coordinator",
    "agent": "agent",
    "cli": "up",
    "client": "client",
}
"""By room; what others say comes from whatever process uses them."""


@dataclass
class Event:
    """One name; several places may say it."""

    name: str
    levels: set[str] = field(default_factory=set)
    fields: list[str] = field(default_factory=list)
    who: set[str] = field(default_factory=set)


@cache
def events() -> dict[str, Event]:
    found: dict[str, Event] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name in WORDS_FOR_PEOPLE:
            continue
        room = path.relative_to(PACKAGE).parts[0]
        text = path.read_text()
        if not _SPEAKS.search(text):
            continue  # most files log nothing, and reading one as a tree takes its time
        for names, level, fields in _calls(ast.parse(text), path):
            for name in names:
                event = found.setdefault(name, Event(name))
                event.levels.add(level)
                event.fields += [each for each in fields if each not in event.fields]
                event.who.add(WHO.get(room, "all"))
    return found


def _calls(tree: ast.Module, path: Path) -> Iterator[tuple[list[str], str, list[str]]]:
    """Of one file; a call that cannot be read is a mistake of its own."""
    returned = {each.name: _returned(each) for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)}
    functions = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions:
        assigned = {
            target.id: each.value
            for each in ast.walk(function)
            if isinstance(each, ast.Assign)
            for target in each.targets
            if isinstance(target, ast.Name)
        }
        for call in ast.walk(function):
            if not _is_ours(call):
                continue
            where = f"{path.name}:{call.lineno}"
            arguments = list(call.args)
            level = call.func.attr
            if level == "log":
                arguments.pop(0)
                level = "by case"
            assert len(arguments) == 1, f"{where}: an event is one name without parameters"
            names = list(_names(arguments[0]))
            assert names, f"{where}: an event's name stands there as it is"
            extra = next((each.value for each in call.keywords if each.arg == "extra"), None)
            fields = [] if extra is None else list(_keys(extra, assigned, returned, where))
            yield names, "error" if level == "exception" else level, fields


def _is_ours(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in LOGGERS
        and node.func.attr in LEVELS | {"log"}
    )


def _names(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _names(node.body)
        yield from _names(node.orelse)


def _keys(
    node: ast.expr, assigned: dict[str, ast.expr], returned: dict[str, ast.expr], where: str
) -> Iterator[str]:
    match node:
        case ast.Dict(keys, values):
            for key, value in zip(keys, values, strict=True):
                if key is None:
                    yield from _keys(value, assigned, returned, where)
                else:
                    assert isinstance(key, ast.Constant), f"{where}: a field's name stands there as it is"
                    yield key.value
        case ast.Name(name) if name in assigned:
            yield from _keys(assigned[name], assigned, returned, where)
        case ast.Call(ast.Name(name)) if name in returned:
            yield from _keys(returned[name], {}, returned, where)
        case ast.Attribute(_, "fields"):
            yield from ("job_id", "task", "attempt")
        case _:
            raise AssertionError(f"{where}: these fields cannot be read: {ast.unparse(node)}")


def _returned(function: ast.FunctionDef) -> ast.expr:
    """What a small function makes."""
    last = function.body[-1]
    return last.value if isinstance(last, ast.Return) and last.value is not None else ast.Constant(None)
