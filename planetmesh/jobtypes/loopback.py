"""Addresses of servers on a node's own loopback: the only ones that tasks are told of."""

from __future__ import annotations

import re
from ipaddress import ip_address

import msgspec

from planetmesh.errors import BadInput

SERVER_VARIABLE = "PLANETMESH_EMBEDDING_SERVER"
"""On a node: where its OpenAI-compatible server is, like http://127.0.0.1:8080/v1."""
OLLAMA_VARIABLE = "OLLAMA_HOST"
"""Ollama's own: where it listens if not at its usual place."""
OLLAMA_USUAL = "http://127.0.0.1:11434"
_URL = re.compile(r"(?:(http)://)?(localhost|\[[0-9a-fA-F:]+\]|[0-9.]+)(?::(\d{1,5}))?(/[A-Za-z0-9._~/-]*)?")


class Loopback(msgspec.Struct, frozen=True):
    """Where a server listens on this machine."""

    host: str
    port: int
    path: str = ""
    """Before what is asked for; without a slash at its end."""


def read_loopback(text: str, usual_port: int = 80) -> Loopback:
    """From a URL, or host and port alone; raises BadInput for all that is not this machine's loopback."""
    match = _URL.fullmatch(text.strip())
    port = int(match[3] or usual_port) if match else 0
    if match is None or not 0 < port < 65_536:
        raise BadInput(
            f"{text[:80]!a} is no address of a server here.", hint="Say it like http://127.0.0.1:8080/v1"
        )
    host = match[2].strip("[]")
    if host == "0.0.0.0":  # noqa: S104  as Ollama writes "everywhere": that includes loopback
        host = "127.0.0.1"
    try:
        is_loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise BadInput(
            f"{text[:80]!a} is not on this machine's loopback.",
            hint="A model server is asked on 127.0.0.1, localhost or [::1] only.",
        )
    return Loopback("127.0.0.1" if host == "localhost" else host, port, (match[4] or "").rstrip("/"))


def ollama_address(said: str) -> str:
    """From what its variable says: a host or a port may be missing."""
    if not said:
        return OLLAMA_USUAL
    if re.fullmatch(r":\d{1,5}", said):
        return f"127.0.0.1{said}"
    return said
