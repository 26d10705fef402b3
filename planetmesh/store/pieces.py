"""Pieces of tasks' output: the rows behind `outputs`.

Of one stream of one attempt only what continues it is kept: a piece that was sent twice, or that lies
over what is there, is dropped, so that what an agent can fill is bounded by the stream's cap.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Protocol

from planetmesh.model.ids import JobId
from planetmesh.wire.api import OutputPiece
from planetmesh.wire.calls import VALUES

ROWS_MOST = 512
"""Rows that one transaction deletes: a few megabytes at most, so that appends do not wait long."""
STREAMS = (1, 2, 3)
INDEX_MOST = 2**31
"""No task has a higher index or attempt; SQLite could not take numbers above 2^63."""
PLACES_MOST = 1_048_576
"""Pieces of one stream of one attempt: ten a second for a day. Each costs some 50 bytes beside its data, so a
stream of single bytes would otherwise take many times what its cap in bytes allows."""
PIECES_MOST = 4096
"""Pieces in one page, however small they are."""

NumberedValues = tuple[JobId, OutputPiece]
"""A piece of what calls of this job gave."""


class Piece(Protocol):
    """What `wire.agent.TaskOutput` is."""

    @property
    def job_id(self) -> JobId: ...
    @property
    def index(self) -> int: ...
    @property
    def attempt(self) -> int: ...
    @property
    def stream(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def data(self) -> bytes: ...


_ADD_JOB = "INSERT OR IGNORE INTO jobs(id) VALUES(?)"
# The plus before ?4: compared with a bare parameter, a partial index (values_by_number) makes SQLite look at
# what is bound to it, and prepare the statement anew for each piece.
_ADD = (
    "INSERT INTO pieces(job, idx, attempt, stream, offset, data, place) "
    "SELECT jobs.number, ?2, ?3, ?4, ?5, ?6, coalesce(last.place, 0) + 1 FROM jobs LEFT JOIN pieces last "
    "ON last.number = (SELECT number FROM pieces WHERE job = jobs.number AND idx = ?2 AND attempt = ?3 "
    "AND stream = +?4 ORDER BY offset DESC LIMIT 1) "
    "WHERE id = ?1 AND ?5 >= coalesce(last.offset + length(last.data), 0) AND coalesce(last.place, 0) < ?7"
)
_FOLLOW = (
    "SELECT number, idx, attempt, stream, offset, data FROM pieces "
    "WHERE job = (SELECT number FROM jobs WHERE id = ?1) AND number > ?2 ORDER BY number LIMIT ?3"
)
_FOLLOW_TASK = (
    "SELECT number, idx, attempt, stream, offset, data FROM pieces INDEXED BY pieces_by_task "
    "WHERE job = (SELECT number FROM jobs WHERE id = ?1) AND idx = ?4 AND number > ?2 "
    "ORDER BY number LIMIT ?3"
)
_VALUES = (
    "SELECT pieces.number, idx, attempt, stream, offset, data, jobs.id "
    "FROM pieces INDEXED BY values_by_number JOIN jobs ON jobs.number = pieces.job "
    "WHERE stream = 3 AND pieces.number > ? ORDER BY pieces.number LIMIT ?"
)
# Which attempt is a task's last one only the mesh's own database knows: it may have written nothing.
_IN_ORDER = (
    "SELECT number, idx, attempt, stream, offset, data FROM pieces "
    "WHERE job = (SELECT number FROM jobs WHERE id = ?1) AND idx >= ?2 AND (idx > ?2 OR number > ?3) "
    "AND attempt = coalesce((SELECT t.attempt FROM mesh.tasks t WHERE t.idx = pieces.idx "
    "AND t.job = (SELECT number FROM mesh.jobs WHERE id = ?1)), attempt) ORDER BY idx, number LIMIT ?4"
)


def add_pieces(
    connection: sqlite3.Connection, pieces: Iterable[Piece], stream_most_bytes: int
) -> list[NumberedValues]:
    """Keep what continues its stream; safe to repeat. One odd piece does not spoil the others' commit.

    Gives those of its values of calls that are new, as `values_after` would.
    """
    wanted = [p for p in pieces if _makes_sense(p) and p.offset + len(p.data) <= stream_most_bytes]
    connection.executemany(_ADD_JOB, ((job_id,) for job_id in dict.fromkeys(p.job_id for p in wanted)))
    found: list[NumberedValues] = []
    cursor = connection.cursor()
    for p in wanted:
        place = (p.index, p.attempt, p.stream, p.offset, p.data)
        cursor.execute(_ADD, (p.job_id, *place, PLACES_MOST))
        if p.stream == VALUES and cursor.rowcount == 1 and cursor.lastrowid is not None:
            found.append((p.job_id, OutputPiece(cursor.lastrowid, *place)))
    return found


def _makes_sense(piece: Piece) -> bool:
    return (
        len(piece.data) > 0
        and piece.stream in STREAMS
        and piece.offset >= 0
        and 0 <= piece.index <= INDEX_MOST
        and 0 <= piece.attempt <= INDEX_MOST
    )


def pieces_after(
    connection: sqlite3.Connection, job_id: JobId, number: int, index: int | None, limit_bytes: int
) -> list[OutputPiece]:
    """In the order in which they came."""
    if index is None:
        rows = connection.execute(_FOLLOW, (job_id, number, PIECES_MOST))
    else:
        rows = connection.execute(_FOLLOW_TASK, (job_id, number, PIECES_MOST, index))
    return _page(rows, limit_bytes)


def values_after(connection: sqlite3.Connection, number: int, limit_bytes: int) -> list[NumberedValues]:
    """Values of calls of all jobs, in the order in which they came."""
    found: list[NumberedValues] = []
    size = 0
    rows = connection.execute(_VALUES, (number, PIECES_MOST))
    for *piece, job_id in rows:
        if found and size + len(piece[5]) > limit_bytes:
            break
        found.append((JobId(job_id), OutputPiece(*piece)))
        size += len(piece[5])
    rows.close()
    return found


def newest_number(connection: sqlite3.Connection) -> int:
    """Of all pieces there ever were; the next one's is higher."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'pieces'").fetchone()
    return 0 if row is None else int(row[0])


def pieces_in_order(
    connection: sqlite3.Connection, job_id: JobId, start: tuple[int, int], limit_bytes: int
) -> list[OutputPiece]:
    """Each task's last attempt, by index, from `start` on: an index and a number within that index."""
    return _page(connection.execute(_IN_ORDER, (job_id, *start, PIECES_MOST)), limit_bytes)


def _page(rows: sqlite3.Cursor, limit_bytes: int) -> list[OutputPiece]:
    pieces: list[OutputPiece] = []
    size = 0
    for row in rows:
        if pieces and size + len(row[5]) > limit_bytes:
            break
        pieces.append(OutputPiece(*row))
        size += len(row[5])
    rows.close()
    return pieces


def delete_pieces(connection: sqlite3.Connection, job_id: JobId) -> bool:
    """Delete some of a job's pieces, and the job with the last of them; True if any are left."""
    row = connection.execute("SELECT number FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        return False
    query = "DELETE FROM pieces WHERE number IN (SELECT number FROM pieces WHERE job = ? LIMIT ?)"
    if connection.execute(query, (row[0], ROWS_MOST)).rowcount == ROWS_MOST:
        return True
    connection.execute("DELETE FROM jobs WHERE number = ?", row)
    return False
