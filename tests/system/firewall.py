"""A host's firewall without nftables: one TCP port is shut, by silence or with a refusal.

`python firewall.py INTERFACE PORT` answers each call to the port with "administratively prohibited", as
firewalld does. The call itself is dropped by `shut`.
"""

from __future__ import annotations

import socket
import struct
import sys

from lan import INTERFACE, Lan

PROHIBITED = 10
"""ICMP's code for a host that may not be reached (RFC 1812, 5.2.7.1)."""
UNREACHABLE = 3
TCP = 6
SYN = 0x02
IP_AND_PORTS = 28
"""What of a packet comes back in the message: its header and eight bytes."""


def shut(lan: Lan, host: str, port: str) -> None:
    """Drop all that comes for this port. The rules look before the table of own addresses is asked."""
    lan.check(host, ["ip", "rule", "add", "pref", "100", "lookup", "local"])
    lan.check(host, ["ip", "rule", "del", "pref", "0"])
    words = ["pref", "50", "iif", INTERFACE, "ipproto", "tcp", "dport", port]
    lan.check(host, ["ip", "rule", "add", *words, "blackhole"])


def open_again(lan: Lan, host: str) -> None:
    lan.check(host, ["ip", "rule", "add", "pref", "0", "lookup", "local"])
    lan.check(host, ["ip", "rule", "del", "pref", "50"])
    lan.check(host, ["ip", "rule", "del", "pref", "100"])


def refuse(interface: str, port: int) -> None:
    """For ever."""
    heard = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    heard.bind((interface, 0x0800))
    answers = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    print("ready", flush=True)
    while True:
        packet, (_, _, kind, *_) = heard.recvfrom(2048)
        length = (packet[0] & 0x0F) * 4
        segment = packet[length:]
        if kind != socket.PACKET_HOST or packet[9] != TCP or not segment[13] & SYN:
            continue
        if struct.unpack("!H", segment[2:4])[0] != port:
            continue
        body = bytes(4) + packet[: length + IP_AND_PORTS - 20]
        head = struct.pack("!BB", UNREACHABLE, PROHIBITED)
        answers.sendto(head + checksum(head + b"\0\0" + body) + body, (socket.inet_ntoa(packet[12:16]), 0))


def checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


if __name__ == "__main__":
    refuse(sys.argv[1], int(sys.argv[2]))
