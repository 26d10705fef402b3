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


class TextPage(msgspec.Struct, frozen=True):
    """A piece of all COMPLETED tasks' standard output, one behind the other."""

    data: tuple[bytes, ...]
    following: Place | None
    """Where the next page begins; None at the end."""


class Stdout(msgspec.Struct, frozen=True):
    """What one attempt wrote to its standard output."""

    data: bytes
    is_cut: bool
    """It wrote more."""


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
        rows = connection.execute(_STDOUT, (row[0], index, attempt, STDOUT, 0))
        found.append(_join(rows, each_most))
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
