"""Which files of a job go where: every task's manifest put together, before anything is written.

Manifests come from nodes: their names were checked one by one (`wire.manifest`), here they meet each other.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    chosen = Chosen(by_task=by_task)
    for index, manifest in manifests:
        chosen.add(index, manifest)
    chosen.check("nothing was written")
    return Selection(tuple(chosen.files), tuple(chosen.folders))


class Chosen:
    """Files of one task after the other, as they are to lie beside each other in the user's folder."""

    def __init__(self, *, by_task: bool = False) -> None:
        self.files: list[Wanted] = []
        self.folders: dict[str, None] = {}
        """Those with nothing in them."""
        self._by_task = by_task
        self._taken: dict[str, Wanted] = {}
        self._parents: set[str] = set()
        """Folders of others."""
        self._clashes: dict[str, str] = {}

    def add(self, index: int, manifest: Manifest) -> list[Wanted]:
        """The files of one task."""
        below = f"{index}/" if self._by_task else ""
        files = [
            Wanted(index, below + file.name, file.digest, file.size, file.executable)
            for file in manifest.files
        ]
        folders = [below + name for name in manifest.folders]
        if not self._by_task:
            self._note_clashes(files, folders)
        self.files += files
        self.folders.update(dict.fromkeys(folders))
        return files

    def check(self, so_far: str) -> None:
        """Raise Conflict if there were clashes; `so_far` says what was written in spite of them."""
        if not self._clashes:
            return
        shown = "; ".join(list(self._clashes.values())[:SHOWN])
        more = f"; and {len(self._clashes) - SHOWN} more" if len(self._clashes) > SHOWN else ""
        raise Conflict(
            f"Several tasks made files of one name, and {so_far}: {shown}{more}.",
            hint="--by-task lays each task's files into a folder of its own, called by the task's number.",
        )

    def _note_clashes(self, files: list[Wanted], folders: list[str]) -> None:
        for file in files:
            key = folded(file.name)
            other = self._taken.setdefault(key, file)
            if (other.name, other.digest, other.executable) != (file.name, file.digest, file.executable):
                self._clashes.setdefault(key, f"{file.name!a} of tasks {other.index} and {file.index}")
            if key in self._parents:
                self._note_above(file)
        for name in (*(file.name for file in files), *(f"{folder}/" for folder in folders)):
            for above in _above(name):
                self._parents.add(above)
                if above in self._taken:
                    self._note_above(self._taken[above])

    def _note_above(self, file: Wanted) -> None:
        self._clashes.setdefault(folded(file.name), f"{file.name!a} of task {file.index}, a folder of others")


def _above(name: str) -> Iterable[str]:
    """The folders that a name stands in, as names are compared."""
    end = name.find("/")
    while end != -1:
        yield folded(name[:end])
        end = name.find("/", end + 1)
