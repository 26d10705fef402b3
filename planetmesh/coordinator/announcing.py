"""Keeps what mDNS says in step with the pairing windows."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from planetmesh.discovery import Announcement, Announcer
from planetmesh.errors import MeshError
from planetmesh.groups import TaskGroup

log = logging.getLogger(__name__)


class Announcing:
    """`on_listening` is the pairing desk's callback; `run` is a task of the service."""

    def __init__(self, mesh_id: str, coordinator_id: str, port: int, bind: tuple[str, ...]) -> None:
        self._announcement = Announcement(mesh_id[:8], coordinator_id[:8], port)
        self._bind = bind
        self._changed = asyncio.Event()

    def on_listening(self, port: int | None, slots: tuple[int, ...]) -> None:
        self._announcement = msgspec.structs.replace(
            self._announcement, pair_port=port, slots=tuple(str(slot) for slot in slots)
        )
        self._changed.set()

    async def run(self) -> None:
        """Announce until cancelled; a machine without multicast is reached by its address instead."""
        announcer = Announcer()
        try:
            await announcer.start(self._announcement, self._bind)
        except MeshError as error:
            log.warning("discovery.silent", extra={"reason": error.message, "hint": error.hint})
            return
        try:
            async with TaskGroup() as group:
                group.create_task(announcer.follow_adapters())
                while True:
                    await self._changed.wait()
                    self._changed.clear()
                    await announcer.update(self._announcement)
        finally:
            await announcer.stop()
