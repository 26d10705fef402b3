"""Names of files that a job type makes, from a pattern like `{/.}-small.{ext}` and the task's input.

The replacement strings are those of replace.py, and `{ext}`: the extension of what is written. The same
pattern tells which files are to be collected.
"""

from __future__ import annotations

import re
from posixpath import splitext

from planetmesh.errors import BadInput
from planetmesh.jobtypes.replace import value_of
from planetmesh.model.names import folded, safe_parts

EXTENSION = "{ext}"
_TOKEN = re.compile(r"\{(?:\.|/|//|/\.|#|ext)?\}")
_MAY_HOLD_FOLDERS = frozenset({"{}", "{.}", "{//}"})
_MAGIC = re.compile(r"([*?\[])")


def extension_of(name: str) -> str:
    """Without its dot, in small letters; empty if the name has none."""
    return splitext(name)[1][1:].lower()


def fill_name(pattern: str, item: str, index: int, extension: str) -> str:
    """The file's name below the task's folder; raises BadInput for one that could not lie there."""
    name = _TOKEN.sub(
        lambda match: extension if match[0] == EXTENSION else value_of(match[0], item, index), pattern
    )
    name = name.removeprefix("./")
    try:
        parts = safe_parts(name)
    except BadInput as error:
        raise BadInput(
            f"The output of {item[:80]!a} cannot be written: {error.message}",
            hint="Name outputs by the file's own name: {/.}.{ext}",
        ) from error
    if any(part.startswith(".") for part in parts):
        raise BadInput(
            f"The output {name[:80]!a} would be a hidden file, which no pattern collects.",
            hint="Put something before it, like: image-{/.}.{ext}",
        )
    return name


def check_name_pattern(pattern: str) -> None:
    """Raise BadInput for a pattern that names a folder or asks for what is not known."""
    if not pattern or pattern.endswith("/"):
        raise BadInput("The output pattern names no file.", hint="Say it like: {/.}-small.{ext}")
    unknown = re.search(r"\{[^{}]*\}", _TOKEN.sub("", pattern))
    if unknown:
        raise BadInput(
            f"{unknown[0][:40]!a} is not known in an output pattern.",
            hint="Known: {} {.} {/} {//} {/.} {#} {ext}",
        )


def glob_of(pattern: str, extension: str) -> str:
    """A pattern for model.patterns that covers all names which `fill_name` can make."""
    parts: list[str] = []
    for part in _split(pattern):
        if not _MAY_HOLD_FOLDERS.isdisjoint(_TOKEN.findall(part)):
            parts.append("**")
            if part == "{//}":
                continue
        parts.append(_glob_part(part, extension))
    return "/".join(parts)


def refuse_doubles(names: list[tuple[str, str]]) -> None:
    """Raise BadInput if two of (item, output) have outputs that some platform takes for one."""
    taken: dict[str, str] = {}
    for item, output in names:
        first = taken.setdefault(folded(output), item)
        if first != item:
            raise BadInput(
                f"The outputs of {first[:80]!a} and {item[:80]!a} would both be {output[:80]!a}.",
                hint="Keep their folders or number them: {.}.{ext} or {#}-{/.}.{ext}",
            )


def _split(pattern: str) -> list[str]:
    """At each `/` that is not part of a replacement string."""
    hidden = _TOKEN.sub(lambda match: match[0].replace("/", "\0"), pattern)
    return [part.replace("\0", "/") for part in hidden.split("/") if part not in {"", "."}]


def _glob_part(part: str, extension: str) -> str:
    """One part; what stands before a string that may hold folders may end up in another part."""
    tokens = list(_TOKEN.finditer(part))
    start = max((match.end() for match in tokens if match[0] in _MAY_HOLD_FOLDERS), default=0)
    found = ["*"] if start else []
    for match in [*tokens, None]:
        if match is not None and match.end() <= start:
            continue
        end = match.start() if match else len(part)
        found.append(_MAGIC.sub(r"[\1]", part[start:end]))
        if match is not None:
            known = match[0] == EXTENSION and extension
            found.append(extension if known else "*")
            start = match.end()
    return re.sub(r"\*{2,}", "*", "".join(found))
