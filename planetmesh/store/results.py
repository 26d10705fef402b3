"""What came of a job's tasks: the standard output of accepted attempts, read in bounded pieces.

Every read looks at a bounded number of tasks and bytes, since all readers share one lane.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from planetmesh.model.ids import JobId
from planetmesh.store.pieces import PIECES_MOST
from planetmesh.store.tasks import COMPLETED

TASKS_MOST = 1000
"""Tasks that one read looks at."""
STDOUT = 1

Place = tuple[int, int]
"""A task's index and an offset in its standard output."""

_JOB = "SELECT number FROM jobs WHERE id = ?"
_MESH_JOB = "SELECT number FROM mesh.jobs WHERE id = ?"
# Asked for tasks that wrote something, not for all tasks: ten million that wrote nothing cost nothing.
_NEXT_INDEX = "SELECT idx FROM pieces WHERE job = ? AND idx >= ? ORDER BY idx LIMIT 1"
_ACCEPTED = "SELECT attempt FROM mesh.tasks WHERE job = ? AND idx = ? AND state = ?"
_STDOUT = (
    "SELECT offset, data FROM pieces WHERE job = ? AND idx = ? AND attempt = ? AND stream = ? "
    "AND offset >= ? ORDER BY offset"
)

_KEPT = (
    "SELECT coalesce(sum(length(data)), 0) FROM pieces WHERE job = ? AND idx = ? AND attempt = ? "
    "AND stream = ?"
)
# As the index `long_outputs` says it: millions of short outputs cost nothing here.
_LONG = (
    "SELECT idx, attempt, stdout_bytes FROM mesh.tasks INDEXED BY long_outputs "
    "WHERE job = ? AND idx >= ? AND state = ? AND stdout_bytes > 1024 ORDER BY idx LIMIT ?"
)


class TextPage(msgspec.Struct, frozen=True):
    """A piece of all COMPLETED tasks' standard output, one behind the other."""

    data: tuple[bytes, ...]
    following: Place | None
    """Where the next page begins; None at the end."""


class Stdout(msgspec.Struct, frozen=True):
    """What one attempt wrote to its standard output, or to another stream that was asked for."""

    data: bytes
    is_cut: bool
    """There is more of it."""
    kept_bytes: int = 0
    """What there is of it, in `data` or beyond."""


class ShortOutput(msgspec.Struct, frozen=True):
    """A COMPLETED task that wrote more to its standard output than was kept."""

    index: int
    kept_bytes: int
    written_bytes: int


class ShortPage(msgspec.Struct, frozen=True):
    found: tuple[ShortOutput, ...]
    following: int | None
    """The index at which the next page begins; None at the end."""


def short_page(connection: sqlite3.Connection, job_id: JobId, start: int) -> ShortPage:
    """Tasks of whose standard output something was dropped; a page without any is not the end."""
    numbers = [connection.execute(query, (job_id,)).fetchone() for query in (_JOB, _MESH_JOB)]
    if numbers[1] is None:
        return ShortPage((), None)
    number = None if numbers[0] is None else numbers[0][0]
    rows = connection.execute(_LONG, (numbers[1][0], start, COMPLETED, TASKS_MOST)).fetchall()
    found = []
    for index, attempt, written in rows:
        kept = _kept(connection, number, index, attempt)
        if kept < written:
            found.append(ShortOutput(index, kept, written))
    return ShortPage(tuple(found), rows[-1][0] + 1 if len(rows) == TASKS_MOST else None)


def _kept(
    connection: sqlite3.Connection, number: int | None, index: int, attempt: int, stream: int = STDOUT
) -> int:
    kept: int = connection.execute(_KEPT, (number, index, attempt, stream)).fetchone()[0]
    return kept


def text_page(connection: sqlite3.Connection, job_id: JobId, start: Place, limit_bytes: int) -> TextPage:
    """From `start` on; a page without data is not the end."""
    numbers = [connection.execute(query, (job_id,)).fetchone() for query in (_JOB, _MESH_JOB)]
    if None in numbers:
        return TextPage((), None)
    number, mesh_number = numbers[0][0], numbers[1][0]
    data: list[bytes] = []
    left = limit_bytes
    index, offset = start
    for _ in range(TASKS_MOST):
        found = connection.execute(_NEXT_INDEX, (number, index)).fetchone()
        if found is None:
            return TextPage(tuple(data), None)
        offset = offset if found[0] == index else 0
        index = found[0]
        accepted = connection.execute(_ACCEPTED, (mesh_number, index, COMPLETED)).fetchone()
        if accepted is not None:
            rows = connection.execute(_STDOUT, (number, index, accepted[0], STDOUT, offset))
            for at, piece in rows:
                if data and (len(piece) > left or len(data) >= PIECES_MOST):
                    rows.close()
                    return TextPage(tuple(data), (index, at))
                data.append(piece)
                left -= len(piece)
        index, offset = index + 1, 0
    return TextPage(tuple(data), (index, offset))


def read_stdouts(
    connection: sqlite3.Connection,
    job_id: JobId,
    attempts: Sequence[tuple[int, int]],
    each_most: int,
    limit_bytes: int,
    stream: int = STDOUT,
) -> list[Stdout]:
    """Of these attempts (index, number), in their order: as many as make up `limit_bytes`, one at least."""
    row = connection.execute(_JOB, (job_id,)).fetchone()
    if row is None:
        return [Stdout(b"", is_cut=False)] * len(attempts)
    found: list[Stdout] = []
    size = 0
    for index, attempt in attempts[:TASKS_MOST]:
        if found and size >= limit_bytes:
            break
        rows = connection.execute(_STDOUT, (row[0], index, attempt, stream, 0))
        output = _join(rows, each_most)
        kept = _kept(connection, row[0], index, attempt, stream) if output.is_cut else len(output.data)
        found.append(msgspec.structs.replace(output, kept_bytes=kept))
        size += len(found[-1].data)
    return found


def _join(rows: sqlite3.Cursor, most: int) -> Stdout:
    """The beginning of an output. Where an agent lost a piece, it ends: what follows would make no sense."""
    data = bytearray()
    for offset, piece in rows:
        if offset != len(data) or len(data) + len(piece) > most:
            if offset == len(data):
                data += piece[: most - len(data)]
            rows.close()
            return Stdout(bytes(data), is_cut=True)
        data += piece
    return Stdout(bytes(data), is_cut=False)
