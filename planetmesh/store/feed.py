"""What happened, in order: the numbered feed for clients that resume, the audit trail, and the meta words."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from planetmesh.store.changes import AuditRow, FeedRow


def save_feed(connection: sqlite3.Connection, rows: Iterable[FeedRow]) -> None:
    connection.executemany(
        "INSERT INTO feed VALUES(?,?,?,?)", ((row.number, row.kind, row.at, row.data) for row in rows)
    )


def feed_after(connection: sqlite3.Connection, number: int, limit: int) -> list[FeedRow]:
    query = "SELECT number, kind, at, data FROM feed WHERE number > ? ORDER BY number LIMIT ?"
    return [FeedRow(*row) for row in connection.execute(query, (number, limit))]


def last_feed_number(connection: sqlite3.Connection) -> int:
    return connection.execute("SELECT max(number) FROM feed").fetchone()[0] or 0


def sweep_feed(connection: sqlite3.Connection, keep_rows: int, limit: int) -> int:
    """Drop the oldest rows beyond the newest `keep_rows`; the last one always stays, it holds the number."""
    query = (
        "DELETE FROM feed WHERE number IN (SELECT number FROM feed WHERE number <= "
        "(SELECT max(number) FROM feed) - ? ORDER BY number LIMIT ?)"
    )
    return connection.execute(query, (max(1, keep_rows), limit)).rowcount


def save_audit(connection: sqlite3.Connection, rows: Iterable[AuditRow]) -> None:
    connection.executemany(
        "INSERT INTO audit(at, actor, action, object, detail, address) VALUES(?,?,?,?,?,?)",
        ((row.at, row.actor, row.action, row.object, row.detail, row.address) for row in rows),
    )


def list_audit(connection: sqlite3.Connection, limit: int, before: int | None) -> list[AuditRow]:
    """Newest first."""
    query = (
        "SELECT at, actor, action, object, detail, number, address FROM audit "
        "WHERE ?1 IS NULL OR number < ?1 ORDER BY number DESC LIMIT ?2"
    )
    return [AuditRow(*row) for row in connection.execute(query, (before, limit))]


def sweep_audit(connection: sqlite3.Connection, keep_rows: int, limit: int) -> int:
    query = (
        "DELETE FROM audit WHERE number IN (SELECT number FROM audit WHERE number <= "
        "(SELECT max(number) FROM audit) - ? ORDER BY number LIMIT ?)"
    )
    return connection.execute(query, (keep_rows, limit)).rowcount


def save_meta(connection: sqlite3.Connection, meta: Mapping[str, str]) -> None:
    connection.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", meta.items())


def read_meta(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT name, value FROM meta"))
