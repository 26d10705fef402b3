"""The multicast sockets: one zeroconf over the LAN-facing adapters, kept in step with them.

Announcer and browser own one each and close it. A radio that cannot be opened raises Conflict; one that fails
later says so in the log and tries again at the next look.
"""

from __future__ import annotations

import ipaddress
import logging
import time

from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncZeroconf

from planetmesh.discovery.adapters import InterfaceAddress, usable_addresses
from planetmesh.errors import Conflict

LOOK_SECONDS = 5.0
"""Between two looks at the adapters: a laptop that woke up is found again within a breath."""
REJOIN_SECONDS = 300.0
"""An address that went and came back between two looks leaves a deaf socket: join anew once in a while."""
SLEPT_SECONDS = 10.0
"""Wall and monotonic clock drift apart, or nobody looked, for so long: the machine slept."""
OPEN_SECONDS = 5.0
"""Opening a few UDP sockets; longer means that it will not happen."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

log = logging.getLogger(__name__)


class Radio:
    """Sockets on port 5353 of the usable adapters (or of the addresses in `bind`)."""

    def __init__(self, bind: tuple[str, ...] = ()) -> None:
        self._bind = bind
        self._adapters: list[InterfaceAddress] = []
        self._networks: list[Network] = []
        self._zeroconf: AsyncZeroconf | None = None
        self._sleep = SleepDetector()
        self._rejoin_at = 0.0

    @property
    def adapters(self) -> list[InterfaceAddress]:
        """As of the last look."""
        return self._adapters

    @property
    def networks(self) -> list[Network]:
        """Which addresses are reached directly."""
        return self._networks

    @property
    def zeroconf(self) -> AsyncZeroconf:
        if self._zeroconf is None:
            raise RuntimeError("the radio is not open")
        return self._zeroconf

    @property
    def is_open(self) -> bool:
        return self._zeroconf is not None

    async def open(self) -> None:
        """Open the sockets; with no network yet there are none, and `refresh` adds them when it comes."""
        self._see(usable_addresses(self._bind))
        self._rejoin_at = time.monotonic() + REJOIN_SECONDS
        try:
            opened = AsyncZeroconf(interfaces=multicast_interfaces(self._adapters))
        except (OSError, RuntimeError) as error:
            raise _port_taken(error) from error
        try:
            await opened.zeroconf.async_wait_for_start(timeout=OPEN_SECONDS)
        except BaseException as error:
            await opened.async_close()
            if isinstance(error, OSError | ZeroconfError):
                raise _port_taken(error) from error
            raise
        self._zeroconf = opened

    async def close(self) -> None:
        """Say goodbye for what was announced and close the sockets."""
        opened, self._zeroconf = self._zeroconf, None
        if opened is not None:
            await opened.async_close()

    def look(self) -> bool:
        """Look at the adapters; True if `rejoin` is due because they changed or may have."""
        before = self._adapters
        self._see(usable_addresses(self._bind))
        slept = self._sleep.slept()
        if slept:
            log.info("discovery.slept")
        if self._adapters != before:
            shown = ", ".join(f"{entry.name} {entry.address}" for entry in self._adapters)
            log.info("discovery.adapters_changed", extra={"adapters": shown or "none"})
        return slept or self._adapters != before or time.monotonic() >= self._rejoin_at

    async def rejoin(self) -> None:
        """Leave the multicast groups and join them anew on the present adapters; re-announces by itself.

        Leaving first matters: zeroconf compares addresses only, and a stick that was plugged anew has its old
        address on a new interface.
        """
        self._rejoin_at = time.monotonic() + REJOIN_SECONDS
        try:
            await self.zeroconf.async_update_interfaces([])
            await self.zeroconf.async_update_interfaces(multicast_interfaces(self._adapters))
        except (OSError, RuntimeError, ZeroconfError) as error:
            self._rejoin_at = time.monotonic() + LOOK_SECONDS
            log.warning("discovery.rejoin_failed", extra={"reason": str(error)})

    def _see(self, adapters: list[InterfaceAddress]) -> None:
        self._adapters = adapters
        self._networks = [entry.network for entry in adapters]


class SleepDetector:
    """Tells that the machine slept since it was last asked.

    On Linux and macOS the monotonic clock stands still in sleep and the wall clock does not; on Windows both
    go on and only the gap between two looks shows it.
    """

    def __init__(self) -> None:
        self._wall, self._monotonic = time.time(), time.monotonic()

    def slept(self) -> bool:
        wall, monotonic = time.time(), time.monotonic()
        gap = monotonic - self._monotonic
        drift = (wall - self._wall) - gap
        self._wall, self._monotonic = wall, monotonic
        return drift > SLEPT_SECONDS or gap > LOOK_SECONDS + SLEPT_SECONDS


def multicast_interfaces(adapters: list[InterfaceAddress]) -> list[str]:
    """One address per interface to join the group on: IPv4; IPv6 only on a machine without any IPv4.

    A socket for both families behaves differently on every system, and a LAN without IPv4 is rare.
    """
    version = 4 if any(entry.version == 4 for entry in adapters) else 6
    chosen: dict[str, str] = {}
    for entry in adapters:
        if entry.version == version:
            chosen.setdefault(entry.name, entry.address)
    return list(chosen.values())


def _port_taken(error: BaseException) -> Conflict:
    return Conflict(
        f"Cannot open UDP port 5353 for mDNS: {error}.",
        hint="Another mDNS program may hold it for itself. Without it: planetmesh up --join HOST:PORT",
    )
