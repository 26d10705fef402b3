"""What somebody on the same switch learns from a pairing and a job: that planetmesh runs (abuse test T01).

Everything that passes the coordinator's port of the switch is captured, put together again by connection,
and searched for whatever should stay between the machines. The same words sent in the clear are found.
"""

from __future__ import annotations

import platform
import secrets
import struct
import sys
from collections import defaultdict
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest
from fleet import PORT, Fleet
from meshes import Machine, wait_until

pytestmark = [pytest.mark.system, pytest.mark.slow]

CLEAR_PORT = 9999
ETHERNET = 1
TCP, UDP = 6, 17
LISTEN = f"""
import socket
server = socket.create_server(("0.0.0.0", {CLEAR_PORT}))
print("listening", flush=True)
server.accept()[0].recv(65536)
"""
SAY = f"""
import socket, sys
socket.create_connection((sys.argv[1], {CLEAR_PORT})).sendall(sys.stdin.buffer.read())
"""
Flow = tuple[int, bytes, int, bytes, int]
"""Protocol, source and its port, destination and its port."""


def test_nothing_of_a_pairing_and_a_job_passes_in_the_clear(fleet: Fleet, make_lan, tmp_path: Path) -> None:
    mark = secrets.token_hex(4)
    fleet.lan = make_lan(2)
    capture = tmp_path / "capture"
    dump = fleet.lan.run_on_switch(
        ["tcpdump", "-i", "p1", "-s", "0", "-U", "-Z", "root", "-w", str(capture)],
        stdout=DEVNULL,
        stderr=PIPE,
    )
    assert dump.stderr is not None
    while b"listening" not in (line := dump.stderr.readline()):
        assert line, "tcpdump did not start"

    fleet.desk = Machine(tmp_path / "desk", lan=fleet.lan, host="h1")
    fleet.desk.up("--new", "--no-agent", "--port", PORT, "--name", f"mesh-{mark}")
    shelf = fleet.agents["shelf"] = Machine(tmp_path / "shelf", lan=fleet.lan, host="h2")
    person = fleet.agents["person"] = Machine(tmp_path / "person", lan=fleet.lan, host="h2")
    where = f"{fleet.lan.address('h1')}:{PORT}"
    codes = [fleet.desk.code()["code"], fleet.desk.code("--role", "operator")["code"]]
    shelf.up("--name", f"shelf-{mark}", "--join", where, code=codes[0])
    login = ("login", "--role", "operator", "--join", where, "--code-stdin")
    assert person.call(*login, stdin=codes[1]).status == 0
    options = ("--name", f"job-{mark}", "--env", f"SECRET=env-{mark}")
    said = person.call(
        "run", *options, "sh", "-c", f"echo out-{mark} {{}}; : arg-{mark}", ":::", f"item-{mark}"
    )
    assert f"out-{mark} item-{mark}" in said.out, said.error
    assert f"shelf-{mark}" in person.call("nodes").out

    words = [f"{kind}-{mark}" for kind in ("mesh", "shelf", "job", "env", "out", "arg", "item")]
    needles = _spellings([*words, *_symbols(codes), platform.node(), "planetmesh/", "HTTP/1.1", "argv"])
    _say_in_the_clear(fleet, b" ".join(needles))
    clear = CLEAR_PORT
    wait_until(lambda: _found(_flows(capture), needles, clear) == set(needles), 60, lambda: "no control")
    flows = _flows(capture)
    secured = {flow: data for flow, data in flows.items() if clear not in (flow[2], flow[4])}
    looked_at = sum(map(len, secured.values()))
    kinds = {flow[0] for flow in secured}
    print(f"{looked_at} bytes of {len(secured)} flows searched for {len(needles)} spellings: none found")
    assert kinds >= {TCP, UDP}
    assert looked_at > 20_000
    assert int(PORT) in {flow[4] for flow in secured}
    found = {
        (needle, flow[2], flow[4]) for flow, data in secured.items() for needle in needles if needle in data
    }
    assert not found


def _symbols(codes: list[str]) -> list[str]:
    """The secret part of codes, as typed and without its dash; the slot is public."""
    secret = ["-".join(code.split("-")[1:3]) for code in codes]
    return [*secret, *(each.replace("-", "") for each in secret)]


def _spellings(words: list[str]) -> list[bytes]:
    return [
        each
        for word in words
        for each in (word.encode(), word.lower().encode(), word.encode("utf-16-le"), word[::-1].encode())
        if len(word) > 3
    ]


def _say_in_the_clear(fleet: Fleet, words: bytes) -> None:
    listening = fleet.lan.run("h1", [sys.executable, "-c", LISTEN], stdout=PIPE)
    assert listening.stdout is not None
    listening.stdout.readline()
    saying = fleet.lan.run("h2", [sys.executable, "-c", SAY, fleet.lan.address("h1")], stdin=PIPE)
    saying.communicate(words, timeout=10)
    listening.wait(60)


def _found(flows: dict[Flow, bytes], needles: list[bytes], port: int) -> set[bytes]:
    at_port = [data for flow, data in flows.items() if port in (flow[2], flow[4])]
    return {needle for needle in needles if any(needle in data for data in at_port)}


def _flows(capture: Path) -> dict[Flow, bytes]:
    """What was sent, by flow; the segments of a connection in their order."""
    segments: dict[Flow, dict[int, bytes]] = defaultdict(dict)
    content = capture.read_bytes()
    order = "<" if content[:4] == b"\xd4\xc3\xb2\xa1" else ">"
    assert struct.unpack_from(f"{order}I", content, 20)[0] == ETHERNET
    place, number = 24, 0
    while place + 16 <= len(content):
        length = struct.unpack_from(f"{order}I", content, place + 8)[0]
        frame = content[place + 16 : place + 16 + length]
        place += 16 + length
        number += 1
        _take(frame, number, segments)
    return {flow: b"".join(parts[key] for key in sorted(parts)) for flow, parts in segments.items()}


def _take(frame: bytes, number: int, segments: dict[Flow, dict[int, bytes]]) -> None:
    kind = frame[12:14]
    if kind == b"\x08\x00":
        size = (frame[14] & 15) * 4
        packet = frame[14 : 14 + int.from_bytes(frame[16:18], "big")]
        protocol, source, destination, inner = packet[9], packet[12:16], packet[16:20], packet[size:]
    elif kind == b"\x86\xdd":
        packet = frame[14 : 54 + int.from_bytes(frame[18:20], "big")]
        protocol, source, destination, inner = packet[6], packet[8:24], packet[24:40], packet[40:]
    else:
        return
    if protocol not in (TCP, UDP):
        return
    ports = struct.unpack_from("!HH", inner)
    flow = (protocol, source, ports[0], destination, ports[1])
    if protocol == UDP:
        segments[flow][number] = inner[8:]
    elif data := inner[(inner[12] >> 4) * 4 :]:
        segments[flow].setdefault(int.from_bytes(inner[4:8], "big"), data)
