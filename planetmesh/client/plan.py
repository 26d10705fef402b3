"""Which local files a job takes along, and under which names its tasks see them.

Looks at files and reads none; `staging` sends them. A name is kept as it was given where it is relative; an
absolute one, or one with `..`, becomes its last part. Blocks on the disk.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from planetmesh.client.local_files import LocalFile, LocalTree, look_at, look_into
from planetmesh.errors import BadInput, NotFound
from planetmesh.model.job import Items
from planetmesh.model.names import folded, made_portable, safe_parts

_GLOB = re.compile(r"[*?[]")
_SEPARATORS = "/" if os.sep == "/" else "/\\"


class Plan:
    """The files of one job, as they are now. All of it raises BadInput and NotFound."""

    def __init__(self, folder: Path = Path()) -> None:
        self._folder = folder
        """Where relative names begin."""
        self.files: dict[str, LocalFile] = {}
        """For all tasks, by their name there."""
        self.trees: list[LocalTree] = []
        self.own: list[LocalFile | None] = []
        """For the task of each input; empty if there are none."""
        self.renamed: dict[str, str] = {}
        """Local names that not every platform allows, and what they became."""
        self._looked: dict[str, LocalFile | None] = {}

    def __bool__(self) -> bool:
        return bool(self.files or self.trees or any(self.own))

    @property
    def size(self) -> int:
        """Bytes of all files together, each counted once."""
        return sum({file.path: file.size for file in self.all_files()}.values())

    def all_files(self) -> Iterator[LocalFile]:
        """Some may be there more than once."""
        yield from self.files.values()
        for tree in self.trees:
            yield from tree.files
        yield from (file for file in dict.fromkeys(self.own) if file is not None)

    def add(self, given: str) -> None:
        """A file, a folder, or a pattern of them, for all tasks."""
        path = self._folder / given
        if not given or not (os.path.lexists(path) or _GLOB.search(given)):
            raise NotFound(
                f"There is no file or folder {given!r}." if given else "The name of a file is empty.",
                hint="Names are relative to the folder that you are in.",
            )
        if os.path.lexists(path):
            self._add_path(given)
            return
        matches = sorted(glob.glob(given, root_dir=self._folder, recursive=True))  # noqa: PTH207  a Path takes no absolute patterns
        if "**" in given:
            matches = [name for name in matches if (self._folder / name).is_file()]
        if not matches:
            raise NotFound(f"No file matches {given!r}.", hint="** means folders at any depth.")
        for name in matches:
            self._add_path(name)

    def add_program(self, given: str) -> str:
        """A program that the tasks start: executable there, whatever it is here. Gives how to call it."""
        file = msgspec.structs.replace(self._look(given), executable=True)
        self.files.setdefault(file.name, file)
        return f"./{file.name}"

    def add_own(self, inputs: Items) -> Items:
        """Take along each input that is an existing file, for the task that it is the input of.

        Its text is then the file's name in the task's folder; other inputs stay as they are.
        """
        self.own = [self._look_once(text) for text in inputs.items]
        if not any(self.own):
            self.own = []
            return inputs
        texts = (
            text if file is None else file.name for text, file in zip(inputs.items, self.own, strict=True)
        )
        return Items(tuple(texts))

    def check(self) -> None:
        """Raise BadInput where two files would take each other's place, naming both as they are called."""
        taken: dict[str, LocalFile] = {}
        parents: dict[str, LocalFile] = {}
        for name, file in self._laid():
            parts = safe_parts(name)
            other = taken.setdefault(folded(name), file)
            if other.path != file.path:
                raise _clash(other, file, name)
            for length in range(1, len(parts)):
                parents.setdefault(folded("/".join(parts[:length])), file)
        for name, file in self._laid():
            if folded(name) in parents:
                raise _clash(file, parents[folded(name)], name)
        # What all tasks get anyway need not come again as the input of one.
        shared = {name: file.path for name, file in self._shared()}
        self.own = [None if file and shared.get(file.name) == file.path else file for file in self.own]

    def _laid(self) -> Iterator[tuple[str, LocalFile]]:
        """Every file with its name below a task's folder."""
        yield from self._shared()
        yield from ((file.name, file) for file in dict.fromkeys(self.own) if file is not None)

    def _shared(self) -> Iterator[tuple[str, LocalFile]]:
        for tree in self.trees:
            for file in tree.files:
                yield (f"{tree.name}/{file.name}" if tree.name else file.name), file
        yield from self.files.items()

    def _add_path(self, given: str) -> None:
        path = self._folder / given
        if not path.is_dir():
            file = self._look(given)
            other = self.files.setdefault(file.name, file)
            if other.path != file.path:
                raise _clash(other, file, file.name)
            return
        name = "" if _is_here(given) else self._name(given)
        tree = look_into(path, name, shown=given)
        self._note_renamed(tree.files)
        if tree.name not in {each.name for each in self.trees}:
            self.trees.append(tree)
        elif tree not in self.trees:
            raise BadInput(f"Two folders would be {name!r} in the task's folder.")

    def _look(self, given: str) -> LocalFile:
        return look_at(self._folder / given, self._name(given), shown=given)

    def _look_once(self, text: str) -> LocalFile | None:
        """What an input names, if it names a file. Inputs are often no names at all."""
        if text not in self._looked:
            self._looked[text] = self._look(text) if self._is_file(text) else None
        return self._looked[text]

    def _is_file(self, text: str) -> bool:
        try:
            return os.path.isfile(self._folder / text)  # noqa: PTH113  says False for what is no path
        except ValueError:
            return False

    def _name(self, given: str) -> str:
        """What a local name becomes in a task's folder."""
        parts = [part for part in re.split(f"[{re.escape(_SEPARATORS)}]", given) if part not in {"", "."}]
        if parts[-1:] == [".."]:
            parts = [Path(os.path.realpath(self._folder / given)).name]
        elif ".." in parts or Path(given).is_absolute():
            parts = parts[-1:]
        if parts in ([], [""]):
            raise BadInput(f"{given!r} cannot be sent as a whole.", hint="Name what is needed of it.")
        name = "/".join(made_portable(part) for part in parts)
        safe_parts(name)
        if name != "/".join(parts):
            self.renamed["/".join(parts)] = name
        return name

    def _note_renamed(self, files: Iterable[LocalFile]) -> None:
        for file in files:
            local = file.shown.replace(os.sep, "/").rpartition("/")[2]
            staged = file.name.rpartition("/")[2]
            if local != staged:
                self.renamed[local] = staged


def _is_here(given: str) -> bool:
    return (
        all(part in {"", "."} for part in re.split(f"[{re.escape(_SEPARATORS)}]", given))
        and not Path(given).is_absolute()
    )


def _clash(first: LocalFile, second: LocalFile, name: str) -> BadInput:
    return BadInput(
        f"The files {first.shown!r} and {second.shown!r} would both be {name!r} in the task's folder.",
        hint="Go to a folder above both and give relative names, or rename one.",
    )
