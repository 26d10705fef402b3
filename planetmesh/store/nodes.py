"""Nodes: the records of the machines that were paired."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

import msgspec

from planetmesh.model.ids import NodeId
from planetmesh.model.node import Confined, Learned, Node, NodeInfo, NodeState

_SAVE = (
    "INSERT OR REPLACE INTO nodes(id, name, info, state, draining, tags, reliability, created_at, "
    "last_heartbeat_at, confined) VALUES(?,?,?,?,?,?,?,?,?,?)"
)


def save_nodes(connection: sqlite3.Connection, nodes: Iterable[Node]) -> None:
    rows = (
        (
            n.id,
            n.name,
            None if n.info is None else msgspec.json.encode(n.info).decode(),
            n.state,
            n.draining,
            msgspec.json.encode(n.tags).decode(),
            n.reliability,
            n.created_at,
            n.last_heartbeat_at,
            msgspec.json.encode(n.confined).decode(),
        )
        for n in nodes
    )
    connection.executemany(_SAVE, rows)


def remove_nodes(connection: sqlite3.Connection, node_ids: Iterable[NodeId]) -> None:
    for node_id in node_ids:
        connection.execute("DELETE FROM nodes WHERE id = ?", (node_id,))
        connection.execute("DELETE FROM learned WHERE node = ?", (node_id,))


def save_learned(connection: sqlite3.Connection, learned: Mapping[NodeId, tuple[Learned, ...]]) -> None:
    rows = ((node_id, msgspec.json.encode(times).decode()) for node_id, times in learned.items())
    connection.executemany("INSERT OR REPLACE INTO learned VALUES(?, ?)", rows)


def read_learned(connection: sqlite3.Connection) -> dict[NodeId, tuple[Learned, ...]]:
    """How long kinds of job take on each node."""
    rows = connection.execute("SELECT node, times FROM learned")
    return {NodeId(node): msgspec.json.decode(times, type=tuple[Learned, ...]) for node, times in rows}


def read_nodes(connection: sqlite3.Connection) -> list[Node]:
    query = (
        "SELECT id, name, info, state, draining, tags, reliability, created_at, last_heartbeat_at, "
        "confined FROM nodes "
        "ORDER BY created_at, id"
    )
    rows = connection.execute(query)
    return [
        Node(
            id=NodeId(id_),
            name=name,
            info=None if info is None else msgspec.json.decode(info, type=NodeInfo),
            state=NodeState(state),
            draining=bool(draining),
            tags=msgspec.json.decode(tags, type=tuple[str, ...]),
            reliability=reliability,
            created_at=created_at,
            last_heartbeat_at=heard,
            confined=msgspec.json.decode(confined, type=tuple[Confined, ...]),
        )
        for id_, name, info, state, draining, tags, reliability, created_at, heard, confined in rows
    ]
