"""Replacement strings as in GNU parallel: `{} {.} {/} {//} {/.} {#}`.

In plain arguments the input's text takes their place. In a line for the shell it never does: there a
*variable* takes their place and the input travels in the environment, so that no input, however
odd, is read as a part of the line. Inside `$((…))` a shell computes with what it reads, and some run
commands that stand in it, so only numbers are let in there. (A line can still hand its input to others
that read it as code: `eval`, `[[ … -eq … ]]`, `python3 -c`.) Several inputs of one task are the shell's
own arguments: `"$@"`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from posixpath import dirname, splitext

import msgspec

from planetmesh.errors import BadInput, TooLarge
from planetmesh.jobtypes.contract import LAUNCH_MOST_BYTES

STRINGS = ("{}", "{.}", "{/}", "{//}", "{/.}", "{#}")
_PATTERN = re.compile(r"\{(?:\.|/|//|/\.|#)?\}")
_VARIABLES = {
    "{}": "PLANETMESH_INPUT",
    "{.}": "PLANETMESH_INPUT_STEM",
    "{/}": "PLANETMESH_INPUT_NAME",
    "{//}": "PLANETMESH_INPUT_FOLDER",
    "{/.}": "PLANETMESH_INPUT_NAME_STEM",
    "{#}": "PLANETMESH_NUMBER",
}


_OF_MANY = {"{}": "@", "{#}": "PLANETMESH_NUMBER"}
"""What stands for all inputs of a task together: `${@}` are the shell's arguments, each a word of its own."""
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,18}|0[xX][0-9a-fA-F]{1,15})")
_FUNCTION = re.compile(r"\([ \t]*\)")


class ShellLine(msgspec.Struct, frozen=True):
    """A line for the shell, the variables that it reads, and the arguments that the shell gets beside it."""

    text: str
    env: dict[str, str]
    arguments: tuple[str, ...] = ()


def value_of(string: str, item: str, index: int) -> str:
    """What one replacement string stands for: nothing only where the input is nothing.

    A slash at the end names no further part: `a/b/` is called `b`. A name that begins with a dot is no
    extension (GNU parallel leaves nothing of `.bashrc`).
    """
    path = item.rstrip("/") or item[:1]
    name = path.rpartition("/")[2] or path
    values = {
        "{}": item,
        "{.}": splitext(path)[0],
        "{/}": name,
        "{//}": dirname(path) or ".",
        "{/.}": splitext(name)[0],
        "{#}": str(index + 1),
    }
    return values[string]


def fill_arguments(argv: tuple[str, ...], items: tuple[str, ...], index: int) -> tuple[str, ...]:
    """Put the inputs into every argument, or behind them if none asks for them.

    An argument that asks for an input is repeated for each of several. Without inputs nothing is replaced:
    `find . -exec ls {} ;` means what it says. Raises TooLarge before a long input in many places could
    fill the memory.
    """
    if not items:
        return argv
    places = sum(len(_PATTERN.findall(argument)) for argument in argv)
    if not places:
        return (*argv, *items)
    size = sum(map(len, items))
    if places * size > LAUNCH_MOST_BYTES:
        raise TooLarge(f"Inputs of {size} characters stand in {places} places of the command.")
    asking = [bool(set(_PATTERN.findall(argument)) - {"{#}"}) for argument in argv]
    repeated = sum(len(argument) for argument, asks in zip(argv, asking, strict=True) if asks)
    if len(items) > 1 and repeated * len(items) > LAUNCH_MOST_BYTES:
        raise TooLarge(
            f"Arguments of {repeated} characters would be repeated for each of {len(items)} inputs."
        )
    filled: list[str] = []
    for argument, asks in zip(argv, asking, strict=True):
        filled += [_fill(argument, item, index) for item in (items if asks else items[:1])]
    return tuple(filled)


def _fill(argument: str, item: str, index: int) -> str:
    return _PATTERN.sub(lambda match: value_of(match[0], item, index), argument)


def fill_posix_line(line: str, items: tuple[str, ...], index: int) -> ShellLine:
    """The line with variables in place of replacement strings, quoted for where each one stands.

    Raises BadInput for several inputs if the line is not made for them.
    """
    if len(items) > 1:
        check_line_of_many(line)
    return _fill_line(line, items, index, _posix_places)


def check_computed(line: str, items: Iterable[str]) -> None:
    """Raise BadInput for an input that is no number if the line computes with it."""
    strings = {string for _, string, form in _posix_places(line) if form == _COMPUTED}
    if strings:
        for index, item in enumerate(items):
            for string in strings:
                _check_number(string, value_of(string, item, index))


def _check_number(string: str, value: str) -> None:
    if not _NUMBER.fullmatch(value):
        raise BadInput(
            f"{string} is computed with, inside $((…)), and {value[:40]!r} is no whole number.",
            hint="A subshell in $(…) is written with a blank between the brackets: $( (…) ).",
        )


def check_line_of_many(line: str) -> None:
    """Raise BadInput for a line in which `"$@"` cannot stand for several inputs."""
    found = _posix_places(line)
    for _, string, form in found:
        if string not in _OF_MANY or (string == "{}" and form == _COMPUTED):
            raise BadInput(
                f"{string} has no meaning for several inputs at once in a line for the shell.",
                hint="Loop over them: 'for x in {}; do …; done'",
            )
    if any(string == "{}" for _, string, _ in found) and _defines_function(line):
        raise BadInput(
            "A shell function has arguments of its own, so {} cannot stand for several inputs in this line.",
            hint="Put the line into a script: planetmesh run --script FILE",
        )


def fill_windows_line(line: str, items: tuple[str, ...], index: int) -> ShellLine:
    """The same for `cmd /v:on`: `!NAME!` is put in after the line was parsed, unlike `%NAME%`.

    Raises BadInput for several inputs: cmd has nothing that is never read as code.
    """
    if len(items) > 1:
        raise BadInput(
            "A line for the shell of Windows can get one input at a time only.",
            hint="Leave --chunk away, or run a program or a script instead of a line.",
        )
    return _fill_line(line, items, index, _windows_places)


_Places = Callable[[str], list[tuple[int, str, str]]]
"""Finds (position, replacement string, form) in a line; the form holds `@` for the variable's name."""


def _fill_line(line: str, items: tuple[str, ...], index: int, places: _Places) -> ShellLine:
    if not items:
        return ShellLine(line, {})
    item = items[0]
    found = places(line)
    if not found:
        line = line.rstrip() + " {}"
        found = places(line)
    parts: list[str] = []
    env: dict[str, str] = {}
    end = 0
    for position, string, form in found:
        variable = (_VARIABLES if len(items) == 1 else _OF_MANY)[string]
        if variable != "@":
            env[variable] = value_of(string, item, index)
        if form == _COMPUTED:
            _check_number(string, env.get(variable, ""))
        parts += [line[end:position], form.replace("@", variable)]
        end = position + len(string)
    return ShellLine("".join(parts) + line[end:], env, items if len(items) > 1 else ())


def _windows_places(line: str) -> list[tuple[int, str, str]]:
    return [
        (match.start(), match[0], "!@!" if line.count('"', 0, match.start()) % 2 else '"!@!"')
        for match in _PATTERN.finditer(line)
    ]


_COMPUTED = " ${@} "
"""No quotes: not all shells take them there. Blanks, so that a sign before it does not become another one."""
_FORMS = {"(": '"${@}"', "$(": '"${@}"', "`": '"${@}"', '"': "${@}", "'": "'\"${@}\"'", "((": _COMPUTED}


def _posix_places(line: str) -> list[tuple[int, str, str]]:
    return [(position, string, _FORMS[inside]) for position, inside, string in _walk(line) if string]


def _defines_function(line: str) -> bool:
    """Unquoted, `()` means nothing else to a shell."""
    return any(
        inside in {"(", "$(", "`"} and not string and _FUNCTION.match(line, position)
        for position, inside, string in _walk(line)
    )


def _walk(line: str) -> Iterator[tuple[int, str, str]]:
    """Each place of the line, the innermost mark that is open there, and the replacement string there or "".

    All that stands in `$((…))` is told as `((`. Only quoting depends on it, and where inputs must be numbers.
    """
    open_marks = ["("]
    position = 0
    while position < len(line):
        match = _PATTERN.match(line, position)
        yield position, _innermost(open_marks), match[0] if match else ""
        position = match.end() if match else position + _step(line, position, open_marks)


def _innermost(open_marks: list[str]) -> str:
    """The last mark, but `((` for all that is computed together."""
    for mark in reversed(open_marks):
        if mark == "((":
            return mark
        if mark in {"$(", "`"}:
            break
    return open_marks[-1]


def _step(line: str, position: int, open_marks: list[str]) -> int:
    """Take one mark of the shell's grammar in; say how many characters it had."""
    mark, inside = line[position], open_marks[-1]
    if inside == "'":
        if mark == "'":
            open_marks.pop()
        return 1
    if mark == "\\":
        return 2
    if mark == inside and mark in '"`':
        open_marks.pop()
    elif mark in '"`' and not (mark == "`" and "`" in open_marks):
        open_marks.append(mark)
    elif line.startswith("$((", position):
        open_marks.append("((")
        return 3
    elif line.startswith("$(", position):
        open_marks.append("$(")
        return 2
    elif inside != '"':
        return _plain_step(line, position, open_marks)
    return 1


def _plain_step(line: str, position: int, open_marks: list[str]) -> int:
    mark = line[position]
    if mark in "'(":
        open_marks.append(mark)
    elif mark == ")" and len(open_marks) > 1 and open_marks[-1] in {"(", "$("}:
        open_marks.pop()
    elif open_marks[-1] == "((" and line.startswith("))", position):
        open_marks.pop()
        return 2
    elif mark == "#" and (position == 0 or line[position - 1] in " \t\n;"):
        return len(line[position:].split("\n", 1)[0])
    return 1
