"""The coordinator's voice: says by mDNS where the mesh is, and whether a pairing window is open.

The coordinator owns one: `start`, a `follow_adapters()` in its task group, `update` at each change of the
pairing windows, `stop` for the goodbye. What may be said is fixed in `announcement`.
"""

from __future__ import annotations

import asyncio
import ipaddress

from zeroconf import Error as ZeroconfError
from zeroconf import ServiceInfo

from planetmesh.discovery.adapters import InterfaceAddress
from planetmesh.discovery.announcement import (
    SERVICE_TYPE,
    Announcement,
    host_name,
    instance_name,
    write_text,
)
from planetmesh.discovery.candidates import MOST_ADDRESSES
from planetmesh.discovery.radio import LOOK_SECONDS, Radio

TTL_SECONDS = 120
"""RFC 6762's figure for what changes with the host. Short: pairing windows open and close."""
STOP_SECONDS = 3.0
"""Three goodbyes take a quarter of a second; a program that ends does not wait longer for the network."""


class Announcer:
    """One announced coordinator. Call everything from one event loop."""

    def __init__(self) -> None:
        self._radio = Radio()
        self._announcement: Announcement | None = None
        self._one_at_a_time = asyncio.Lock()

    async def start(self, announcement: Announcement, bind: tuple[str, ...] = ()) -> None:
        """Announce; raise Conflict where mDNS cannot be had (the mesh works without it, by address)."""
        self._radio = Radio(bind)
        await self._radio.open()
        self._announcement = announcement
        # No probing for a clash of names: node ids do not clash, and a probe would let anybody on the LAN who
        # echoes our name keep us silent.
        broadcast = await self._radio.zeroconf.async_register_service(
            self._service(announcement), cooperating_responders=True
        )
        await broadcast

    async def update(self, announcement: Announcement) -> None:
        """Say this instead, from now on; the first packet goes out at once."""
        async with self._one_at_a_time:
            self._announcement = announcement
            await self._publish()

    async def follow_adapters(self) -> None:
        """Runs until cancelled: keep announcing through changed networks, addresses, and sleep."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            async with self._one_at_a_time:
                if self._radio.is_open and self._radio.look():
                    await self._publish()
                    await self._radio.rejoin()

    async def stop(self) -> None:
        """Say goodbye and close. Harmless when never started."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._radio.close()
        except (TimeoutError, OSError, ZeroconfError):
            return  # listeners forget us by themselves when the time to live is over

    async def _publish(self) -> None:
        if self._announcement is None or not self._radio.is_open:
            return
        await (await self._radio.zeroconf.async_update_service(self._service(self._announcement)))

    def _service(self, announcement: Announcement) -> ServiceInfo:
        return ServiceInfo(
            SERVICE_TYPE,
            instance_name(announcement.instance),
            port=announcement.port,
            properties=write_text(announcement),
            server=host_name(announcement.instance),
            host_ttl=TTL_SECONDS,
            other_ttl=TTL_SECONDS,
            parsed_addresses=announced_addresses(self._radio.adapters),
        )


def announced_addresses(adapters: list[InterfaceAddress]) -> list[str]:
    """What others should dial: link-local IPv6 only if there is nothing else."""
    addresses = [entry.address.partition("%")[0] for entry in adapters]
    lasting = [text for text in addresses if not ipaddress.ip_address(text).is_link_local]
    return list(dict.fromkeys(lasting or addresses))[:MOST_ADDRESSES]
