"""Files that a job's tasks made, from the coordinator into a folder of the user's.

First everything that is to come is known and checked, then it comes, a few at a time: small ones together,
each large one alone and going on where it was cut off. Nothing of what a node said of its files is believed.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from hashlib import sha256
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import aiohttp
import msgspec

from planetmesh.blobs.frames import EACH_MOST_BYTES, Frames, in_bodies
from planetmesh.client.calls import Caller
from planetmesh.client.connect import Call
from planetmesh.client.crew import in_parallel
from planetmesh.client.failures import read_error
from planetmesh.client.local_files import SMALL_BYTES
from planetmesh.client.progress import Progress
from planetmesh.client.streams import read_lines
from planetmesh.client.target import Part, Target, wrong_digest, wrong_size
from planetmesh.client.wanted import Selection, Wanted, select
from planetmesh.errors import MeshError, PeerMisbehaved, StorageFailed, TooLarge, Unreachable
from planetmesh.model.blob import Digest, Manifest
from planetmesh.model.resources import show_size
from planetmesh.wire.api import Digests, TaskFiles
from planetmesh.wire.manifest import MANIFEST_MOST_BYTES, decode_manifest

BODY_BYTES = 8 * 1024 * 1024
"""Of many small files in one answer; one such is in memory for each worker."""
BODY_FILES = 1000
SHORT_MANIFEST_FILES = 500
"""A manifest of more is asked for alone: together with others it could be too long."""
MANIFESTS_AT_ONCE = 64
"""Of up to half a megabyte each."""
PIECE_BYTES = 1024 * 1024
SILENCE_SECONDS = 60.0
READ_SECONDS = 120.0
"""A slow disk may take so long to find many small files."""


class Fetched(msgspec.Struct, frozen=True):
    """One file of a task, and where it lies."""

    index: int
    name: str
    """Below the folder."""
    path: str
    size: int
    digest: Digest
    executable: bool
    present: bool = False
    """It lay there already, with the same content."""


async def read_selection(
    caller: Caller, job: str, *, index: int | None = None, by_task: bool = False
) -> Selection:
    """What a job's tasks, or one of them, have brought so far. Raises Conflict for clashes of names."""
    tasks = [task async for task in task_files(caller, job) if index is None or task.index == index]
    manifests = await read_manifests(caller, tasks)
    pairs = [(task.index, manifests[task.manifest]) for task in tasks]
    return await asyncio.to_thread(select, pairs, by_task=by_task)


async def task_files(caller: Caller, job: str) -> AsyncGenerator[TaskFiles, None]:
    """The job's tasks that brought files, in the order of their index. A broken answer is read on."""
    call = Call("GET", f"/v1/jobs/{quote(job, safe='', errors='replace')}/files")
    patience = caller.patience()
    last = -1
    while True:
        try:
            async with aclosing(read_lines(caller, call, TaskFiles)) as lines:
                async for line in lines:
                    if line.index > last:
                        last = line.index
                        yield line
            return
        except Unreachable as error:
            if not caller.may_repeat(call, error):
                raise
            await patience.wait(error)


async def read_manifests(caller: Caller, tasks: Sequence[TaskFiles]) -> dict[Digest, Manifest]:
    """What each of these tasks brought, by the digest of its list."""
    found: dict[Digest, Manifest] = {}
    short = list(dict.fromkeys(task.manifest for task in tasks if task.count <= SHORT_MANIFEST_FILES))
    long = list(dict.fromkeys(task.manifest for task in tasks if task.count > SHORT_MANIFEST_FILES))

    async def take(digests: list[Digest]) -> None:
        try:
            contents = await _read_together(caller, digests) if len(digests) > 1 else {}
        except TooLarge:
            contents = {}
        for digest in digests:
            content = contents.get(digest) or await _read_alone(caller, digest)
            if sha256(content).hexdigest() != digest:
                raise wrong_digest("A list of files")
            found[digest] = await asyncio.to_thread(_decoded, content)

    await in_parallel(take, [*_batched(short, MANIFESTS_AT_ONCE), *([digest] for digest in long)])
    return found


def in_loads(files: Sequence[Wanted]) -> Iterator[Wanted | list[Wanted]]:
    """What is brought at a time: a large one alone, the largest first, then small ones together."""
    ordered = sorted(files, key=lambda file: -file.size)
    yield from (file for file in ordered if file.size > SMALL_BYTES)
    small = [file for file in files if file.size <= SMALL_BYTES]
    yield from in_bodies(small, BODY_BYTES, BODY_FILES)


def _decoded(content: bytes) -> Manifest:
    try:
        return decode_manifest(content)
    except MeshError as error:
        raise PeerMisbehaved(
            f"What a task said of its files cannot be used: {error.message}",
            hint="Nothing was written. The machine that ran it tells wrong things of its files.",
        ) from error


def _batched(digests: Sequence[Digest], most: int) -> Iterator[list[Digest]]:
    left = iter(digests)
    while batch := list(islice(left, most)):
        yield batch


async def _read_together(caller: Caller, digests: Sequence[Digest]) -> dict[Digest, bytes]:
    """Several small blobs, unverified."""
    body = msgspec.json.encode(Digests(tuple(digests)))
    answer = await caller.read(Call("POST", "/v1/blobs/read", body=body, wait_seconds=READ_SECONDS))
    frames = Frames(each_most=EACH_MOST_BYTES)
    found = dict(frames.feed(answer))
    frames.end()
    if found.keys() != set(digests):
        raise PeerMisbehaved("The coordinator answered with other files than it was asked for.")
    return found


async def _read_alone(caller: Caller, digest: Digest) -> bytes:
    """A manifest, unverified."""
    answer = await caller.read(Call("GET", f"/v1/blobs/{digest}", wait_seconds=READ_SECONDS))
    if len(answer) > MANIFEST_MOST_BYTES:
        raise TooLarge(f"A list of files is {len(answer)} bytes long; {MANIFEST_MOST_BYTES} is the limit.")
    return answer


class Downloader:
    """Brings one selection into one folder."""

    def __init__(self, caller: Caller, folder: Path, progress: Progress, *, overwrite: bool) -> None:
        self._caller = caller
        self._target = Target(folder, overwrite=overwrite)
        self.progress = progress

    async def fetch(self, selection: Selection) -> list[Fetched]:
        """All of it is in the folder and on its disk when this returns. Safe to repeat, and goes on then.

        Raises Conflict, with nothing written, where something else lies there and may not be replaced.
        """
        await self.prepare()
        files = list({file.name: file for file in selection.files}.values())
        left = await self.look(files)
        await in_parallel(self.bring, in_loads(left))
        await self.make_folders(selection.folders)
        missed = {file.name for file in left}
        return [self.fetched(file, present=file.name not in missed) for file in selection.files]

    async def prepare(self) -> None:
        """Make the folder if it is not there; counting begins."""
        await asyncio.to_thread(self._target.prepare)
        self.progress.begin("fetching", 0, 0)

    async def look(self, files: Sequence[Wanted], *, so_far: str = "nothing was written") -> list[Wanted]:
        """Those that do not lie there yet, counted as to come. Raises Conflict, StorageFailed."""
        present = await asyncio.to_thread(lambda: self._target.present(files, so_far=so_far))
        left = [file for file in files if file.name not in present]
        await asyncio.to_thread(self._refuse_full, left)
        self.progress.total_bytes += sum(file.size for file in left)
        self.progress.total_files += len(left)
        return left

    async def make_folders(self, names: Iterable[str]) -> None:
        """Those with nothing in them."""
        await asyncio.to_thread(self._target.make_folders, names)

    def _refuse_full(self, files: Iterable[Wanted]) -> None:
        """Better said now than after an hour; what lies there of them already is not counted."""
        wanted = sum(file.size for file in files if not (self._target.folder / file.part_path).exists())
        free = shutil.disk_usage(self._target.folder).free
        if wanted > free:
            raise StorageFailed(
                f"The files need {show_size(wanted)}, and the disk of {self._target.folder} has only "
                f"{show_size(free)} free.",
                hint="Make room there, or name another folder: -o DIR",
            )

    def fetched(self, file: Wanted, *, present: bool) -> Fetched:
        path = self._target.shown(file.name)
        return Fetched(file.index, file.name, path, file.size, file.digest, file.executable, present)

    async def bring(self, load: Wanted | list[Wanted]) -> None:
        """One large file, or several small ones: on the disk when this returns."""
        if isinstance(load, list):
            await self._fetch_together(load)
        else:
            await self._fetch_alone(load)

    # Small ones

    async def _fetch_together(self, files: list[Wanted]) -> None:
        digests = list(dict.fromkeys(file.digest for file in files))
        contents = await _read_together(self._caller, digests)
        await asyncio.to_thread(self._lay, files, contents)
        self.progress.done_bytes += sum(file.size for file in files)
        self.progress.done_files += len(files)

    def _lay(self, files: list[Wanted], contents: dict[Digest, bytes]) -> None:
        for digest, content in contents.items():
            if sha256(content).hexdigest() != digest:
                raise wrong_digest("A file")
        for file in files:
            if len(contents[file.digest]) != file.size:
                raise wrong_size(file)
        self._target.lay([(file, contents[file.digest]) for file in files])

    # Large ones

    async def _fetch_alone(self, file: Wanted) -> None:
        part = await asyncio.to_thread(self._target.begin, file)
        try:
            went_on = part.have > 0
            self.progress.done_bytes += part.have
            self.progress.kept_bytes += part.have
            await self._fill(part)
            if went_on and not part.is_right:
                # What was there from before may have been something else.
                self.progress.done_bytes -= part.have
                self.progress.kept_bytes -= part.have
                await asyncio.to_thread(part.restart)
                await self._fill(part)
            await asyncio.to_thread(self._target.finish, part)
        finally:
            part.close()
        self.progress.done_files += 1

    async def _fill(self, part: Part) -> None:
        """Until all of it is there; a coordinator that restarts is waited for."""
        patience = self._caller.patience()
        while part.have < part.file.size:
            before = part.have
            try:
                await self._get(part)
            except Unreachable as error:
                if not self._caller.may_repeat(Call("GET", ""), error):
                    raise
                if part.have > before:
                    patience = self._caller.patience()
                await patience.wait(error)

    async def _get(self, part: Part) -> None:
        headers = {"Range": f"bytes={part.have}-"} if part.have else {}
        call = Call("GET", f"/v1/blobs/{part.file.digest}", headers=headers)
        async with self._caller.link.send(call, read_seconds=SILENCE_SECONDS) as response:
            if response.status >= 400:
                raise read_error(response.status, await response.read())
            if response.status != (206 if part.have else 200):
                raise PeerMisbehaved(f"The coordinator answered for a file with status {response.status}.")
            if response.content_length != part.file.size - part.have:
                raise wrong_size(part.file)
            writing: asyncio.Future[None] | None = None
            try:
                async for pieces in _collected(response.content.iter_any()):
                    if writing is not None:
                        await writing
                    writing = self._write(part, pieces)
            finally:
                # Also when this is cut off: the thread must be done with the file before it is closed.
                if writing is not None:
                    await _settled(writing)
            if writing is not None:
                writing.result()

    def _write(self, part: Part, pieces: list[bytes]) -> asyncio.Future[None]:
        self.progress.done_bytes += sum(map(len, pieces))
        return asyncio.get_running_loop().run_in_executor(None, part.write, pieces)


async def _settled(future: asyncio.Future[None]) -> None:
    while not future.done():
        await asyncio.wait({future})


async def _collected(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """About a megabyte at a time: one visit of a thread for each."""
    pieces: list[bytes] = []
    size = 0
    try:
        async for chunk in chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size >= PIECE_BYTES:
                yield pieces
                pieces, size = [], 0
    except (aiohttp.ClientError, TimeoutError, OSError):
        # What has arrived need not come again.
        if pieces:
            yield pieces
        raise
    if pieces:
        yield pieces
