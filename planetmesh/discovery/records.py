"""DNS records as zeroconf hands them over, and the two packets that we write ourselves.

The only file that imports zeroconf's record classes; it re-exports them, because zeroconf offers them at its
top but lists them nowhere.
"""

from __future__ import annotations

import ipaddress

# attr-defined: zeroconf imports these at its top for its users but names them in no __all__.
from zeroconf import (  # type: ignore[attr-defined]
    DNSAddress,
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    DNSRecord,
    DNSService,
    DNSText,
)

from planetmesh.discovery.announcement import SERVICE_TYPE, Instance, read_host_name, read_instance_name

TYPE_PTR = 12
TYPE_TXT = 16
CLASS_IN = 1
QUESTION = 0
ANSWER = 0x8400
"""An authoritative response, as mDNS wants it."""

__all__ = [
    "DNSAddress",
    "DNSPointer",
    "DNSRecord",
    "DNSService",
    "DNSText",
    "address_text",
    "instance_of",
    "question",
    "text_answer",
]


def question(service_type: str) -> DNSOutgoing:
    """Who offers this kind of service?

    The answer is wanted by multicast: one sent to port 5353 of this machine alone may end in the socket of
    another mDNS program.
    """
    packet = DNSOutgoing(QUESTION)
    packet.add_question(DNSQuestion(service_type, TYPE_PTR, CLASS_IN))
    return packet


def text_answer(name: str, text: bytes, ttl_seconds: int) -> DNSOutgoing:
    """One TXT record of one string."""
    packet = DNSOutgoing(ANSWER)
    record = DNSText(name, TYPE_TXT, CLASS_IN, ttl_seconds, bytes([len(text)]) + text)
    packet.add_answer_at_time(record, 0)
    return packet


def instance_of(record: DNSRecord) -> Instance | None:
    """Whom of ours the record speaks of, or None if its name does not fit the grammar."""
    if isinstance(record, DNSPointer):
        return read_instance_name(record.alias.lower()) if record.key == SERVICE_TYPE else None
    if isinstance(record, DNSService | DNSText):
        return read_instance_name(record.key)
    if isinstance(record, DNSAddress):
        return read_host_name(record.key)
    return None


def address_text(record: DNSAddress) -> str | None:
    """The address, with its zone if it is link-local; None if it cannot be dialled."""
    try:
        ip = ipaddress.ip_address(record.address)
    except ValueError:
        return None
    if ip.version == 4 or not ip.is_link_local:
        return str(ip)
    return f"{ip}%{record.scope_id}" if record.scope_id else None
