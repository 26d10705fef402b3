"""Who is let in: our own page in a browser here, with the token. Nobody else, other users included.

Three questions, each against another intruder:

- `Host` must name this machine: a page whose own name was made to point here (DNS rebinding) says its name.
- `Origin` must be the very address that was asked, port included: pages of other sites and of other servers
  on this machine can open WebSockets to here, and browsers say from where.
- The token must come along: other users of this machine can connect to any port, and say what they like.
"""

from __future__ import annotations

import re
import secrets
from typing import Protocol

PROTOCOL = "planetmesh-dashboard"
"""What a session is offered as; the token stands beside it, for browsers let pages set no other header."""
TOKEN_BYTES = 32
HOST = re.compile(r"(?:127\.0\.0\.1|localhost)(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
"""Any port: it may be forwarded by ssh. `localhost` is this machine in every browser."""


class Headers(Protocol):
    """A request's headers, as aiohttp gives them: names whatever their case, values in their order."""

    def getall(self, key: str, default: list[str], /) -> list[str]: ...
    def __contains__(self, key: object, /) -> bool: ...


class Door:
    """One server's door. Its token lives in memory, and no longer than the server."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(TOKEN_BYTES)

    def lets_look(self, headers: Headers) -> bool:
        """Whether somebody may have the page's files, which are the same for everybody and say nothing."""
        return HOST.fullmatch(_only(headers, "Host")) is not None and (
            "Origin" not in headers or _is_own_page(headers)
        )

    def lets_in(self, headers: Headers) -> bool:
        """Whether somebody may have a session: do all that this user may do with the mesh."""
        offered = [each.strip() for each in _only(headers, "Sec-WebSocket-Protocol").split(",")]
        return (
            self.lets_look(headers)
            and _is_own_page(headers)
            and len(offered) == 2
            and offered[0] == PROTOCOL
            and secrets.compare_digest(_bytes(offered[1]), _bytes(self.token))
        )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # how aiohttp reads what is no UTF-8


def _is_own_page(headers: Headers) -> bool:
    return _only(headers, "Origin") == f"http://{_only(headers, 'Host')}"


def _only(headers: Headers, name: str) -> str:
    """A header that must stand there once; nothing if it does not."""
    values = headers.getall(name, [])
    return values[0] if len(values) == 1 else ""
