"""What a coordinator says by mDNS, and the strict grammar by which we read what others say.

Pure. An announcement shows that planetmesh runs, eight digits of the mesh, eight of the node, ports and the
slots of open pairing windows: no name of a person, machine or mesh. What does not fit is not there.
"""

from __future__ import annotations

import re

import msgspec

SERVICE_TYPE = "_planetmesh._tcp.local."
PROTOCOL_VERSION = 1
LONGEST_TEXT_BYTES = 400
"""A full announcement has about 80 bytes; room for keys to come."""
MOST_SLOTS = 16
"""More open pairing windows than one coordinator allows."""
NOTHING_HEARD_HINT = (
    "If a coordinator is running on this LAN: let UDP port 5353 (mDNS) through its firewall and this one, "
    "or go there directly: `planetmesh up --join HOST:PORT`. `planetmesh doctor` looks closer."
)

_INSTANCE = re.compile(r"([0-9a-f]{8})-([0-9a-f]{8})")
_HEX8 = re.compile(r"[0-9a-f]{8}")
_SLOT = re.compile(r"[0-9A-Z]{1,4}")
_VERSION = re.compile(r"[1-9][0-9]{0,3}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_ENTRY = re.compile(r"([a-z][a-z0-9]{0,8})=([\x20-\x7e]*)")
_HOST_PREFIX = "planetmesh-"

Instance = tuple[str, str]
"""First eight digits of the mesh id and of the node id."""


class Announcement(msgspec.Struct, frozen=True):
    """What one coordinator says. Eight digits are the first eight of the full hexadecimal id."""

    mesh_id8: str
    node_id8: str
    port: int
    pair_port: int | None = None
    """Of the pairing listener, while a window is open."""
    slots: tuple[str, ...] = ()
    """Of the open pairing windows: the first symbol of each code."""
    version: int = PROTOCOL_VERSION

    def __post_init__(self) -> None:
        known = read_instance_name(instance_name(self.instance)) == self.instance
        if not known or read_text(write_text(self)) != self.hints:
            raise ValueError("an announcement that we would not accept ourselves")

    @property
    def hints(self) -> Hints:
        return Hints(self.version, self.mesh_id8, self.port, self.pair_port, self.slots)

    @property
    def instance(self) -> Instance:
        return (self.mesh_id8, self.node_id8)


class Found(msgspec.Struct, frozen=True):
    """A coordinator as the LAN describes it. A hint, never a fact: TLS decides who answers there."""

    mesh8: str
    node8: str
    addresses: tuple[str, ...]
    """IPv4 first, of those the ones in our own network first; link-local last (with its zone)."""
    port: int
    pair_port: int | None
    slots: tuple[str, ...]
    version: int


class Hints(msgspec.Struct, frozen=True):
    """The TXT record of one instance."""

    version: int
    mesh8: str
    port: int
    pair_port: int | None
    slots: tuple[str, ...]


def write_text(announcement: Announcement) -> bytes:
    """The TXT record: length-prefixed `key=value` strings."""
    pairs = [
        ("v", str(announcement.version)),
        ("mesh", announcement.mesh_id8),
        ("port", str(announcement.port)),
    ]
    if announcement.pair_port is not None:
        pairs += [("pair", str(announcement.pair_port)), ("slot", ",".join(announcement.slots))]
    entries = [f"{key}={value}".encode("ascii", "replace") for key, value in pairs]
    return b"".join(bytes([min(len(entry), 255)]) + entry[:255] for entry in entries)


def read_text(text: bytes) -> Hints | None:
    """The hints in a TXT record, or None if it does not fit the grammar to the letter."""
    entries = _entries(text)
    if entries is None:
        return None
    version, mesh8 = entries.get("v", ""), entries.get("mesh", "")
    port = _port(entries.get("port", ""))
    if not _VERSION.fullmatch(version) or not _HEX8.fullmatch(mesh8) or port is None:
        return None
    if ("pair" in entries) != ("slot" in entries):
        return None
    if "pair" not in entries:
        return Hints(int(version), mesh8, port, None, ())
    pair_port, slots = _port(entries["pair"]), tuple(entries["slot"].split(","))
    fits = len(set(slots)) == len(slots) <= MOST_SLOTS and all(_SLOT.fullmatch(slot) for slot in slots)
    if pair_port is None or not fits:
        return None
    return Hints(int(version), mesh8, port, pair_port, slots)


def instance_name(instance: Instance) -> str:
    return f"{instance[0]}-{instance[1]}.{SERVICE_TYPE}"


def host_name(instance: Instance) -> str:
    """The announced host: made up from the instance, so that the machine's own name stays private."""
    return f"{_HOST_PREFIX}{instance[0]}-{instance[1]}.local."


def read_instance_name(name: str) -> Instance | None:
    return _instance(name, "", "." + SERVICE_TYPE)


def read_host_name(name: str) -> Instance | None:
    return _instance(name, _HOST_PREFIX, ".local.")


def is_port(number: int) -> bool:
    return 1 <= number <= 65535


def _instance(name: str, prefix: str, suffix: str) -> Instance | None:
    if not name.startswith(prefix) or not name.endswith(suffix):
        return None
    match = _INSTANCE.fullmatch(name, len(prefix), len(name) - len(suffix))
    return (match[1], match[2]) if match else None


def _port(text: str) -> int | None:
    if not _PORT.fullmatch(text) or not is_port(int(text)):
        return None
    return int(text)


def _entries(text: bytes) -> dict[str, str] | None:
    """Keys and values; None at the first entry that is cut short, doubled, or not printable ASCII."""
    if len(text) > LONGEST_TEXT_BYTES:
        return None
    entries: dict[str, str] = {}
    at = 0
    while at < len(text):
        end = at + 1 + text[at]
        match = _ENTRY.fullmatch(text[at + 1 : end].decode("ascii", "replace"))
        if end > len(text) or match is None or match[1] in entries:
            return None
        entries[match[1]] = match[2]
        at = end
    return entries
