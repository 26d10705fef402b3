"""One request as a handler sees it: who asks, what was asked, and ways to answer.

Bodies and parameters are read here and nowhere else, with their limits; handlers stay short and never
touch a header. `Parts` is what all handlers share.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web

from planetmesh.coordinator.access import Access, Connection
from planetmesh.coordinator.api.memory import PairingFailures, Shelf, Submits, Turns, Weights
from planetmesh.coordinator.depot import Depot
from planetmesh.coordinator.distribution import Distribution
from planetmesh.coordinator.engine import Engine
from planetmesh.coordinator.enrolment import Enrolment
from planetmesh.errors import BadInput, TooLarge
from planetmesh.model.identity import Principal, Role
from planetmesh.settings import Settings
from planetmesh.store.changes import AuditRow, Changes
from planetmesh.trust.pairing_server import PairingDesk
from planetmesh.wire.codec import from_json, to_json

BODY_GRACE_SECONDS = 10.0
"""A body may take this long, and more by what it has brought."""
BODY_LEAST_BYTES_PER_SECOND = 256 * 1024
"""A poor Wi-Fi is faster; a body that comes slower is there to hold memory."""
SMALL_BODY_BYTES = 64 * 1024
"""Of everything but a job."""
LARGE_BODY_BYTES = 1024 * 1024
"""Bodies above this wait for each other, so that many of them cannot fill the memory."""
LARGE_AT_ONCE = 2
WAIT_MOST_SECONDS = 300.0
"""Longest long poll; clients ask again."""
TEXT_MOST = 300
"""Of a name or id in a path or query."""

T = TypeVar("T")


@dataclass(frozen=True)
class Parts:
    """What the handlers work with: the coordinator's parts, and what handlers remember between requests."""

    engine: Engine
    access: Access
    enrolment: Enrolment
    pairing: PairingDesk
    depot: Depot
    failures: PairingFailures = field(default_factory=PairingFailures)
    distribution: Distribution = field(default_factory=Distribution)
    shelf: Shelf = field(default_factory=Shelf)
    submits: Submits = field(default_factory=Submits)
    weights: Weights = field(default_factory=Weights)
    turns: Turns = field(default_factory=Turns)
    retries: asyncio.Lock = field(default_factory=asyncio.Lock)
    large_bodies: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_AT_ONCE))
    body_grace_seconds: float = BODY_GRACE_SECONDS
    open_ended: set[Connection] = field(default_factory=set)
    """On which an answer waits for what may never come: cut when the coordinator stops."""

    @property
    def settings(self) -> Settings:
        return self.engine.settings


class Call:
    """See the module. Made by `api.door` for requests that may be answered."""

    def __init__(self, parts: Parts, connection: Connection, request: web.Request) -> None:
        self.parts = parts
        self.connection = connection
        self.request = request
        self.body_bytes = 0
        """Length of the body, once it was read."""

    @property
    def principal(self) -> Principal:
        return self.connection.principal

    @property
    def may_see_secrets(self) -> bool:
        return self.principal.role is Role.OPERATOR

    def still_allowed(self) -> None:
        """Raise NotAllowed once the caller's certificate counts no more; ask while a stream is given."""
        self.parts.access.still_allowed(self.connection)

    @contextmanager
    def open_ended(self) -> Iterator[None]:
        """While the answer waits for what may never come: a coordinator that stops does not wait for it."""
        self.parts.open_ended.add(self.connection)
        try:
            yield
        finally:
            self.parts.open_ended.discard(self.connection)

    def audit(self, action: str, what: str, detail: str = "") -> AuditRow:
        """The row that says who did it; to go into the same transaction."""
        now, address = self.parts.engine.read_clock().wall, self.connection.address
        return AuditRow(now, self.principal.id, action, what, detail, address=address)

    def audited(self, action: str, what: str, detail: str = "") -> Changes:
        return Changes(audit=[self.audit(action, what, detail)])

    # What was asked

    def part(self, name: str) -> str:
        """A part of the path."""
        return _short(self.request.match_info[name], name)

    def index(self) -> int:
        """A task's index in the path."""
        text = self.part("index")
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise BadInput(f"'{text}' is not the index of a task.", hint="Tasks are counted from 0.")
        return int(text)

    def text(self, name: str) -> str | None:
        """A parameter of the query, if it is there once."""
        values = self.request.query.getall(name, [])
        if len(values) > 1:
            raise BadInput(f"The parameter '{name}' is given twice.")
        return _short(values[0], name) if values else None

    def flag(self, name: str) -> bool:
        return self.text(name) not in (None, "", "0", "false")

    def number(self, name: str, default: int, *, least: int = 0, most: int) -> int:
        """A whole number; one that is too large is taken down to `most`."""
        text = self.text(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= 18) or int(text) < least:
            raise BadInput(f"The parameter '{name}' is not a whole number of {least} or more.")
        return min(int(text), most)

    def wait_seconds(self) -> float:
        """How long the caller is ready to wait for the end of a job."""
        text = self.text("wait")
        if text is None:
            return 0.0
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not (math.isfinite(seconds) and seconds >= 0):
            raise BadInput("The parameter 'wait' is not a number of seconds.")
        return min(seconds, WAIT_MOST_SECONDS)

    async def body(self, kind: type[T], *, most_bytes: int = SMALL_BODY_BYTES, empty: T | None = None) -> T:
        """The body as JSON of this shape; `empty` stands for no body at all."""
        async with self._room_for(most_bytes):
            content = await self._read(most_bytes)
            self.body_bytes = len(content)
            if not content and empty is not None:
                return empty
            if len(content) <= LARGE_BODY_BYTES:
                return parse(content, kind, most_bytes)
            return await asyncio.to_thread(parse, content, kind, most_bytes)

    def _room_for(self, most_bytes: int) -> AbstractAsyncContextManager[None]:
        length = self.request.content_length
        expected = most_bytes if length is None else min(length, most_bytes)
        return self.parts.large_bodies if expected > LARGE_BODY_BYTES else nullcontext()

    async def _read(self, most_bytes: int) -> bytes:
        """All of the body, unless it is too large or comes too slowly."""
        request = self.request
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise BadInput("Compressed requests are not accepted.")
        too_large = TooLarge(f"The request is longer than the limit of {most_bytes} bytes.")
        if request.content_length is not None and request.content_length > most_bytes:
            raise too_large
        content = bytearray()
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            while not request.content.at_eof():
                late = started + self.parts.body_grace_seconds + len(content) / BODY_LEAST_BYTES_PER_SECOND
                async with asyncio.timeout_at(late):
                    content += await request.content.readany()
                if len(content) > most_bytes:
                    raise too_large
        except TimeoutError as error:
            self.connection.abort()
            raise BadInput("The request came too slowly.") from error
        return bytes(content)

    # The answer

    def answer(self, value: Any, *, status: int = 200) -> web.Response:
        return web.Response(body=to_json(value), status=status, content_type="application/json")


def parse(content: bytes, kind: type[T], most_bytes: int) -> T:
    """One JSON document; raises BadInput also for a key that comes twice, which would hide one of them."""
    value = from_json(content, kind, most_bytes=most_bytes)
    try:
        json.loads(content, object_pairs_hook=_refuse_twice)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The request could not be read: {error}") from error
    return value


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    """Forgets what it has read: only the keys of one object matter here."""
    if len({key for key, _value in pairs}) != len(pairs):
        keys = [key for key, _value in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:TEXT_MOST]!r} comes twice")


def _short(text: str, name: str) -> str:
    if len(text) > TEXT_MOST or "\0" in text:
        raise BadInput(f"The {name} is too long or holds a character that no name has.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"The {name} is not valid Unicode.") from error
    return text
