"""The part of the mesh's database that outlives its machine: who belongs to it, and what was decided.

Jobs are no part of it. To bring them back later would run again what has run since.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from planetmesh.errors import StorageFailed
from planetmesh.paths import Home
from planetmesh.store.failures import translated
from planetmesh.store.schema import MESH

KEPT = ("meta", "nodes", "certificates", "audit", "learned")
"""Tables that are copied whole."""
BUSY_SECONDS = 5.0


def copy_of_members(home: Home) -> bytes:
    """A database file with these tables as they are at one moment, while the mesh goes on.

    Raises StorageFailed if there is none, it is damaged, or of another version than this program.
    """
    path = home.database
    if not path.exists():
        raise StorageFailed(f"There is no database {path}.", hint="Start the mesh once: planetmesh up")
    with (
        translated(path),
        closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as source,
        closing(sqlite3.connect(":memory:", isolation_level=None)) as target,
    ):
        source.execute("PRAGMA query_only=ON")
        source.execute("BEGIN")
        if source.execute("PRAGMA user_version").fetchone()[0] != len(MESH):
            raise StorageFailed(
                f"The database {path} is of another version than this program.",
                hint="Make the backup with the version that runs there, or start `planetmesh up` anew first.",
            )
        target.executescript(f"BEGIN;{';'.join(MESH)};PRAGMA user_version={len(MESH)};COMMIT;")
        target.execute("BEGIN")
        for table in KEPT:
            _copy_rows(source, target, f"SELECT * FROM {table}", table)
        # The last one holds the number with which the feed goes on.
        _copy_rows(source, target, "SELECT * FROM feed ORDER BY number DESC LIMIT 1", "feed")
        target.execute("COMMIT")
        return target.serialize()


def _copy_rows(source: sqlite3.Connection, target: sqlite3.Connection, query: str, table: str) -> None:
    found = source.execute(query)
    names = [column[0] for column in found.description]
    row = f"INSERT INTO {table}({', '.join(names)}) VALUES({', '.join('?' * len(names))})"
    target.executemany(row, found)
