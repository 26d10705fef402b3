"""Finding a coordinator on the LAN by mDNS: the only room that knows zeroconf.

All that comes from here is a hint: anybody on the LAN can announce anything, so TLS decides who is who, and
remembered or typed addresses come first. `adapters` (which network interfaces), `announcement` (what is said,
and its strict grammar), `candidates` (who was heard), `radio` (the sockets), `records`, `announcer`,
`browser` (`find`), `probe` (for `doctor`). zeroconf takes a quarter of a second to load, so the names that
need it are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planetmesh.discovery.adapters import (
    InterfaceAddress,
    SkippedInterface,
    check_bind,
    skipped_interfaces,
    usable_addresses,
)
from planetmesh.discovery.announcement import NOTHING_HEARD_HINT, Announcement, Found

if TYPE_CHECKING:
    from planetmesh.discovery.announcer import Announcer
    from planetmesh.discovery.browser import Browser, find
    from planetmesh.discovery.probe import InterfaceReport, MulticastReport, probe_multicast

__all__ = [
    "NOTHING_HEARD_HINT",
    "Announcement",
    "Announcer",
    "Browser",
    "Found",
    "InterfaceAddress",
    "InterfaceReport",
    "MulticastReport",
    "SkippedInterface",
    "check_bind",
    "find",
    "probe_multicast",
    "skipped_interfaces",
    "usable_addresses",
]

_LOADED_ON_USE = {
    "Announcer": "announcer",
    "Browser": "browser",
    "find": "browser",
    "InterfaceReport": "probe",
    "MulticastReport": "probe",
    "probe_multicast": "probe",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LOADED_ON_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LOADED_ON_USE[name]}"), name)
