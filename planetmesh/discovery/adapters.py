"""Which addresses of this machine face the LAN, and which do not, and why.

Reads the operating system through psutil; opens nothing. Used by the announcer and the browser, by `doctor`
(what was skipped) and by `code` (the address to type on the other machine).
"""

from __future__ import annotations

import ipaddress
import re
import socket

import msgspec
import psutil

from planetmesh.errors import BadInput

_VIRTUAL_NAMES = re.compile(
    r"(docker|podman|cni|flannel|cali|veth|br-(?!lan)|virbr|lxcbr|lxdbr"  # containers; not br-lan
    r"|vmnet|vboxnet|virtualbox|vmware|vethernet \((wsl|default switch)"  # virtual machines
    r"|tun|tap|utun|wg|tailscale|zt|zerotier|ppp|ipsec|nordlynx"  # VPN
    r"|awdl|llw|anpi)",  # Apple's own radio links
    re.IGNORECASE,
)
"""Beginnings of names. An address announced on such a network is one that other machines cannot reach."""
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  compared with what the user typed, nothing is bound


class InterfaceAddress(msgspec.Struct, frozen=True):
    """One address of one network interface. A link-local IPv6 address carries its zone (`fe80::1%eth0`)."""

    name: str
    address: str
    prefix: int
    index: int = 0
    """The system's number of the interface: it changes when a cable or stick is plugged anew. 0: unknown."""

    @property
    def version(self) -> int:
        return 6 if ":" in self.address else 4

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """The addresses that are reached directly through this interface."""
        return ipaddress.ip_network(f"{self.address.partition('%')[0]}/{self.prefix}", strict=False)


class SkippedInterface(msgspec.Struct, frozen=True):
    """An interface that planetmesh leaves alone, and the reason in words."""

    name: str
    reason: str


def usable_addresses(bind: tuple[str, ...] = ()) -> list[InterfaceAddress]:
    """This machine's addresses on the LAN: IPv4 first, link-local last.

    With `bind`, exactly those of them that exist at the moment. Otherwise loopback, bridges of containers
    and virtual machines, VPNs and interfaces that are down are left out; if that leaves nothing (we may live
    in a container ourselves), names no longer count.
    """
    everything = _all_addresses()
    wanted = _wanted(bind)
    if wanted:
        return _in_order([entry for entry in everything if entry.address.partition("%")[0] in wanted])
    skipped = {skip.name for skip in skipped_interfaces()}
    usable = [entry for entry in everything if entry.name not in skipped and not _is_loopback(entry)]
    return _in_order(usable)


def skipped_interfaces() -> list[SkippedInterface]:
    """The interfaces with addresses that `usable_addresses()` leaves out, with the reason."""
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    entries = _all_addresses(up_only=False)
    names = sorted({entry.name for entry in entries})
    loopback = {entry.name for entry in entries if _is_loopback(entry)}
    physical = [n for n in names if n in up and n not in loopback and not _VIRTUAL_NAMES.match(n)]
    skipped: list[SkippedInterface] = []
    for name in names:
        if name in loopback:
            skipped.append(SkippedInterface(name, "loopback: reaches only this machine"))
        elif name not in up:
            skipped.append(SkippedInterface(name, "down"))
        elif physical and _VIRTUAL_NAMES.match(name):
            skipped.append(SkippedInterface(name, "container, virtual machine or VPN, by its name"))
    return skipped


def check_bind(bind: tuple[str, ...]) -> None:
    """Raise BadInput if one of the `--bind` addresses is not an address that this machine has."""
    have = {entry.address.partition("%")[0] for entry in _all_addresses()}
    for text in bind:
        if text in _EVERYWHERE or _normal(text) in have:
            continue
        raise BadInput(
            f"This machine has no address {text} at the moment.",
            hint=f"It has: {', '.join(sorted(have)) or 'none'}.",
        )


def _all_addresses(*, up_only: bool = True) -> list[InterfaceAddress]:
    stats = psutil.net_if_stats()
    found: list[InterfaceAddress] = []
    for name, addresses in psutil.net_if_addrs().items():
        if up_only and not (name in stats and stats[name].isup):
            continue
        index = _index(name)
        found.extend(
            InterfaceAddress(name, entry.address, _prefix(entry.address, entry.netmask), index)
            for entry in addresses
            if entry.family in {socket.AF_INET, socket.AF_INET6}
        )
    return found


def _index(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:  # Windows: psutil gives friendly names, which the system's call does not know
        return 0


def _prefix(address: str, netmask: str | None) -> int:
    if ":" not in address:
        return ipaddress.ip_network(f"0.0.0.0/{netmask}").prefixlen if netmask else 32
    if not netmask:
        return 64  # Windows does not tell; a LAN's IPv6 network is a /64
    return int(ipaddress.IPv6Address(netmask.partition("%")[0])).bit_count()


def _is_loopback(entry: InterfaceAddress) -> bool:
    return ipaddress.ip_address(entry.address.partition("%")[0]).is_loopback


def _wanted(bind: tuple[str, ...]) -> frozenset[str]:
    if _EVERYWHERE.intersection(bind):
        return frozenset()
    return frozenset(_normal(text) for text in bind)


def _normal(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip("[]").partition("%")[0]))
    except ValueError as error:
        raise BadInput(
            f"{text} is not an IP address.", hint="Give an address of this machine, such as 192.168.1.20."
        ) from error


def _in_order(entries: list[InterfaceAddress]) -> list[InterfaceAddress]:
    def rank(entry: InterfaceAddress) -> tuple[bool, bool]:
        link_local = ipaddress.ip_address(entry.address.partition("%")[0]).is_link_local
        return (link_local, entry.version == 6)

    return sorted(entries, key=rank)
