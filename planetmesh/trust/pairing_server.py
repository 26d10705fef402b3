"""The coordinator's pairing desk: opens windows, listens while one is open, enrols who knows the code.

Issuing, storing and announcing are the coordinator's business, reached through three callbacks. The
desk holds no key but the TLS leaf's; codes are in memory only. Protocol: `pairing`, table: `windows`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from hashlib import sha256
from types import TracebackType
from typing import Any, Self

import msgspec

from planetmesh.errors import MeshError, PairingFailed
from planetmesh.groups import TaskGroup
from planetmesh.model.identity import Role
from planetmesh.trust.authority import Authority, Leaf
from planetmesh.trust.codes import Code, new_code, new_long_code
from planetmesh.trust.frames import read_frame, write_frames
from planetmesh.trust.identity import Identity, Membership
from planetmesh.trust.pairing import (
    NONCE_BYTES,
    Busy,
    DeskExchange,
    Granted,
    JoinerHello,
    Welcome,
    decode,
    encode,
)
from planetmesh.trust.pairing_listener import PairingListener, bind_listeners
from planetmesh.trust.tls import pairing_serve_context
from planetmesh.trust.windows import PairingLimits, Window, Windows

logger = logging.getLogger(__name__)

ADDRESSES_MOST = 1024
"""Addresses remembered for the pause between exchanges; each for a second, so this is never reached."""
RECENT_SLOTS = 8
"""A code typed late must not meet another window: slots rest before they are used again."""
CHECK_SECONDS = 1.0
"""Longest nap between two looks at the clock while a window is open."""
BUSY_LEAST_SECONDS = 0.25
"""Not sooner than an exchange takes."""


class EnrolRequest(msgspec.Struct, frozen=True):
    """Somebody proved to know the code. Everything but role and address is the joiner's own claim."""

    role: Role
    csr_der: bytes
    display_name: str
    os: str
    peer_address: str


class Enrolled(msgspec.Struct, frozen=True):
    """What the coordinator decided; its record must be on disk before this is returned."""

    leaf: Leaf
    membership: Membership


OnEnrol = Callable[[EnrolRequest], Awaitable[Enrolled]]
OnListening = Callable[[int | None, tuple[int, ...]], None]
OnAttemptFailed = Callable[[int, str, int], None]


class PairingDesk:
    """`async with` it for as long as the coordinator runs; leaving closes every window."""

    def __init__(  # noqa: PLR0913  the composition root of pairing; all but the first two are named
        self,
        authority: Authority,
        identity: Identity,
        *,
        on_enrol: OnEnrol,
        on_listening: OnListening,
        on_attempt_failed: OnAttemptFailed,
        hosts: Sequence[str] = (),
        port: int = 0,
        limits: PairingLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`port`: the one to try first (the main port + 1, see `enroll.candidate_ports`), 0 for any."""
        self._authority = authority
        self._identity = identity
        self._on_enrol = on_enrol
        self._on_listening = on_listening
        self._on_attempt_failed = on_attempt_failed
        self._hosts = tuple(hosts)
        self._port = port
        self._limits = limits or PairingLimits()
        self._clock = clock
        self._windows = Windows()
        self._listener: PairingListener | None = None
        self._certificate_hash = b""
        self._running = 0
        self._last_exchange: dict[str, float] = {}
        self._recent_slots: deque[int] = deque(maxlen=RECENT_SLOTS)
        self._group = TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._spawn(self._close_expired())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for slot in self._windows.slots():
            self._windows.close(slot)
        self._tidy()
        # The coordinator is going: nobody waits for a stranger's ten seconds.
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(kind, error, trace)

    @property
    def port(self) -> int | None:
        """The port of the listener while there is one."""
        return self._listener.port if self._listener else None

    async def open(self, role: Role, ttl_seconds: float, *, unattended: bool = False) -> tuple[Code, float]:
        """Open a window and return its code and when it expires (wall time). `unattended`: a long code."""
        free = self._windows.free_slots(frozenset(self._recent_slots))
        slot = secrets.choice(free)
        code = new_long_code(slot, self._authority.fingerprint) if unattended else new_code(slot)
        self._windows.open(code, role, ttl_seconds, self._clock())
        try:
            self._listen()
        except Exception:
            self._windows.close(slot)
            raise
        self._changed.set()
        self._tell()
        return code, time.time() + ttl_seconds

    def close(self, slot: int) -> None:
        """Close a window, also for exchanges under way; raise NotFound if there is none."""
        self._windows.close(slot)
        self._recent_slots.append(slot)
        self._tidy()
        self._tell()

    def windows(self) -> tuple[Window, ...]:
        """The windows that are open, by slot."""
        return self._windows.all()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _listen(self) -> None:
        """Listen, if we do not yet. Context and hash go together: the joiner is bound to what it saw."""
        if self._listener is not None:
            return
        context = pairing_serve_context(self._identity)
        self._certificate_hash = sha256(self._identity.certificate_der).digest()
        sockets = bind_listeners(self._hosts, self._port)
        self._listener = PairingListener(sockets, context, self._serve, self._limits, self._spawn)

    def _tell(self) -> None:
        self._on_listening(self.port, self._windows.slots())

    def _tidy(self) -> bool:
        """Drop windows that are over, and the listener with the last one; say whether any was dropped."""
        gone = self._windows.sweep(self._clock())
        self._recent_slots.extend(window.slot for window in gone)
        if len(self._windows) == 0 and self._listener is not None:
            self._listener.close()
            self._listener = None
        return bool(gone)

    async def _close_expired(self) -> None:
        while True:
            self._changed.clear()
            ends = [window.expires for window in self._windows.all()]
            wait = min(max(min(ends) - self._clock(), 0.0), CHECK_SECONDS) if ends else None
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                if self._tidy():
                    self._tell()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> None:
        """One connection; a door: nothing that a peer does may end the desk."""
        try:
            raw = await read_frame(reader)
            hello = decode(raw, JoinerHello)
            if self._must_wait(peer):
                await write_frames(
                    writer, encode(Busy(max(self._limits.between_seconds, BUSY_LEAST_SECONDS)))
                )
                return
            await self._exchange(hello.slot, raw, reader, writer, peer)
        except (PairingFailed, asyncio.IncompleteReadError, OSError):
            logger.info("pairing.broken_off", extra={"address": peer})
        except MeshError as error:
            logger.warning("pairing.not_completed", extra={"address": peer, "reason": error.message})
        except Exception:
            logger.exception("pairing.fault", extra={"address": peer})

    def _must_wait(self, peer: str) -> bool:
        now = self._clock()
        pause = self._limits.between_seconds
        recent = {each: at for each, at in self._last_exchange.items() if now - at < pause}
        self._last_exchange = recent
        if peer in recent or len(recent) >= ADDRESSES_MOST or self._running >= self._limits.running_most:
            return True
        recent[peer] = now
        return False

    async def _exchange(
        self,
        slot: int,
        raw: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: str,
    ) -> None:
        window = self._windows.find(slot, self._clock())
        exchange = DeskExchange(
            window,
            self._authority.mesh_id,
            bytes.fromhex(self._authority.fingerprint),
            self._certificate_hash,
            secrets.token_bytes(NONCE_BYTES),
        )
        self._running += 1
        try:
            # Milliseconds of pure Python: in a thread, so that the coordinator's loop goes on breathing.
            await write_frames(writer, await asyncio.to_thread(exchange.hello, raw))
            raw = await self._next_frame(reader)
            await self._attempt(window, exchange, raw, reader, writer, peer)
        finally:
            self._running -= 1

    async def _attempt(
        self,
        window: Window,
        exchange: DeskExchange,
        raw: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: str,
    ) -> None:
        """From the first PAKE frame on it counts, whatever is in the frame and however it ends."""
        self._windows.spend(window, self._clock())
        enrolled = False
        try:
            await self._prove(exchange, raw, reader, writer)
            await self._enrol(window, exchange, reader, writer, peer)
            enrolled = True
        finally:
            self._windows.settle(window)
            if not enrolled:
                self._on_attempt_failed(window.slot, peer, window.attempts_left)
            if self._tidy():
                self._tell()

    async def _next_frame(self, reader: asyncio.StreamReader) -> bytes:
        """A frame that the joiner's program has at once: who dawdles must not keep others out."""
        async with asyncio.timeout(self._limits.step_seconds):
            return await read_frame(reader)

    async def _prove(
        self,
        exchange: DeskExchange,
        raw: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """PAKE and CONFIRM. Right or wrong, the verdict leaves at a fixed time."""
        await write_frames(writer, exchange.pake(raw))
        raw = await self._next_frame(reader)
        came = time.monotonic()
        try:
            proof = await asyncio.to_thread(exchange.confirm, raw)
        finally:
            await self._wait_for_reply_time(came)
        welcome = Welcome(
            ca_pem=self._authority.ca_pem,
            mesh_id=self._authority.mesh_id,
            coordinator_id=self._identity.principal.id,
            server_time=time.time(),
        )
        await write_frames(writer, proof, exchange.welcome(welcome))

    async def _wait_for_reply_time(self, came: float) -> None:
        """Until the next whole multiple of the reply time: a slow board must not show its work either."""
        reply = self._limits.reply_seconds
        if reply <= 0:
            return
        spent = time.monotonic() - came
        await asyncio.sleep(reply * max(1, math.ceil(spent / reply)) - spent)

    async def _enrol(
        self,
        window: Window,
        exchange: DeskExchange,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: str,
    ) -> None:
        asked = exchange.request(await self._next_frame(reader))
        # From here on the code is gone, whatever happens: one code never makes two certificates.
        self._windows.burn(window, self._clock())
        enrolled = await self._on_enrol(
            EnrolRequest(
                role=window.role,
                csr_der=asked.csr_der,
                display_name=asked.display_name,
                os=asked.os,
                peer_address=peer,
            )
        )
        granted = Granted(cert_pem=enrolled.leaf.cert_pem, membership=enrolled.membership)
        await write_frames(writer, exchange.granted(granted))
