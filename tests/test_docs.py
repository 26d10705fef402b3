"""README and docs: links lead somewhere, and every command line in them is one that planetmesh knows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

from planetmesh.cli.face import Face
from planetmesh.cli.main import PROGRAM, make_group
from planetmesh.errors import MeshError

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
_COMMENT = re.compile(r"\s#\s.*$")
_PROMPT = re.compile(r"^(?:[\w.-]*\$ +)?")
_BETWEEN = frozenset({"&&", "||", "|", ";", "&"})
_REDIRECTING = frozenset({">", ">>", "<"})


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(text: str) -> list[str]:
    return [match[2] for match in _FENCE.finditer(text)]


def anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        numbered = (slug if number == 0 else f"{slug}-{number}" for number in range(len(found) + 1))
        found.add(next(each for each in numbered if each not in found))
    return found


def links(text: str) -> list[str]:
    plain = _INLINE.sub("", _FENCE.sub("", text))
    return [found[1] or found[2] for found in _LINK.finditer(plain)]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = []
    for link in links(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


def command_lines(text: str) -> Iterator[list[str]]:
    """The arguments of each `planetmesh …` that stands on a line of a code block."""
    for block in blocks(text):
        for line in block.replace("\\\n", " ").splitlines():
            yield from _commands_of(_PROMPT.sub("", line.strip(), count=1))


def commands_in_sentences(text: str) -> Iterator[list[str]]:
    """The same of code within sentences, where a command may be named without its arguments."""
    for code in _INLINE.findall(_FENCE.sub("", text)):
        yield from _commands_of(code)


def _commands_of(line: str) -> Iterator[list[str]]:
    if not line.startswith(f"{PROGRAM} "):
        return
    reader = shlex.shlex(_COMMENT.sub("", line), posix=True, punctuation_chars="&|;<>")
    reader.whitespace_split, reader.commenters = True, ""
    words: list[str] = []
    skip = False
    for word in [*reader, ";"]:
        if word in _BETWEEN:
            if words[:1] == [PROGRAM]:
                yield words[1:]
            words = []
        elif not skip and word not in _REDIRECTING:
            words.append(word)
        skip = word in _REDIRECTING


def parse(arguments: list[str]) -> None:
    """Let the real command line read it, and run nothing. Raises click.UsageError or MeshError."""
    command: click.Command | None = make_group()
    context: click.Context | None = None
    name: str | None = PROGRAM
    while isinstance(command, click.Group):
        context = command.context_class(command, parent=context, info_name=name, obj=Face())
        rest = click.Command.parse_args(command, context, list(arguments))
        if not rest:
            return
        name, command, arguments = command.resolve_command(context, rest)
    assert command is not None
    command.make_context(name, arguments, parent=context, obj=Face())


def wrong_ones(commands: Iterator[list[str]]) -> dict[str, str]:
    wrong = {}
    for arguments in commands:
        try:
            parse(arguments)
        except click.exceptions.Exit:  # --help, --version
            continue
        except (click.ClickException, MeshError) as error:
            wrong[shlex.join(arguments)] = f"{type(error).__name__}: {getattr(error, 'message', error)}"
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_line_is_one_that_planetmesh_knows(page: Path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT / "examples")
    text = page.read_text(encoding="utf-8")
    assert wrong_ones(command_lines(text)) == {}
    wrong = wrong_ones(commands_in_sentences(text))
    assert {line: why for line, why in wrong.items() if not why.startswith("MissingParameter")} == {}


@pytest.mark.parametrize(
    "line",
    ["planetmesh rum x", "planetmesh run --no-such x", "planetmesh node fly attic", "planetmesh fetch"],
)
def test_what_planetmesh_does_not_know_would_be_seen(line: str) -> None:
    (arguments,) = command_lines(f"```\n{line}   # why\n```\n")
    assert wrong_ones(iter([arguments]))


def test_command_lines_are_found_in_all_their_forms() -> None:
    page = """
Say `planetmesh jobs` or

```sh
desk$ planetmesh run 'a; b' ::: x \\
    y | sort > planetmesh
planetmesh leave && planetmesh up    # again
echo planetmesh
```
"""
    assert list(command_lines(page)) == [
        ["run", "a; b", ":::", "x", "y"],
        ["leave"],
        ["up"],
    ]
    assert list(commands_in_sentences(page)) == [["jobs"]]


def test_the_first_two_blocks_of_the_readme_are_the_two_commands() -> None:
    first, second = blocks((ROOT / "README.md").read_text(encoding="utf-8"))[:2]
    assert first.splitlines() == [
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/planetmesh demo"
    ]
    assert second == (
        "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/python -m pytest -n 2"
        " -m 'not system' && .venv/bin/python -m pytest -n 4 --maxschedchunk 1 -m system\n"
    )
