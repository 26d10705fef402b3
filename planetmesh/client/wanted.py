"""Which files of a job go where: every task's manifest put together, before anything is written.

Manifests come from nodes: their names were checked one by one (`wire.manifest`), here they meet each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256

import msgspec

from planetmesh.errors import Conflict
from planetmesh.model.blob import Digest, Manifest
from planetmesh.model.names import folded

SHOWN = 5
"""Clashes in one sentence; the others are counted."""
PART_LETTERS = 40
"""Of a file's name in that of its unfinished part, which must stay below what file systems allow."""


class Wanted(msgspec.Struct, frozen=True):
    """A file that is to lie in the user's folder."""

    index: int
    """Of the task that made it."""
    name: str
    """Below the user's folder, `/` between its parts."""
    digest: Digest
    size: int
    executable: bool = False

    @property
    def leaf(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]

    @property
    def part(self) -> str:
        """The same for the name under which it arrives: the same in the next try, and nobody else's."""
        mark = sha256(f"{self.digest} {self.executable} {self.leaf}".encode()).hexdigest()[:12]
        return f".{self.leaf[:PART_LETTERS]}.{mark}.part"

    @property
    def part_path(self) -> str:
        folder, slash, _leaf = self.name.rpartition("/")
        return f"{folder}{slash}{self.part}"


class Selection(msgspec.Struct, frozen=True):
    """All that a fetch is to bring."""

    files: tuple[Wanted, ...]
    """In the order of tasks and manifests; a name may stand there twice for the same content."""
    folders: tuple[str, ...] = ()
    """Those with nothing in them."""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def select(manifests: Iterable[tuple[int, Manifest]], *, by_task: bool) -> Selection:
    """The files of these tasks, below a folder for each of them with `by_task`.

    Raises Conflict where files of two tasks would take each other's place.
    """
    files: list[Wanted] = []
    folders: dict[str, None] = {}
    for index, manifest in manifests:
        below = f"{index}/" if by_task else ""
        files += (
            Wanted(index, below + file.name, file.digest, file.size, file.executable)
            for file in manifest.files
        )
        folders.update(dict.fromkeys(below + name for name in manifest.folders))
    if not by_task:
        _refuse_clashes(files, folders)
    return Selection(tuple(files), tuple(folders))


def _refuse_clashes(files: list[Wanted], folders: Iterable[str]) -> None:
    taken: dict[str, Wanted] = {}
    clashes: dict[str, str] = {}
    for file in files:
        key = folded(file.name)
        other = taken.setdefault(key, file)
        if (other.name, other.digest, other.executable) != (file.name, file.digest, file.executable):
            clashes.setdefault(key, f"{file.name!a} of tasks {other.index} and {file.index}")
    for name in (*(file.name for file in files), *(f"{folder}/" for folder in folders)):
        for above in _above(name, taken):
            clashes.setdefault(
                folded(above.name), f"{above.name!a} of task {above.index}, a folder of others"
            )
    if not clashes:
        return
    shown = "; ".join(list(clashes.values())[:SHOWN])
    more = f"; and {len(clashes) - SHOWN} more" if len(clashes) > SHOWN else ""
    raise Conflict(
        f"Several tasks made files of one name, and nothing was written: {shown}{more}.",
        hint="--by-task lays each task's files into a folder of its own, called by the task's number.",
    )


def _above(name: str, taken: Mapping[str, Wanted]) -> Iterable[Wanted]:
    """Files that stand where this name needs a folder."""
    end = name.find("/")
    while end != -1:
        found = taken.get(folded(name[:end]))
        if found is not None:
            yield found
        end = name.find("/", end + 1)
