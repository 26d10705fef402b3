"""Files of a job that goes on: brought task by task as they complete, a few transfers at a time.

Whoever hears of the job's tasks tells (`add`); `finish` asks the coordinator for what was missed, so nothing
depends on having heard of every one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from planetmesh.client.calls import Caller
from planetmesh.client.crew import WORKERS, one_error
from planetmesh.client.downloads import Downloader, Fetched, in_loads, read_manifests, task_files
from planetmesh.client.progress import Progress
from planetmesh.client.wanted import Chosen, Wanted
from planetmesh.errors import MeshError
from planetmesh.groups import TaskGroup
from planetmesh.model.blob import Digest
from planetmesh.wire.api import TaskFiles, TaskView

TASKS_AT_ONCE = 256
"""Whose lists of files are read together."""
LOADS_AHEAD = 2 * WORKERS
"""While so much is known and waits, no more lists are read."""
SO_FAR = "nothing more was fetched"

_Load = Wanted | list[Wanted] | None


class Arrivals:
    """One job's files on their way into one folder; `run` it beside the job, then `finish`."""

    def __init__(
        self,
        caller: Caller,
        job: str,
        downloader: Downloader,
        *,
        by_task: bool = False,
        on_file: Callable[[Fetched], None] | None = None,
    ) -> None:
        self._caller = caller
        self._job = job
        self._downloader = downloader
        self._chosen = Chosen(by_task=by_task)
        self._on_file = on_file
        self._known: set[int] = set()
        self._waiting: deque[TaskFiles] = deque()
        self._news = asyncio.Event()
        self._is_last = False
        self._loads: asyncio.Queue[_Load] = asyncio.Queue(LOADS_AHEAD)
        self._refusal: MeshError | None = None
        self._present: set[str] = set()
        """Names of those that lay there already."""
        self._names: dict[str, list[Wanted]] = {}
        """All that were queued, each with those of other tasks that are the same."""
        self._here: set[str] = set()

    @property
    def progress(self) -> Progress:
        """Of what is known by now."""
        return self._downloader.progress

    def add(self, task: TaskView) -> None:
        """A task that may have brought files; what was added before is passed over."""
        if task.manifest is not None:
            self._add(TaskFiles(task.index, Digest(task.manifest), task.files, task.files_bytes))

    async def run(self) -> list[Fetched]:
        """Bring what is added, until `finish` was called and all is here; gives all of it, by task.

        Raises Conflict where something else lies in a file's place, or two tasks made one: no more is begun
        then, and what was begun is brought to its end first. Cut off, it leaves whole files, and parts that
        a later fetch goes on with.
        """
        async with one_error(), TaskGroup() as group:
            group.create_task(self._plan())
            for _ in range(WORKERS):
                group.create_task(self._work())
        if self._refusal is not None:
            raise self._refusal
        await self._downloader.make_folders(self._chosen.folders)
        files = sorted(self._chosen.files, key=lambda file: file.index)
        return [self._downloader.fetched(file, present=file.name in self._present) for file in files]

    async def finish(self) -> None:
        """The job has ended: no more than what the coordinator lists now will come."""
        async for task in task_files(self._caller, self._job):
            self._add(task)
        self._is_last = True
        self._news.set()

    def _add(self, task: TaskFiles) -> None:
        if task.index not in self._known:
            self._known.add(task.index)
            self._waiting.append(task)
            self._news.set()

    async def _plan(self) -> None:
        """Read lists, and queue what they say is to come."""
        try:
            while await self._heard():
                batch = [self._waiting.popleft() for _ in range(min(TASKS_AT_ONCE, len(self._waiting)))]
                await self._queue(batch)
        except MeshError as error:
            self._refusal = error
        for _ in range(WORKERS):
            await self._loads.put(None)

    async def _heard(self) -> bool:
        """Wait until there is a list to read; False: there never will be."""
        while not self._waiting:
            if self._is_last:
                return False
            self._news.clear()
            await self._news.wait()
        return True

    async def _queue(self, tasks: Sequence[TaskFiles]) -> None:
        await self._prepare()
        manifests = await read_manifests(self._caller, tasks)
        clash: MeshError | None = None
        files: list[Wanted] = []
        for task in tasks:
            made = self._chosen.add(task.index, manifests[task.manifest])
            try:
                self._chosen.check(SO_FAR)
            except MeshError as error:
                # Those of the tasks before are fine.
                clash = error
                break
            files += (file for file in made if self._is_new(file))
        left = await self._downloader.look(files, so_far=SO_FAR)
        missed = {file.name for file in left}
        for file in files:
            if file.name not in missed:
                self._present.add(file.name)
                self._arrived(file)
        for load in in_loads(left):
            await self._loads.put(load)
        if clash is not None:
            raise clash

    async def _prepare(self) -> None:
        if not self._names:
            await self._downloader.prepare()

    def _is_new(self, file: Wanted) -> bool:
        """Whether it is to come; one that other tasks made just so comes once."""
        if file.name not in self._names:
            self._names[file.name] = []
            return True
        if file.name in self._here:
            self._tell(file)
        else:
            self._names[file.name].append(file)
        return False

    async def _work(self) -> None:
        while (load := await self._loads.get()) is not None:
            await self._downloader.bring(load)
            for file in load if isinstance(load, list) else [load]:
                self._arrived(file)

    def _arrived(self, file: Wanted) -> None:
        self._here.add(file.name)
        for each in (file, *self._names[file.name]):
            self._tell(each)

    def _tell(self, file: Wanted) -> None:
        if self._on_file is not None:
            self._on_file(self._downloader.fetched(file, present=file.name in self._present))
