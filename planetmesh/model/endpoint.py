"""Where a coordinator can be reached: `HOST:PORT` as people type it and as we print it.

Pure: nothing is looked up. A host is an IPv4 address, an IPv6 address (in brackets when a port follows)
or a name. Used by `--join`, `code`, and wherever an endpoint is remembered.
"""

from __future__ import annotations

import ipaddress
import re

from planetmesh.errors import BadInput

DEFAULT_PORT = 7433
"""The main TLS port of a coordinator."""

_LONGEST = 300
"""A DNS name has at most 253 characters; the rest is brackets, zone and port."""
_LONGEST_NAME = 253
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_PORT = re.compile(r"[0-9]{1,5}")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,32}")
_HINT = "Write HOST:PORT, for example 192.168.1.20:7433, nas.local or [fe80::1%eth0]:7433."


def parse_endpoint(text: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Host and port of what somebody typed; raise BadInput if it cannot be one."""
    typed = text.strip()
    if not typed:
        raise BadInput("The address is empty.", hint=_HINT)
    if len(typed) > _LONGEST or not typed.isascii() or not typed.isprintable():
        raise BadInput("The address holds characters that no host has, or is too long.", hint=_HINT)
    if "://" in typed or "/" in typed or "@" in typed:
        raise BadInput(f"{typed} is not an address: leave out http://, paths and users.", hint=_HINT)
    host, port = _split(typed)
    return _checked_host(host, typed), default_port if port is None else _checked_port(port)


def format_endpoint(host: str, port: int) -> str:
    """`HOST:PORT`, with brackets where the host is an IPv6 address; `parse_endpoint` reads it back."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether an address means the machine itself, wherever it is said."""
    try:
        return ipaddress.ip_address(host.removeprefix("::ffff:")).is_loopback
    except ValueError:
        return False


def is_link_local(host: str) -> bool:
    """Whether an IPv6 address means something only together with one machine's own network card."""
    try:
        return ipaddress.IPv6Address(host).is_link_local
    except ValueError:
        return False


def _split(typed: str) -> tuple[str, str | None]:
    if typed.startswith("["):
        host, bracket, rest = typed[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise BadInput(f"The brackets in {typed} do not hold an IPv6 address.", hint=_HINT)
        return host, rest[1:] if rest else None
    if typed.count(":") > 1:
        return typed, None  # an IPv6 address without brackets has no room for a port
    host, colon, port = typed.partition(":")
    return host, port if colon else None


def _checked_port(port: str) -> int:
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise BadInput(f"The port must be a number from 1 to 65535, not {port or 'empty'}.", hint=_HINT)
    return int(port)


def _checked_host(host: str, typed: str) -> str:
    if ":" in host:
        return _checked_ipv6(host, typed)
    labels = host.removesuffix(".").split(".")
    if labels[-1].isdigit():
        return _checked_ipv4(host, typed)
    if len(host) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadInput(f"{typed} does not name a host.", hint=_HINT)
    return host


def _checked_ipv4(host: str, typed: str) -> str:
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError as error:
        raise BadInput(f"{typed} is not an IPv4 address.", hint=_HINT) from error
    _refuse_unreachable(address)
    return str(address)


def _checked_ipv6(host: str, typed: str) -> str:
    address_text, percent, zone = host.partition("%")
    try:
        address = ipaddress.IPv6Address(address_text)
    except ValueError as error:
        raise BadInput(f"{typed} is not an IPv6 address.", hint=_HINT) from error
    if percent and not _ZONE.fullmatch(zone):
        raise BadInput(f"{typed} names no network interface after the %.", hint=_HINT)
    _refuse_unreachable(address)
    return f"{address}{percent}{zone}"


def _refuse_unreachable(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
        raise BadInput(f"{address} is not the address of one machine.", hint=_HINT)
