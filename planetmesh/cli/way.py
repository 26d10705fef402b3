"""The way to a coordinator: each address tried by TCP alone, and what its silence means on a LAN."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from planetmesh.errors import BadInput
from planetmesh.model.endpoint import parse_endpoint

TRY_SECONDS = 3.5
"""Longer than Linux takes to give up asking for a machine's hardware address."""


ARP_COMPLETE = 0x2
"""Linux's flag of a neighbour whose hardware address is known."""


class Outcome(StrEnum):
    """How a connection attempt ended."""

    OPEN = "open"
    REFUSED = "refused"
    """A machine answered that nothing listens there."""
    SILENT = "silent"
    """Nothing came back: a firewall drops it, or the address is somebody else's far away."""
    NO_MACHINE = "no machine"
    """No machine of that address answers in its network."""
    REJECTED = "turned away"
    """The machine is there, and a firewall answers that it may not be reached."""
    NO_WAY = "no way"
    """This machine has no way to that network."""
    NO_NAME = "no name"


class Tried(msgspec.Struct, frozen=True):
    endpoint: str
    outcome: Outcome


_OUTCOMES = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.ECONNRESET: Outcome.REFUSED,
    errno.EHOSTUNREACH: Outcome.NO_MACHINE,
    errno.EHOSTDOWN: Outcome.NO_MACHINE,
    errno.ENETUNREACH: Outcome.NO_WAY,
    errno.EADDRNOTAVAIL: Outcome.NO_WAY,
}


async def try_all(endpoints: Iterable[str]) -> list[Tried]:
    """All at once; nothing is said to whoever answers."""
    return list(await asyncio.gather(*map(_try, endpoints)))


async def _try(endpoint: str) -> Tried:
    try:
        async with asyncio.timeout(TRY_SECONDS):
            _, writer = await asyncio.open_connection(*parse_endpoint(endpoint))
        writer.close()
    except TimeoutError:
        return Tried(endpoint, Outcome.SILENT)
    except (socket.gaierror, BadInput):
        return Tried(endpoint, Outcome.NO_NAME)
    except OSError as error:
        outcome = _OUTCOMES.get(error.errno or 0, Outcome.SILENT)
        if outcome is Outcome.NO_MACHINE and _is_seen(parse_endpoint(endpoint)[0]):
            outcome = Outcome.REJECTED
        return Tried(endpoint, outcome)
    return Tried(endpoint, Outcome.OPEN)


def _is_seen(host: str) -> bool:
    """Whether the machine of this IPv4 address has just told its hardware address (Linux).

    Where nobody has one the kernel says so in the same words as a firewall's refusal.
    """
    try:
        rows = Path("/proc/net/arp").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeError):
        return False
    entries = [row.split() for row in rows[1:]]
    return any(entry[0] == host and int(entry[2], 16) & ARP_COMPLETE for entry in entries if len(entry) > 3)


def explain(tried: Sequence[Tried], networks: Sequence[str]) -> tuple[str, str]:
    """Why none of these led there, in words, and what to do next. `networks`: this machine's own.

    What is known for certain outweighs silence, and silence outweighs an address of another network.
    """
    if not tried:
        return "No address of the coordinator is known here.", JOIN_HINT
    best = min(tried, key=lambda each: _RANK.index(each.outcome))
    host, _, port = best.endpoint.rpartition(":")
    outcome = best.outcome
    if outcome is Outcome.NO_MACHINE and not is_near(host, networks):
        outcome = Outcome.NO_WAY
    found = {
        Outcome.OPEN: f"{best.endpoint} takes connections, but does not answer us.",
        Outcome.REFUSED: f"A machine answers at {host}, but nothing listens on its port {port}.",
        Outcome.SILENT: f"Nothing comes back from {host}, port {port}.",
        Outcome.REJECTED: f"The machine {host} is there, but a firewall turns us away from port {port}.",
        Outcome.NO_MACHINE: f"No machine answers at {host} in this network.",
        Outcome.NO_NAME: f"Nobody knows the name {host}.",
        Outcome.NO_WAY: (
            f"This machine has no way to {host}; it is in {', '.join(networks) or 'no network'} itself."
        ),
    }[outcome]
    shown = ", ".join(f"{each.endpoint} ({each.outcome})" for each in tried)
    return f"{found} Tried: {shown}.", _HINTS[outcome].format(port=port)


JOIN_HINT = "Go there by its address: planetmesh up --join HOST:PORT"
_HINTS = {
    Outcome.OPEN: "It may be overloaded, or another program: look at that machine.",
    Outcome.REFUSED: (
        "Start `planetmesh up` there. If it runs, its address or port has changed (`planetmesh up --join "
        "HOST:PORT`), it uses another network, or a firewall there refuses TCP port {port}: "
        "`planetmesh doctor` there says."
    ),
    Outcome.SILENT: (
        "Let TCP port {port} through the firewall there (`ufw allow {port}/tcp`). Is that machine on, "
        "and in this network? A Wi-Fi may also keep its clients apart (AP isolation)."
    ),
    Outcome.REJECTED: (
        "Let TCP port {port} through the firewall there: `ufw allow {port}/tcp`, or `firewall-cmd "
        "--permanent --add-port={port}/tcp && firewall-cmd --reload`."
    ),
    Outcome.NO_MACHINE: (
        "It is off, or has another address now (`planetmesh up --join HOST:PORT`), or the Wi-Fi keeps its "
        "clients apart: switch client isolation (AP isolation, guest network) off in the router, or use "
        "a cable."
    ),
    Outcome.NO_NAME: JOIN_HINT,
    Outcome.NO_WAY: (
        "Connect both machines to one network (no guest Wi-Fi, no VPN that takes everything), or go there "
        "by an address that is reached from here: planetmesh up --join HOST:PORT"
    ),
}
_RANK = [
    Outcome.OPEN,
    Outcome.REFUSED,
    Outcome.REJECTED,
    Outcome.NO_MACHINE,
    Outcome.SILENT,
    Outcome.NO_WAY,
    Outcome.NO_NAME,
]


def is_near(host: str, networks: Sequence[str]) -> bool:
    """Whether this address lies in one of these networks; a name does not."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(network, strict=False) for network in networks)
