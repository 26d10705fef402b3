"""One link to the coordinator at a time: hello, send, receive. Called by `reconnect`.

Owns the WebSocket and nothing else: what is durable lies in the outbox, what to do is the owner's. A
link ends by an error that says why: HungUp, NotAllowed (we are refused), or Unreachable and its like.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

import aiohttp
import msgspec
from yarl import URL

from planetmesh import __version__
from planetmesh.agent import renewal
from planetmesh.agent.outbox import Outbox
from planetmesh.agent.suspicion import LinkEnd, Suspicion, Verdict
from planetmesh.agent.window import Window
from planetmesh.errors import BadInput, MeshError, NotAllowed, PeerMisbehaved, Revoked, Unreachable
from planetmesh.groups import TaskGroup
from planetmesh.logs import clean
from planetmesh.model.endpoint import parse_endpoint
from planetmesh.settings import Settings
from planetmesh.trust.identity import ENDPOINTS_MOST, Identity
from planetmesh.trust.tls import client_context, refusal_in
from planetmesh.wire.agent import (
    Acknowledge,
    FromAgent,
    Goodbye,
    Ping,
    Pong,
    Registered,
    RegisterNode,
    ToAgent,
)
from planetmesh.wire.api import ErrorAnswer
from planetmesh.wire.codec import FRAME_MOST_BYTES, decode_to_agent, encode_frames

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
"""TCP, TLS and the upgrade: long for a LAN, short enough to try the next address."""
HELLO_SECONDS = 10.0
"""From the hello to its answer; the coordinator may be reading a large database."""
CLOSE_SECONDS = 1.0
ANSWER_SECONDS = 10.0
"""For a renewed certificate."""
ANSWER_MOST_BYTES = 64 * 1024
SILENT_HEARTBEATS = 6
"""The coordinator pings as often as we beat: after so many beats of silence the link is dead."""
SILENT_LEAST_SECONDS = 3.0
LONE_SECONDS = 3.0
"""How long all else waits for the confirmation of a message that is suspected to be refused."""
NONSENSE = "protocol"
"""Code of a goodbye to an agent that did not keep to the protocol."""
BATCH_BYTES = 900 * 1024
"""Read from the outbox at a time: less than one frame."""
SOFT_MOST = 65_536
"""Messages that need not survive, waiting for a slow link; the hello makes up for lost ones."""


class HungUp(Exception):
    """The coordinator said goodbye."""

    def __init__(self, goodbye: Goodbye) -> None:
        super().__init__(goodbye.reason or goodbye.code)
        self.code = goodbye.code
        self.reason = goodbye.reason
        self.is_answered = False
        """What it was about will be sent in another way: call again soon."""


class Owner(Protocol):
    """Who the link works for; the service. None of these may block."""

    def hello(self, first_unacknowledged: int) -> RegisterNode: ...

    def on_registered(self, registered: Registered, endpoint: str) -> None: ...

    def on_told(self, registered: Registered) -> None:
        """What the mesh asks of its agents, at the hello and whenever it changes; `Link.settings` has it."""

    def on_messages(self, messages: list[ToAgent]) -> None: ...

    def on_confirmed(self) -> None: ...

    def is_busy(self) -> bool:
        """More work is waiting here, so ends may wait a moment for company."""


AskCoordinator = Callable[[str, bytes], Awaitable[bytes]]
"""Posts JSON to a path on the link's own connection and gives the answer's."""
Beside = Callable[[str, AskCoordinator], Coroutine[Any, Any, None]]
"""Runs beside each link, from its hello to its end; gets the address that the link comes from."""


class Link:
    """Made once per agent process; talks to one coordinator after the other."""

    def __init__(self, identity: Identity, outbox: Outbox, owner: Owner, settings: Settings) -> None:
        self.is_up = False
        """Registered, as far as we know."""
        self._identity = identity
        self._outbox = outbox
        self._owner = owner
        self.settings = settings
        """This machine's own, and over them what the coordinator told."""
        self._soft: list[FromAgent] = []
        self._pongs: list[FromAgent] = []
        self._wake = asyncio.Event()
        self._window = Window(outbox.first_unacknowledged)
        self._suspicion = Suspicion()
        self._start = 0
        """The first durable message of this link."""
        self._alone = True
        """Nothing but durable messages was sent on it."""
        self._lone_until = 0.0
        """Until then by the loop's clock a suspect is to be confirmed before anything else is sent."""
        self.beside: Beside | None = None

    def post(self, message: FromAgent) -> None:
        """Send something that need not survive; dropped while there is no link."""
        if self.is_up and len(self._soft) < SOFT_MOST:
            self._soft.append(message)
            self._wake.set()

    def wake(self) -> None:
        """There is something new in the outbox."""
        self._wake.set()

    async def flush(self, seconds: float) -> bool:
        """Wait until all is sent and confirmed, so long at most; False if that was too short."""
        try:
            async with asyncio.timeout(seconds):
                while self._soft or self._outbox.first_unacknowledged < self._outbox.next_number:
                    if not self.is_up:
                        return False
                    self._wake.set()
                    await asyncio.sleep(self.settings.coalesce_seconds)
        except TimeoutError:
            return False
        return True

    async def talk(self, endpoint: str) -> None:
        """Connect there and stay until the link ends. Always raises: HungUp or a MeshError."""
        try:
            await self._talk(endpoint)
        except HungUp as goodbye:
            self._judge(goodbye)
            raise
        except ExceptionGroup as group:
            error = _in_words(_most_telling(group), endpoint)
            self._judge(error)
            raise error from group
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _in_words(error, endpoint) from error
        finally:
            self.is_up = False
            self._soft.clear()
            self._pongs.clear()

    def _judge(self, error: Exception) -> None:
        """Learn from the end of a link whether one of our messages is the reason, and then tell another."""
        if not self.is_up:
            return
        refused = isinstance(error, HungUp) and error.code == NONSENSE
        first, sent = self._outbox.first_unacknowledged, self._window.next_number
        verdict = self._suspicion.on_end(LinkEnd(self._start, first, sent, self._alone, refused))
        if not isinstance(error, HungUp) or verdict is Verdict.NOTHING:
            return
        error.is_answered = True
        if verdict is Verdict.GUILTY:
            self._outbox.set_aside(f"the coordinator refuses it ({clean(error.reason)})")

    async def _talk(self, endpoint: str) -> None:
        host, port = parse_endpoint(endpoint)
        base = URL.build(scheme="https", host=host, port=port)
        async with _session(self._identity) as session, await _open_socket(session, base) as socket:
            await self._greet(socket, endpoint)
            async with TaskGroup() as group:
                group.create_task(self._send(socket))
                group.create_task(self._receive(socket))
                ask = partial(_ask, session, base)
                group.create_task(renewal.keep(self._identity, partial(ask, "v1/certs/renew")))
                if self.beside is not None:
                    local = socket.get_extra_info("sockname")
                    group.create_task(self.beside(str(local[0]), ask))

    # Hello

    async def _greet(self, socket: aiohttp.ClientWebSocketResponse, endpoint: str) -> None:
        """Say who we are and what we hold; take the answer in."""
        self._window = Window(self._outbox.first_unacknowledged)
        self._start = self._window.next_number
        self._alone, self._lone_until = True, 0.0
        hello = self._owner.hello(self._window.next_number)
        await _send_all(socket, [hello])
        async with asyncio.timeout(HELLO_SECONDS):
            while not self.is_up:
                messages = await _next_frame(socket, HELLO_SECONDS)
                self._take(messages, endpoint)
                await self._answer_pings(socket)

    def _take(self, messages: list[ToAgent], endpoint: str = "") -> None:
        """Keep what is the link's own and pass the rest on."""
        rest: list[ToAgent] = []
        for message in messages:
            match message:
                case Goodbye():
                    raise HungUp(message)
                case Ping(number):
                    self._pongs.append(Pong(number))
                case Acknowledge(upto):
                    self._outbox.acknowledge(self._window.confirm(upto))
                    self._lone_until = 0.0
                    self._wake.set()
                    self._owner.on_confirmed()
                case Registered():
                    self._on_registered(message, endpoint)
                case _:
                    rest.append(message)
        if rest and not self.is_up:
            raise PeerMisbehaved("The coordinator gave orders before it registered us.")
        if rest:
            self._owner.on_messages(rest)

    def _on_registered(self, registered: Registered, endpoint: str) -> None:
        self.settings = _as_told(self.settings, registered)
        self._owner.on_told(registered)
        if self.is_up:
            return
        self.is_up = True
        self._remember(registered.endpoints, endpoint)
        self._owner.on_registered(registered, endpoint)

    def _remember(self, others: tuple[str, ...], endpoint: str) -> None:
        """Where the coordinator can be reached from now on: the address that worked first of all."""
        known = self._identity.membership.endpoints
        for other in others[:ENDPOINTS_MOST]:
            if other not in known and is_endpoint(other):
                self._identity.remember_endpoint(other)
        self._identity.remember_endpoint(endpoint)

    # Talking

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Until the link ends. Silence counts as its end: a cut cable says nothing."""
        while True:
            patience = max(SILENT_LEAST_SECONDS, SILENT_HEARTBEATS * self.settings.heartbeat_seconds)
            self._take(await _next_frame(socket, patience))
            await self._answer_pings(socket)

    async def _answer_pings(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """At once, past all that waits: the coordinator measures the way by it."""
        if self._pongs:
            pongs, self._pongs = self._pongs, []
            await _send_all(socket, pongs)

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Soft messages first: a start is told before its end. While it is busy here all wait for company."""
        while True:
            await self._wake.wait()
            if self._owner.is_busy() and self._has_news:
                await asyncio.sleep(self.settings.coalesce_seconds)
            messages = self._next_messages()
            if not messages:
                self._wake.clear()
                continue
            try:
                await _send_all(socket, messages)
            except (aiohttp.ClientError, ConnectionError):
                # The receiver tells why, perhaps with a goodbye that is still to be read.
                return

    @property
    def _has_news(self) -> bool:
        """Something waits to be sent, not only an acknowledgement to be noted."""
        return bool(self._soft) or self._window.next_number < self._outbox.next_number

    def _next_messages(self) -> list[Any]:
        """What goes out next; a suspect that begins a link goes alone, and all else waits for it."""
        number, now = self._window.next_number, asyncio.get_running_loop().time()
        records = self._next_records()
        raw: list[Any] = [msgspec.Raw(record) for record in records]
        if records and number == self._start and self._alone and self._suspicion.is_careful(number):
            self._lone_until = now + LONE_SECONDS
            return raw
        if now < self._lone_until:
            return raw
        soft, self._soft = self._soft, []
        self._alone = self._alone and not soft
        return [*soft, *raw]

    def _next_records(self) -> list[bytes]:
        window = self._window
        careful = self._suspicion.is_careful(window.next_number)
        if not window.is_open or (careful and window.next_number > self._outbox.first_unacknowledged):
            return []
        most_bytes = min(BATCH_BYTES, window.room_bytes)
        most_count = 1 if careful else window.room_messages
        records = self._outbox.read(window.next_number, most_bytes=most_bytes, most_count=most_count)
        if records:
            window.sent(len(records), sum(map(len, records)))
        return records


def _as_told(settings: Settings, registered: Registered) -> Settings:
    """The settings with what the coordinator says of them."""
    told = {
        "heartbeat_seconds": registered.heartbeat_seconds,
        "coalesce_seconds": registered.coalesce_seconds,
        "prefill_most": registered.prefill_most,
    }
    said = {name: value for name, value in told.items() if value is not None}
    return msgspec.structs.replace(settings, **said)


def is_endpoint(text: str) -> bool:
    try:
        parse_endpoint(text)
    except BadInput:
        return False
    return True


@asynccontextmanager
async def _session(identity: Identity) -> AsyncIterator[aiohttp.ClientSession]:
    """A fresh one for each link, so that a renewed certificate is used from the next link on."""
    connector = aiohttp.TCPConnector(ssl=client_context(identity), limit=4, force_close=False)
    headers = {"User-Agent": f"planetmesh/{__version__}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers, trust_env=False) as session:
        yield session


async def _upgrade(session: aiohttp.ClientSession, base: URL) -> aiohttp.ClientWebSocketResponse:
    async with asyncio.timeout(CONNECT_SECONDS):
        return await session.ws_connect(
            base / "v1/agent",
            compress=0,
            max_msg_size=FRAME_MOST_BYTES,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
        )


async def _open_socket(session: aiohttp.ClientSession, base: URL) -> aiohttp.ClientWebSocketResponse:
    try:
        return await _upgrade(session, base)
    except aiohttp.WSServerHandshakeError as error:
        if error.status in {401, 403}:
            raise await _why_refused(session, base) from error
        raise


async def _why_refused(session: aiohttp.ClientSession, base: URL) -> NotAllowed:
    """A refused upgrade does not say why: ask again, without the upgrade."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS), session.get(base / "v1/agent") as answer:
            content = await answer.content.read(ANSWER_MOST_BYTES)
        said = msgspec.json.decode(content, type=ErrorAnswer).error
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError, UnicodeError):
        return NotAllowed("The coordinator refused this machine.")
    refused = Revoked if said.code == Revoked.code else NotAllowed
    return refused(f"The coordinator refused this machine: {clean(said.message)}")


async def _send_all(socket: aiohttp.ClientWebSocketResponse, messages: Any) -> None:
    for _, frame in encode_frames(messages):
        await socket.send_bytes(frame)


async def _next_frame(socket: aiohttp.ClientWebSocketResponse, seconds: float) -> list[ToAgent]:
    message = await socket.receive(timeout=seconds)
    if message.type is aiohttp.WSMsgType.BINARY:
        return decode_to_agent(message.data)
    if message.type is aiohttp.WSMsgType.TEXT:
        raise PeerMisbehaved("A text frame came where only binary ones are spoken.")
    raise Unreachable("The coordinator closed the link.") from socket.exception()


async def _ask(session: aiohttp.ClientSession, base: URL, path: str, body: bytes) -> bytes:
    """Post JSON there and give the answer's; raises Unreachable, or NotAllowed if it is not wanted."""
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            session.post(base / path, data=body, headers={"Content-Type": "application/json"}) as answer,
        ):
            content = await answer.content.read(ANSWER_MOST_BYTES)
            if answer.status != 200:
                raise NotAllowed(f"The coordinator refused to answer at {path} (HTTP {answer.status}).")
            return content
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unreachable(f"The coordinator did not answer at {path}.") from error


def _in_words(error: Exception, endpoint: str) -> Exception:
    """Why a link ended. Only the right coordinator can refuse us: anybody else is a wrong number."""
    if isinstance(error, MeshError | HungUp):
        return error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Unreachable(f"Somebody else than our coordinator answers at {endpoint}.")
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return Unreachable(f"The coordinator at {endpoint} did not take the link (HTTP {error.status}).")
    if isinstance(error, TimeoutError):
        return Unreachable(f"The coordinator at {endpoint} does not answer.")
    return refusal_in(error) or Unreachable(f"Nobody answers at {endpoint}: {_in_short(error)}.")


def _in_short(error: Exception) -> str:
    """`Connection refused` instead of all that a library says."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    number = cause.errno if isinstance(cause, OSError) else None
    return os.strerror(number) if number and number > 0 else str(cause)


def _most_telling(group: BaseExceptionGroup[Any]) -> Exception:
    """The goodbye or refusal among the errors of one link, else the first."""
    found: list[Exception] = [each for each in group.exceptions if isinstance(each, Exception)]
    found.sort(key=lambda each: not isinstance(each, HungUp | NotAllowed))
    return found[0]
