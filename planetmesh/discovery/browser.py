"""Hearing coordinators: `find` for a few seconds, `Browser` for as long as an agent lives.

Reads records as they come in rather than from zeroconf's cache, which a flood can empty. Everything is a
hint: the caller dials remembered endpoints first and lets TLS decide who answers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable, Iterable

from zeroconf import RecordUpdate, RecordUpdateListener, Zeroconf

from planetmesh.discovery.announcement import (
    SERVICE_TYPE,
    Found,
    Instance,
    is_port,
    read_text,
)
from planetmesh.discovery.candidates import Candidates, Heard
from planetmesh.discovery.radio import LOOK_SECONDS, Radio
from planetmesh.discovery.records import (
    DNSAddress,
    DNSPointer,
    DNSRecord,
    DNSService,
    DNSText,
    address_text,
    instance_of,
    question,
)

FIRST_GAP_SECONDS = 1.0
LONGEST_GAP_SECONDS = 60.0
"""Questions are asked at once, then with a gap that doubles up to this (RFC 6762, 5.2)."""
FORGET_SECONDS = 2.5 * LONGEST_GAP_SECONDS
"""Two questions without an answer: gone, even without a goodbye."""
SETTLE_SECONDS = 1.4
"""After the first match wait so long for a second: two coordinators must be shown, not guessed between.
A responder that has just spoken may hold back its answer for 1.35 s (RFC 6762, 6, as zeroconf does it)."""
COALESCE_SECONDS = 0.02
"""Take in what arrives together before looking at it, so that a flood costs one look and not thousands."""

Callback = Callable[[list[Found]], None]


async def find(
    seconds: float,
    *,
    until: Callable[[list[Found]], bool] | None = None,
    bind: tuple[str, ...] = (),
    settle_seconds: float = SETTLE_SECONDS,
) -> list[Found]:
    """Everybody heard within `seconds`, nearest first.

    With `until`, ends early: `settle_seconds` after it first says yes, so that a second match is seen too.
    Raises Conflict where mDNS cannot be had at all.
    """
    browser = Browser(bind)
    clock = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(seconds) as limit:
            settling = False

            def look(found: list[Found]) -> None:
                nonlocal settling
                if until is not None and not settling and until(found):
                    settling = True
                    limit.reschedule(min(limit.when() or 0.0, clock() + settle_seconds))

            await browser.run(look)
    except TimeoutError:
        if not limit.expired():
            raise
    return browser.found()


class Browser:
    """Listens and asks while `run` runs; `found()` is what is known at the moment."""

    def __init__(self, bind: tuple[str, ...] = ()) -> None:
        self._radio = Radio(bind)
        self._heard = asyncio.Event()
        self._candidates = Candidates(self._is_near)

    def found(self) -> list[Found]:
        return self._candidates.found()

    async def run(self, callback: Callback) -> None:
        """Runs until cancelled; calls back with the whole list whenever it changed."""
        await self._radio.open()
        try:
            ear = _Ear(self._candidates, self._heard, self._may_dial)
            self._radio.zeroconf.zeroconf.async_add_listener(ear, None)
            await self._listen(callback)
        finally:
            await self._radio.close()

    async def _listen(self, callback: Callback) -> None:
        told: list[Found] = []
        gap = FIRST_GAP_SECONDS
        ask_at = look_at = time.monotonic()
        while True:
            now = time.monotonic()
            if now >= look_at:
                look_at = now + LOOK_SECONDS
                if self._radio.look():
                    await self._radio.rejoin()
                    ask_at, gap = now, FIRST_GAP_SECONDS
            if now >= ask_at:
                self._ask()
                ask_at, gap = now + gap, min(gap * 2, LONGEST_GAP_SECONDS)
                self._candidates.forget_before(now - FORGET_SECONDS)
            found = self.found()
            if found != told:
                told = found
                callback(found)
            await self._wait(min(ask_at, look_at) - time.monotonic())

    async def _wait(self, seconds: float) -> None:
        """Until something was heard, or for so long."""
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._heard.wait()
        except TimeoutError:
            return
        await asyncio.sleep(COALESCE_SECONDS)
        self._heard.clear()

    def _ask(self) -> None:
        self._radio.zeroconf.zeroconf.async_send(question(SERVICE_TYPE))

    def _is_near(self, address: str) -> bool:
        ip = ipaddress.ip_address(address.partition("%")[0])
        return any(ip in network for network in self._radio.networks)

    def _may_dial(self, address: str) -> bool:
        """Never loopback, multicast and the like, on whose word ever: only with `--bind 127.0.0.1`."""
        ip = ipaddress.ip_address(address.partition("%")[0])
        if ip.is_loopback:
            return self._is_near(address)
        return not (ip.is_multicast or ip.is_unspecified or ip.is_reserved)


class _Ear(RecordUpdateListener):
    """Sorts the records of each packet by instance; whatever does not fit the grammar falls through."""

    def __init__(self, candidates: Candidates, heard: asyncio.Event, may_dial: Callable[[str], bool]) -> None:
        super().__init__()
        self._candidates = candidates
        self._heard = heard
        self._may_dial = may_dial

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:  # noqa: ARG002
        """Called by zeroconf with the records of one packet, or with those that its cache let go."""
        goodbyes, news = self._sort((update.new for update in records), now)
        at = time.monotonic()
        for instance in goodbyes:
            self._candidates.drop(instance)
        for instance, heard in news.items():
            self._candidates.hear(instance, heard, at)
        if goodbyes or news:
            self._heard.set()

    def _sort(self, records: Iterable[DNSRecord], now: float) -> tuple[list[Instance], dict[Instance, Heard]]:
        goodbyes: list[Instance] = []
        news: dict[Instance, Heard] = {}
        for record in records:
            instance = instance_of(record)
            if instance is None:
                continue
            if not record.is_expired(now):
                self._take(record, news.setdefault(instance, Heard()))
            elif isinstance(record, DNSPointer):
                goodbyes.append(instance)
        return goodbyes, news

    def _take(self, record: DNSRecord, heard: Heard) -> None:
        if isinstance(record, DNSService):
            heard.port = record.port if is_port(record.port) else None
        elif isinstance(record, DNSText):
            heard.hints = read_text(record.text) or heard.hints
        elif isinstance(record, DNSAddress):
            address = address_text(record)
            if address is not None and self._may_dial(address):
                heard.add_address(address)
