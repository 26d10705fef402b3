"""What a host does in the discovery tests: announce, find, browse, probe, or pour garbage on the LAN.

    python discovery_host.py announce MESH8 NODE8 PORT [PAIR_PORT SLOT]
    python discovery_host.py find SECONDS [count N | slot S]
    python discovery_host.py browse
    python discovery_host.py probe SECONDS
    python discovery_host.py flood invalid|valid

One JSON line per result on stdout.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
import sys
import time
from pathlib import Path

import msgspec

from planetmesh.discovery import Announcement, Announcer, Browser, Found, find, probe_multicast

GROUP = ("224.0.0.251", 5353)
FLOODED = 10_000
PER_PACKET = 20


def say(value: object) -> None:
    print(json.dumps(msgspec.to_builtins(value)), flush=True)


async def announce(mesh8: str, node8: str, port: str, pair_port: str = "", slot: str = "") -> None:
    pairing = (int(pair_port), (slot,)) if pair_port else (None, ())
    announcer = Announcer()
    await announcer.start(Announcement(mesh8, node8, int(port), *pairing))
    say("announced")
    try:
        async with asyncio.TaskGroup() as group:
            follower = group.create_task(announcer.follow_adapters())
            await asyncio.to_thread(sys.stdin.readline)
            follower.cancel()
    finally:
        await announcer.stop()
    say("stopped")


async def look(seconds: str, what: str = "", value: str = "") -> None:
    def until(found: list[Found]) -> bool:
        if what == "count":
            return len(found) >= int(value)
        return what == "slot" and any(value in one.slots for one in found)

    began = time.monotonic()
    found = await find(float(seconds), until=until)
    say({"found": found, "seconds": time.monotonic() - began, "memory_bytes": most_memory_bytes()})


def most_memory_bytes() -> int:
    """The peak of this program (getrusage would also count the program that forked it)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def browse() -> None:
    await Browser().run(say)


async def probe(seconds: str) -> None:
    say(await probe_multicast(float(seconds)))


def flood(kind: str) -> None:
    """10 000 instances, over and over, without zeroconf's own limits on what may be said."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        sender.bind(("", 5353))
        packets = [garbage(kind) for _ in range(FLOODED // PER_PACKET)]
        say("flooding")
        while True:
            for packet in packets:
                sender.sendto(packet, GROUP)
                time.sleep(0.002)


def garbage(kind: str) -> bytes:
    if kind == "invalid":
        return secrets.choice([_huge_text, _wild_text, _bad_port, _nonsense])()
    answers = b"".join(_instance(_valid_text(7433), 7433, hostile_address()) for _ in range(PER_PACKET))
    return _packet(answers, PER_PACKET * 4)


def hostile_address() -> bytes:
    """Half of them all in the same name, half in the name of any machine of the LAN."""
    if secrets.randbelow(2):
        return bytes([10, 99, 99, 99])
    return bytes([10, 77, secrets.randbelow(256), secrets.randbelow(256)])


def _huge_text() -> bytes:
    return _packet(_instance(b"\x09v=1mesh=xx" + b"\xff" + b"A" * 255 * 30, 7433), 4)


def _wild_text() -> bytes:
    text = _strings(b"v=1", b"mesh=\xff\xfe\xfd", b"port=7433", b"\x1b]0;owned\x07=\x1b[31m")
    return _packet(_instance(text, 7433), 4)


def _bad_port() -> bytes:
    port = secrets.choice([0, 70000])
    return _packet(_instance(_valid_text(port), 0), 4)


def _nonsense() -> bytes:
    return secrets.token_bytes(secrets.randbelow(1400) + 1)


def _valid_text(port: int) -> bytes:
    return _strings(b"v=1", b"mesh=@@@@@@@@", b"port=%d" % port)


def _instance(text: bytes, port: int, address: bytes = b"\x0a\x63\x63\x63") -> bytes:
    mesh8, node8 = secrets.token_hex(4), secrets.token_hex(4)
    kind = _name("_planetmesh", "_tcp", "local")
    name = _name(f"{mesh8}-{node8}", "_planetmesh", "_tcp", "local")
    host = _name(f"planetmesh-{mesh8}-{node8}", "local")
    text = text.replace(b"@@@@@@@@", mesh8.encode())
    return (
        _record(kind, 12, 4500, name)
        + _record(name, 33, 4500, struct.pack("!HHH", 0, 0, port) + host)
        + _record(name, 16, 4500, text)
        + _record(host, 1, 4500, address)
    )


def _name(*labels: str) -> bytes:
    return _strings(*(label.encode() for label in labels)) + b"\0"


def _strings(*parts: bytes) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in parts)


def _record(name: bytes, kind: int, ttl: int, data: bytes) -> bytes:
    return name + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def _packet(answers: bytes, count: int) -> bytes:
    return struct.pack("!HHHHHH", 0, 0x8400, 0, count, 0, 0) + answers


def main(what: str, *arguments: str) -> None:
    if what == "flood":
        flood(*arguments)
        return
    asyncio.run({"announce": announce, "find": look, "browse": browse, "probe": probe}[what](*arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
