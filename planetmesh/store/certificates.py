"""Certificates that were issued and what became of them: the allow list's rows. No keys, no PEM."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from planetmesh.model.identity import CertificateRecord, CertificateState, Role

_COLUMNS = "serial, role, id, spki_hash, not_after, state, successor, name"


def save_certificates(connection: sqlite3.Connection, records: Iterable[CertificateRecord]) -> None:
    rows = ((r.serial, r.role, r.id, r.spki_hash, r.not_after, r.state, r.successor, r.name) for r in records)
    connection.executemany(f"INSERT OR REPLACE INTO certificates({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?)", rows)


def read_certificates(connection: sqlite3.Connection) -> list[CertificateRecord]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM certificates ORDER BY not_after, serial")
    return [
        CertificateRecord(
            serial, Role(role), id_, spki_hash, not_after, CertificateState(state), successor, name
        )
        for serial, role, id_, spki_hash, not_after, state, successor, name in rows
    ]


def sweep_certificates(connection: sqlite3.Connection, expired_before: float, limit: int) -> int:
    """Forget certificates that expired long ago; their date alone refuses them."""
    query = (
        "DELETE FROM certificates WHERE serial IN "
        "(SELECT serial FROM certificates WHERE not_after < ? ORDER BY not_after LIMIT ?)"
    )
    return connection.execute(query, (expired_before, limit)).rowcount
