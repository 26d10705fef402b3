"""Can this machine use multicast at all? For `doctor`, in words a person can act on.

Sends a harmless record on every adapter and listens whether it comes back, and whether others are heard.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack

import msgspec
from zeroconf import RecordUpdate, RecordUpdateListener, Zeroconf
from zeroconf.asyncio import AsyncZeroconf

from planetmesh.discovery.adapters import (
    InterfaceAddress,
    SkippedInterface,
    skipped_interfaces,
    usable_addresses,
)
from planetmesh.discovery.radio import OPEN_SECONDS, multicast_interfaces
from planetmesh.discovery.records import question, text_answer

PROBE_TTL_SECONDS = 1
EVERY_SERVICE = "_services._dns-sd._udp.local."
"""What every mDNS program on the LAN answers to (RFC 6763, 9)."""
PROBE_SUFFIX = ".planetmesh-probe.local."
REPEAT_SECONDS = 0.5


class InterfaceReport(msgspec.Struct, frozen=True):
    """One adapter that planetmesh would use."""

    name: str
    address: str
    heard_itself: bool
    """False: multicast is blocked on this machine, by a firewall or a driver."""
    error: str = ""


class MulticastReport(msgspec.Struct, frozen=True):
    """What `doctor` shows."""

    interfaces: tuple[InterfaceReport, ...]
    skipped: tuple[SkippedInterface, ...]
    heard_others: bool
    """Any mDNS of anybody else. False on a LAN with phones or printers: a switch or access point drops it."""

    @property
    def works(self) -> bool:
        return any(report.heard_itself for report in self.interfaces)


async def probe_multicast(seconds: float = 2.0, bind: tuple[str, ...] = ()) -> MulticastReport:
    """Try multicast on every usable adapter for at most `seconds`, all at once."""
    adapters = usable_addresses(bind)
    chosen = set(multicast_interfaces(adapters))
    tried = [entry for entry in adapters if entry.address in chosen]
    async with AsyncExitStack() as stack:
        probes = [_Probe(entry) for entry in tried]
        for probe in probes:
            await probe.open(stack)
        await _listen(probes, seconds)
    return MulticastReport(
        interfaces=tuple(probe.report() for probe in probes),
        skipped=() if bind else tuple(skipped_interfaces()),
        heard_others=any(probe.heard_others for probe in probes),
    )


async def _listen(probes: list[_Probe], seconds: float) -> None:
    """Speak and listen until every adapter heard itself and somebody else, or the time is over."""
    clock = asyncio.get_running_loop().time
    end_at = clock() + seconds
    while clock() < end_at:
        for probe in probes:
            probe.speak()
        await asyncio.sleep(min(REPEAT_SECONDS, max(end_at - clock(), 0.0)))
        if all(probe.heard_itself for probe in probes) and any(probe.heard_others for probe in probes):
            return


class _Probe(RecordUpdateListener):
    """One adapter under test."""

    def __init__(self, entry: InterfaceAddress) -> None:
        super().__init__()
        self._entry = entry
        self._name = f"{secrets.token_hex(8)}{PROBE_SUFFIX}"
        self._zeroconf: AsyncZeroconf | None = None
        self._error = ""
        self.heard_itself = False
        self.heard_others = False

    async def open(self, stack: AsyncExitStack) -> None:
        try:
            self._zeroconf = AsyncZeroconf(interfaces=[self._entry.address])
        except (OSError, RuntimeError) as error:
            self._error = str(error)
            return
        stack.push_async_callback(self._zeroconf.async_close)
        await self._zeroconf.zeroconf.async_wait_for_start(timeout=OPEN_SECONDS)
        self._zeroconf.zeroconf.async_add_listener(self, None)

    def speak(self) -> None:
        if self._zeroconf is None:
            return
        # A fresh text each time: zeroconf drops a packet that equals one it has just seen.
        token = secrets.token_hex(8).encode()
        self._zeroconf.zeroconf.async_send(text_answer(self._name, token, PROBE_TTL_SECONDS))
        self._zeroconf.zeroconf.async_send(question(EVERY_SERVICE))

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:  # noqa: ARG002
        """Called by zeroconf with the records of one packet."""
        for update in records:
            if update.new.name == self._name:
                self.heard_itself = True
            elif not update.new.name.endswith(PROBE_SUFFIX):
                self.heard_others = True

    def report(self) -> InterfaceReport:
        return InterfaceReport(self._entry.name, self._entry.address, self.heard_itself, self._error)
