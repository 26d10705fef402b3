"""Discovery on one machine: the grammar, the table, the adapters, and real mDNS over loopback."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.discovery import (
    Announcement,
    Announcer,
    Browser,
    Found,
    InterfaceAddress,
    check_bind,
    find,
    probe_multicast,
    skipped_interfaces,
    usable_addresses,
)
from planetmesh.discovery import radio as radio_module
from planetmesh.discovery.announcement import (
    Hints,
    host_name,
    instance_name,
    read_host_name,
    read_instance_name,
    read_text,
    write_text,
)
from planetmesh.discovery.announcer import announced_addresses
from planetmesh.discovery.candidates import MOST_CANDIDATES, Candidates, Heard
from planetmesh.discovery.radio import Radio, SleepDetector, multicast_interfaces
from planetmesh.errors import BadInput, Conflict

LOOPBACK = ("127.0.0.1",)
MESH, NODE = "0a1b2c3d", "deadbeef"
PLAIN = Announcement(MESH, NODE, 7433)
PAIRING = Announcement(MESH, NODE, 7433, 40001, ("2", "Z"))
HINTS = Hints(1, MESH, 7433, None, ())


def pairing(plain: Announcement) -> Announcement:
    return msgspec.structs.replace(plain, pair_port=40001, slots=("2", "Z"))


def strings(*parts: bytes) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in parts)


# The grammar


@pytest.mark.parametrize("announcement", [PLAIN, PAIRING])
def test_what_is_written_is_read_back(announcement: Announcement) -> None:
    assert read_text(write_text(announcement)) == announcement.hints


def test_announcement_leaks_nothing_but_mesh_and_ports() -> None:
    assert write_text(PAIRING) == strings(b"v=1", b"mesh=0a1b2c3d", b"port=7433", b"pair=40001", b"slot=2,Z")
    assert socket.gethostname().encode() not in host_name(PAIRING.instance).encode()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0",
        strings(b"v=1", b"mesh=0a1b2c3d"),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=0"),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=70000"),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=07433"),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=7433\n"),
        strings(b"v=1", b"mesh=0a1b2c3d", "port=７４３３".encode()),
        strings(b"v=0", b"mesh=0a1b2c3d", b"port=7433"),
        strings(b"v=1", b"mesh=0A1B2C3D", b"port=7433"),
        strings(b"v=1", b"mesh=0a1b2c3", b"port=7433"),
        strings(b"v=1", b"mesh=0a1b2c3\xff", b"port=7433"),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=7433", b"port=7433"),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=7433", b"pair=40001"),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=7433", b"slot=2"),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=7433", b"pair=0", b"slot=2"),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=7433", b"pair=40001", b"slot="),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=7433", b"pair=40001", b"slot=2,2"),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=7433", b"pair=40001", b"slot=\x1b[31m"),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=7433", b"note=\x1b]0;owned\x07"),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=7433", b"bare"),
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=7433") + b"\x20short",
        strings(b"v=1", b"mesh=0a1b2c3d", b"port=7433", *[b"x%d=%s" % (i, b"A" * 200) for i in range(40)]),
    ],
)
def test_text_that_does_not_fit_to_the_letter_is_not_there(text: bytes) -> None:
    assert read_text(text) is None


def test_keys_to_come_are_passed_over() -> None:
    assert read_text(strings(b"v=2", b"mesh=0a1b2c3d", b"port=7433", b"new=thing")) == Hints(
        2, MESH, 7433, None, ()
    )


@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(text: bytes) -> None:
    hints = read_text(text)
    assert hints is None or 1 <= hints.port <= 65535


@pytest.mark.parametrize(
    "name",
    [
        "0a1b2c3d-deadbeef",
        "0a1b2c3d-deadbeef._http._tcp.local.",
        "x0a1b2c3d-deadbeef._planetmesh._tcp.local.",
        "0a1b2c3d-deadbee._planetmesh._tcp.local.",
        "0a1b2c3d-deadbeef\x1b._planetmesh._tcp.local.",
        "planetmesh-0a1b2c3d-deadbeef.evil.local.",
    ],
)
def test_foreign_names_are_not_ours(name: str) -> None:
    assert read_instance_name(name) is None
    assert read_host_name(name) is None


def test_names_are_read_back() -> None:
    assert read_instance_name(instance_name((MESH, NODE))) == (MESH, NODE)
    assert read_host_name(host_name((MESH, NODE))) == (MESH, NODE)


@pytest.mark.parametrize("wrong", [("xyz", NODE, 7433), (MESH, "Desk of Ann", 7433), (MESH, NODE, 0)])
def test_nobody_announces_what_nobody_would_accept(wrong: tuple[str, str, int]) -> None:
    with pytest.raises(ValueError, match="accept"):
        Announcement(*wrong)


# The table


def near(address: str) -> bool:
    return address.startswith("192.168.1.")


def heard(address: str = "192.168.1.5", *more: str, hints: Hints | None = HINTS, port: int = 7433) -> Heard:
    news = Heard(port=port, hints=hints)
    for one in (address, *more):
        news.add_address(one)
    return news


def test_near_ipv4_first_and_link_local_last() -> None:
    table = Candidates(near)
    table.hear((MESH, NODE), heard("fe80::1%2", "2001:db8::5", "169.254.7.7", "10.0.0.5", "192.168.1.5"), 1.0)
    (one,) = table.found()
    assert one.addresses == ("192.168.1.5", "10.0.0.5", "2001:db8::5", "169.254.7.7", "fe80::1%2")


@pytest.mark.parametrize(
    "news",
    [
        heard(hints=None),
        heard(hints=Hints(1, "ffffffff", 7433, None, ())),
        heard(port=7434),
        Heard(port=7433, hints=HINTS),
    ],
)
def test_incomplete_or_contradictory_is_not_shown(news: Heard) -> None:
    table = Candidates(near)
    table.hear((MESH, NODE), news, 1.0)
    assert table.found() == []


def test_pieces_come_together_and_news_replace_the_old() -> None:
    table = Candidates(near)
    table.hear((MESH, NODE), Heard(port=7433, hints=HINTS), 1.0)
    table.hear((MESH, NODE), Heard(ipv4=["192.168.1.5"]), 2.0)
    table.hear((MESH, NODE), Heard(ipv4=["192.168.1.6"]), 3.0)
    assert [one.addresses for one in table.found()] == [("192.168.1.6",)]


def test_goodbye_and_silence_take_it_away() -> None:
    table = Candidates(near)
    table.hear((MESH, NODE), heard(), 1.0)
    table.forget_before(1.0)
    assert table.found()
    table.forget_before(1.1)
    assert not table.found()
    table.hear((MESH, NODE), heard(), 2.0)
    table.drop((MESH, NODE))
    assert len(table) == 0


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("claimed", ["one address", "every address", "far addresses", "incomplete"])
def test_thousands_of_inventions_do_not_push_out_the_true_one(claimed: str, first: bool) -> None:
    table = Candidates(near)
    addresses = {
        "one address": lambda _: "192.168.1.66",
        "every address": lambda number: f"192.168.1.{number % 200 + 10}",
        "far addresses": lambda number: f"10.{number // 65536}.{number // 256 % 256}.{number % 256}",
        "incomplete": lambda _: "192.168.1.5",
    }[claimed]
    began = time.process_time()  # whatever else this machine does
    for number in range(3_000):
        if number == (0 if first else 2_900):
            table.hear((MESH, NODE), heard("192.168.1.5"), 0.0)
        mesh8 = f"{number:08x}"
        hints = None if claimed == "incomplete" else Hints(1, mesh8, 7433, None, ())
        table.hear((mesh8, NODE), heard(addresses(number), hints=hints), float(number))
    assert len(table) <= MOST_CANDIDATES
    assert any(one.mesh8 == MESH for one in table.found())
    assert time.process_time() - began < 5


# The adapters


class Stats(NamedTuple):
    isup: bool


class Address(NamedTuple):
    family: int
    address: str
    netmask: str


def pretend(monkeypatch: pytest.MonkeyPatch, **adapters: tuple[bool, str, str]) -> None:
    """The machine has these adapters: up or not, address, netmask. `_` in a name stands for `-`."""
    entries = {name.replace("_", "-"): entry for name, entry in adapters.items()}
    monkeypatch.setattr(psutil, "net_if_stats", lambda: {n: Stats(up) for n, (up, _, _) in entries.items()})
    monkeypatch.setattr(
        psutil,
        "net_if_addrs",
        lambda: {
            name: [Address(socket.AF_INET6 if ":" in address else socket.AF_INET, address, mask)]
            for name, (_, address, mask) in entries.items()
        },
    )


LO = (True, "127.0.0.1", "255.0.0.0")
MASK = "255.255.255.0"


def test_only_what_faces_the_lan_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(
        monkeypatch,
        lo=LO,
        wlan0=(True, "192.168.1.5", MASK),
        eth1=(False, "192.168.2.5", MASK),
        docker0=(True, "172.17.0.1", "255.255.0.0"),
        br_0123456789ab=(True, "172.18.0.1", "255.255.0.0"),
        vethab12=(True, "169.254.1.1", "255.255.0.0"),
        virbr0=(True, "192.168.122.1", MASK),
        tun0=(True, "10.8.0.2", "255.255.255.255"),
        wg0=(True, "10.9.0.2", MASK),
        tailscale0=(True, "100.64.0.2", "255.255.255.255"),
    )
    assert usable_addresses() == [InterfaceAddress("wlan0", "192.168.1.5", 24)]
    reasons = {skip.name: skip.reason for skip in skipped_interfaces()}
    assert reasons["eth1"] == "down"
    assert "loopback" in reasons["lo"]
    assert "by its name" in reasons["docker0"]
    assert len(reasons) == 9


def test_a_bridge_that_is_the_lan_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lo=LO, br0=(True, "192.168.1.5", MASK), br_lan=(True, "192.168.3.1", MASK))
    assert {entry.name for entry in usable_addresses()} == {"br0", "br-lan"}


def test_names_do_not_count_where_nothing_else_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lo=LO, veth0=(True, "10.77.1.1", MASK), tun0=(False, "10.8.0.2", MASK))
    assert [entry.name for entry in usable_addresses()] == ["veth0"]


def test_no_network_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lo=LO)
    assert usable_addresses() == []


def test_bind_overrides_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lo=LO, eth0=(True, "192.168.1.5", MASK), wg0=(True, "10.9.0.2", MASK))
    assert [entry.name for entry in usable_addresses(("10.9.0.2",))] == ["wg0"]
    assert [entry.name for entry in usable_addresses(("127.0.0.1",))] == ["lo"]
    assert usable_addresses(("10.9.0.3",)) == []
    assert usable_addresses(("0.0.0.0",)) == usable_addresses()


def test_bind_to_what_is_not_there_is_refused_with_what_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lo=LO, eth0=(True, "192.168.1.5", MASK))
    check_bind(("192.168.1.5", "0.0.0.0"))
    with pytest.raises(BadInput) as caught:
        check_bind(("192.168.1.6",))
    assert "192.168.1.5" in caught.value.hint
    with pytest.raises(BadInput):
        check_bind(("eth0",))


def test_ipv6_only_where_there_is_no_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    link_local = InterfaceAddress("eth0", "fe80::1%eth0", 64)
    global_one = InterfaceAddress("eth0", "2001:db8::1", 64)
    ipv4 = InterfaceAddress("eth1", "192.168.1.5", 24)
    assert multicast_interfaces([ipv4, global_one]) == ["192.168.1.5"]
    assert multicast_interfaces([global_one, link_local]) == ["2001:db8::1"]
    assert announced_addresses([ipv4, global_one, link_local]) == ["192.168.1.5", "2001:db8::1"]
    assert announced_addresses([link_local]) == ["fe80::1"]
    pretend(monkeypatch, eth0=(True, "fe80::1%eth0", "ffff:ffff:ffff:ffff::"))
    (entry,) = usable_addresses()
    assert (entry.prefix, entry.version) == (64, 6)
    assert ipaddress.ip_address("fe80::2") in entry.network


def test_sleep_shows_in_either_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, monotonic = [1000.0], [50.0]
    monkeypatch.setattr(radio_module.time, "time", lambda: wall[0])
    monkeypatch.setattr(radio_module.time, "monotonic", lambda: monotonic[0])
    detector = SleepDetector()
    wall[0], monotonic[0] = 1005.0, 55.0
    assert not detector.slept()
    wall[0], monotonic[0] = 4605.0, 60.0
    assert detector.slept()
    wall[0], monotonic[0] = 8205.0, 3660.0
    assert detector.slept()
    wall[0], monotonic[0] = 8210.0, 3665.0
    assert not detector.slept()


# Real mDNS over loopback


@pytest.fixture
def plain() -> Announcement:
    """Of a mesh of its own: other workers of the test run share the loopback."""
    return Announcement(secrets.token_hex(4), NODE, 7433)


@pytest.fixture
async def announcer() -> AsyncIterator[Announcer]:
    speaking = Announcer()
    yield speaking
    await speaking.stop()


async def test_announced_found_updated_gone(announcer: Announcer, plain: Announcement) -> None:
    seen: asyncio.Queue[list[Found]] = asyncio.Queue()

    async def next_one(wanted: tuple[str, ...] | None) -> None:
        async with asyncio.timeout(30):
            while True:
                ours = [one for one in await seen.get() if one.mesh8 == plain.mesh_id8]
                if (ours[0].slots if ours else None) == wanted:
                    return

    async with asyncio.TaskGroup() as group:
        listening = group.create_task(Browser(LOOPBACK).run(seen.put_nowait))
        await announcer.start(plain, LOOPBACK)
        await next_one(())
        await announcer.update(pairing(plain))
        await next_one(("2", "Z"))
        await announcer.stop()
        await next_one(None)
        listening.cancel()


async def test_find_ends_early_and_tells_the_whole(announcer: Announcer, plain: Announcement) -> None:
    def until(found: list[Found]) -> bool:
        return any(one.mesh8 == plain.mesh_id8 for one in found)

    async with asyncio.TaskGroup() as group:
        finding = group.create_task(find(30, until=until, bind=LOOPBACK, settle_seconds=0.05))
        await announcer.start(pairing(plain), LOOPBACK)
    found = finding.result()
    assert [one for one in found if one.mesh8 == plain.mesh_id8] == [
        Found(plain.mesh_id8, NODE, ("127.0.0.1",), 7433, 40001, ("2", "Z"), 1)
    ]


async def test_errors_of_the_caller_come_through(announcer: Announcer, plain: Announcement) -> None:
    def broken(found: list[Found]) -> bool:
        if not any(one.mesh8 == plain.mesh_id8 for one in found):
            return False
        raise TimeoutError(f"the caller's own, not the end of the search: {found}")

    async with asyncio.TaskGroup() as group:
        group.create_task(announcer.start(plain, LOOPBACK))
        with pytest.raises(TimeoutError, match="the caller's own"):
            await find(30, until=broken, bind=LOOPBACK)


async def test_an_echo_of_our_name_does_not_keep_us_silent(announcer: Announcer, plain: Announcement) -> None:
    """Two of the same name: the second is not refused, as a probe for clashes would."""
    second = Announcer()
    await announcer.start(plain, LOOPBACK)
    try:
        await second.start(plain, LOOPBACK)
    finally:
        await second.stop()


async def test_stop_without_start_is_harmless() -> None:
    await Announcer().stop()


async def test_without_a_network_there_is_no_error(announcer: Announcer, plain: Announcement) -> None:
    nowhere = ("192.0.2.200",)
    await announcer.start(plain, nowhere)
    assert plain.mesh_id8 not in {one.mesh8 for one in await find(0.1, bind=nowhere)}


async def test_port_taken_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(radio_module, "AsyncZeroconf", refuse)
    with pytest.raises(Conflict) as caught:
        await Radio().open()
    assert "--join" in caught.value.hint


async def test_multicast_probe_hears_itself() -> None:
    report = await probe_multicast(0.5, LOOPBACK)
    assert report.works
    assert [one.address for one in report.interfaces] == ["127.0.0.1"]
