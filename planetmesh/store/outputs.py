"""What tasks wrote, in a database of its own, so that a flood of output never stands before a commit.

Callers that arrive while a commit runs share the next one. Followers are woken after each commit and
read from where they are; nothing is queued for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from planetmesh.errors import Conflict, StorageFailed
from planetmesh.model.ids import JobId
from planetmesh.paths import Home
from planetmesh.settings import Settings
from planetmesh.store.database import Database, Sizes
from planetmesh.store.pieces import (
    PIECES_MOST,
    NumberedValues,
    Piece,
    add_pieces,
    delete_pieces,
    newest_number,
    pieces_after,
    pieces_in_order,
    values_after,
)
from planetmesh.store.results import (
    STDOUT,
    Place,
    ShortPage,
    Stdout,
    TextPage,
    read_stdouts,
    short_page,
    text_page,
)
from planetmesh.store.schema import OUTPUTS
from planetmesh.wire.api import OutputPiece

PAGE_BYTES = 1024 * 1024
FOLLOWERS_MOST = 1000
"""`logs -f` at the same time, of all clients together."""


class _Batch:
    """Pieces that will be one commit."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.written = asyncio.Event()
        self.refused: StorageFailed | None = None


class FreshValues:
    """What was committed since a follower of values looked last: it need not be read from the disk again."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        """Set when there is more to take. Clear it, take, then wait for it."""
        self._values: list[NumberedValues] = []
        self._size = 0
        self._is_whole = False
        """False: there is more on the disk than here, as at the beginning."""

    def add(self, values: list[NumberedValues]) -> None:
        """Called after each commit; the values are in the order of their numbers."""
        self._values += values
        self._size += sum(len(piece.data) for _job, piece in values)
        if self._size > PAGE_BYTES or len(self._values) > PIECES_MOST:
            self._values.clear()
            self._size, self._is_whole = 0, False
        self.news.set()

    def take(self) -> list[NumberedValues] | None:
        """All since the last time; None if they must be read from the disk now.

        What is committed while they are read comes by both ways.
        """
        found = self._values if self._is_whole else None
        self._values, self._size, self._is_whole = [], 0, True
        return found


class Outputs:
    """Make one with `Outputs.open`, after `Store.open` of the same home; `close` it at the end."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self.take_settings(settings)
        self._batch = _Batch()
        self._turn = asyncio.Lock()
        self._followers: dict[JobId, set[asyncio.Event]] = {}
        self._value_followers: set[FreshValues] = set()

    @classmethod
    async def open(cls, home: Home, settings: Settings) -> Outputs:
        """Open or make `home.outputs_database`; raises StorageFailed if it is damaged or unusable."""
        database = await Database.open(home.outputs_database, OUTPUTS, beside={"mesh": home.database})
        return cls(database, settings)

    async def close(self) -> None:
        await self._database.close()

    def take_settings(self, settings: Settings) -> None:
        """What counts for pieces from now on."""
        self._stream_most_bytes = settings.output_most_bytes

    async def append(self, pieces: Sequence[Piece]) -> None:
        """Keep these: on disk when this returns. Safe to repeat; what is there already is dropped."""
        await self._settle(self._join(pieces))

    def _join(self, pieces: Sequence[Piece]) -> _Batch:
        self._batch.pieces += pieces
        return self._batch

    async def _settle(self, batch: _Batch) -> None:
        """See that the batch is written: by us, unless one of its others was here first."""
        async with self._turn:
            if batch.refused is not None:
                raise StorageFailed(batch.refused.message, hint=batch.refused.hint) from batch.refused
            if batch.written.is_set():
                return
            if batch is self._batch:
                self._batch = _Batch()
            await self._write(batch)

    async def _write(self, batch: _Batch) -> None:
        most = self._stream_most_bytes

        def written(values: list[NumberedValues]) -> None:
            batch.written.set()
            self._wake({piece.job_id for piece in batch.pieces})
            for follower in self._value_followers if values else ():
                follower.add(values)

        try:
            # A caller cancelled here may leave it to the next of its callers; writing it twice does no harm.
            await self._database.write(
                lambda connection: add_pieces(connection, batch.pieces, most), then=written
            )
        except StorageFailed as error:
            batch.refused = error
            raise

    async def read(
        self, job_id: JobId, after_number: int, index: int | None = None, limit_bytes: int = PAGE_BYTES
    ) -> list[OutputPiece]:
        """Pieces after `after_number` in the order in which they came: for followers."""
        return await self._database.read(
            lambda connection: pieces_after(connection, job_id, after_number, index, limit_bytes)
        )

    async def values(self, after_number: int, limit_bytes: int = PAGE_BYTES) -> list[NumberedValues]:
        """Values of calls of all jobs after `after_number`, in the order in which they came."""
        return await self._database.read(
            lambda connection: values_after(connection, after_number, limit_bytes)
        )

    async def newest(self) -> int:
        """The highest number that a piece has had so far."""
        return await self._database.read(newest_number)

    async def text(
        self, job_id: JobId, start_index: int = 0, after_number: int = 0, limit_bytes: int = PAGE_BYTES
    ) -> list[OutputPiece]:
        """Each task's last attempt in the order of the index: for `logs JOB`.

        Go on with the last piece's `index` and `number`; an empty page is the end.
        """
        return await self._database.read(
            lambda connection: pieces_in_order(connection, job_id, (start_index, after_number), limit_bytes)
        )

    async def results(self, job_id: JobId, start: Place = (0, 0), limit_bytes: int = PAGE_BYTES) -> TextPage:
        """What COMPLETED tasks wrote to their standard output, page by page, for `results JOB`."""
        return await self._database.read(lambda connection: text_page(connection, job_id, start, limit_bytes))

    async def short(self, job_id: JobId, start: int = 0) -> ShortPage:
        """COMPLETED tasks that wrote more to their standard output than was kept, page by page."""
        return await self._database.read(lambda connection: short_page(connection, job_id, start))

    async def stdouts(
        self,
        job_id: JobId,
        attempts: Sequence[tuple[int, int]],
        each_most: int,
        limit_bytes: int = PAGE_BYTES,
        stream: int = STDOUT,
    ) -> list[Stdout]:
        """The beginnings of these attempts' standard outputs; fewer than asked for if they are large."""
        return await self._database.read(
            lambda connection: read_stdouts(connection, job_id, attempts, each_most, limit_bytes, stream)
        )

    async def drop_job(self, job_id: JobId) -> None:
        """Forget a job's output, in pieces, so that appends come between."""
        while await self._database.write(lambda connection: delete_pieces(connection, job_id)):
            pass
        self._wake({job_id})

    async def checkpoint(self) -> None:
        await self._database.checkpoint()

    def sizes(self) -> Sizes:
        return self._database.sizes()

    @contextmanager
    def subscribe(self, job_id: JobId) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job has new output. Clear it, read, then wait for it.

        Raises Conflict if too many follow already.
        """
        self._refuse_too_many()
        event = asyncio.Event()
        self._followers.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            followers = self._followers[job_id]
            followers.discard(event)
            if not followers:
                del self._followers[job_id]

    @contextmanager
    def subscribe_values(self) -> Iterator[FreshValues]:
        """Values of calls of any job, as they come; raises Conflict as `subscribe` does."""
        self._refuse_too_many()
        follower = FreshValues()
        self._value_followers.add(follower)
        try:
            yield follower
        finally:
            self._value_followers.discard(follower)

    def _refuse_too_many(self) -> None:
        if sum(map(len, self._followers.values())) + len(self._value_followers) >= FOLLOWERS_MOST:
            raise Conflict(
                f"{FOLLOWERS_MOST} clients are following output already.", hint="Try without -f, or later."
            )

    def _wake(self, job_ids: set[JobId]) -> None:
        for job_id in job_ids:
            for event in self._followers.get(job_id, ()):
                event.set()
