"""Blobs over HTTPS, to and from the coordinator that the link talks to. No rules but when to try again.

While there is no link every call waits for the next one: an agent is not told off for a coordinator that
restarts. What the coordinator refuses comes out as `Refused`, with its sentence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
import msgspec
from yarl import URL

from planetmesh import __version__
from planetmesh.agent.reconnect import back_off
from planetmesh.groups import begin_in
from planetmesh.logs import clean
from planetmesh.model.blob import Digest
from planetmesh.model.endpoint import parse_endpoint
from planetmesh.model.ids import JobId, NodeId
from planetmesh.trust.identity import Identity
from planetmesh.trust.tls import client_context
from planetmesh.wire.api import BlobSource, Digests, ErrorAnswer, MissingBlob, MissingBlobs

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
"""Of silence in the middle of an answer: the way is cut, as far as we can tell."""
SETTLE_SECONDS = 120.0
"""For the answer to an upload: the coordinator's disk may be slow with the last bytes."""
READ_BYTES = 1024 * 1024
ANSWER_MOST_BYTES = 2 * 1024 * 1024
SENTENCE_MOST_LETTERS = 300
TROUBLES_MOST = 8
"""Errors of the coordinator's own in a row; a broken connection counts as none."""
_OWN_TROUBLE = {408, 429, 500, 502, 503, 504}
_BYTES = {"Content-Type": "application/octet-stream"}


class AttemptKey(msgspec.Struct, frozen=True):
    """For whom something is carried: the coordinator asks, and gives or takes nothing else."""

    job_id: JobId
    index: int
    attempt: int

    @property
    def query(self) -> dict[str, str]:
        return {"job": self.job_id, "index": str(self.index), "attempt": str(self.attempt)}

    @property
    def fields(self) -> dict[str, object]:
        """For a line of the log."""
        return {"job_id": self.job_id, "task": self.index, "attempt": self.attempt}


class Refused(Exception):
    """The coordinator does not give or take this, and will not."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


class Away(Exception):
    """Nobody answered, or not to the end. What has arrived may be gone on with."""


class Trouble(Away):
    """The coordinator answered that it cannot just now."""


class Carrier:
    """Made once per agent process; used from its loop."""

    def __init__(self, identity: Identity, is_up: Callable[[], bool], group: asyncio.TaskGroup) -> None:
        self._identity = identity
        self._is_up = is_up
        self._group = group
        self._registered = asyncio.Event()
        self._endpoint = ""
        self._session: aiohttp.ClientSession | None = None

    def on_link(self, endpoint: str) -> None:
        """A new link stands: what hangs on the old way is cut, and goes on with the certificate of today."""
        self._endpoint = endpoint
        self._drop_session()
        self._registered.set()

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Do it once the link is there, as often as it takes; raises Refused and what `call` raises else."""
        troubles = tries = 0
        while True:
            await self._wait_for_link()
            try:
                return await call()
            except Trouble as trouble:
                troubles += 1
                if troubles >= TROUBLES_MOST:
                    raise Refused(503, "unavailable", str(trouble)) from trouble
                reason = str(trouble)
            except Away as away:
                reason = str(away)
            log.debug("blobs.again", extra={"reason": reason})
            await asyncio.sleep(back_off(tries))
            tries += 1

    # Single calls: each raises Refused or Away

    async def missing(self, whose: AttemptKey, digests: Sequence[Digest]) -> list[MissingBlob]:
        """Which of these the coordinator does not have, and how much of each has arrived."""
        body = msgspec.json.encode(Digests(tuple(digests)))
        async with self._call("POST", "v1/blobs/missing", whose, data=body) as answer:
            content = await _all(answer)
        try:
            return list(msgspec.json.decode(content, type=MissingBlobs).missing)
        except msgspec.MsgspecError as error:
            raise Trouble("The coordinator's answer makes no sense.") from error

    async def source(self, whose: AttemptKey, digest: Digest, failed: Sequence[NodeId]) -> BlobSource:
        """From where to fetch a large blob, if not from those that failed."""
        given = {"failed": ",".join(failed)} if failed else {}
        path = f"v1/blobs/{digest}/sources"
        async with self._call("POST", path, whose, data=b"", query=given) as answer:
            content = await _all(answer)
        try:
            return msgspec.json.decode(content, type=BlobSource)
        except msgspec.MsgspecError as error:
            raise Trouble("The coordinator's answer makes no sense.") from error

    async def send_small(self, whose: AttemptKey, frames: bytes) -> None:
        async with self._call("POST", "v1/blobs", whose, data=frames, headers=_BYTES) as answer:
            await _all(answer)

    async def send(
        self, whose: AttemptKey, digest: Digest, size: int, offset: int, pieces: AsyncIterator[bytes]
    ) -> None:
        """The blob's bytes from `offset` on."""
        headers = {**_BYTES, "Content-Length": str(size - offset)}
        if offset:
            span = "*" if offset == size else f"{offset}-{size - 1}"
            headers["Content-Range"] = f"bytes {span}/{size}"
        async with self._call("PUT", f"v1/blobs/{digest}", whose, data=pieces, headers=headers) as answer:
            await _all(answer)

    async def read_small(self, whose: AttemptKey, digests: Sequence[Digest]) -> AsyncGenerator[bytes, None]:
        """The frames of these blobs, piece by piece."""
        body = msgspec.json.encode(Digests(tuple(digests)))
        async with self._call("POST", "v1/blobs/read", whose, data=body) as answer:
            async for piece in answer.content.iter_any():
                yield piece

    async def read(self, whose: AttemptKey, digest: Digest, offset: int) -> AsyncGenerator[bytes, None]:
        """The blob's bytes from `offset` on, about a megabyte at a time."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._call("GET", f"v1/blobs/{digest}", whose, headers=headers) as answer:
            if offset and answer.status != 206:
                raise Trouble("The coordinator did not go on where it was asked to.")
            held: list[bytes] = []
            size = 0
            async for piece in answer.content.iter_any():
                held.append(piece)
                size += len(piece)
                if size >= READ_BYTES:
                    yield b"".join(held)
                    held, size = [], 0
            if held:
                yield b"".join(held)

    @asynccontextmanager
    async def _call(
        self,
        method: str,
        path: str,
        whose: AttemptKey,
        *,
        data: bytes | AsyncIterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        host, port = parse_endpoint(self._endpoint)
        url = URL.build(scheme="https", host=host, port=port).joinpath(path)
        given = {"Content-Type": "application/json", **(headers or {})} if data is not None else headers
        try:
            async with self._open_session().request(
                method,
                url,
                params=whose.query | (query or {}),
                data=data,
                headers=given,
                timeout=_patience(SETTLE_SECONDS if method == "PUT" else READ_SECONDS),
            ) as answer:
                if answer.status >= 300:
                    raise _in_words(answer.status, await _all(answer))
                yield answer
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Away(f"{type(error).__name__}: {error}") from error
        except RuntimeError as error:
            # A session that was closed between two steps of ours: the link is a new one.
            if "closed" not in str(error).lower():
                raise
            raise Away("The link changed.") from error

    async def _wait_for_link(self) -> None:
        while not (self._is_up() and self._endpoint):
            self._registered.clear()
            await self._registered.wait()

    # The session

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(ssl=client_context(self._identity), limit=16)
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers={"User-Agent": f"planetmesh/{__version__}"},
                trust_env=False,
                auto_decompress=False,
                read_bufsize=READ_BYTES,
            )
        return self._session

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            begin_in(self._group, session.close())


def _patience(read_seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(
        total=None, connect=None, sock_connect=CONNECT_SECONDS, sock_read=read_seconds
    )


async def _all(answer: aiohttp.ClientResponse) -> bytes:
    content = await answer.content.read(ANSWER_MOST_BYTES)
    while more := await answer.content.read(ANSWER_MOST_BYTES - len(content)):
        content += more
    return content


def _in_words(status: int, content: bytes) -> Exception:
    try:
        said = msgspec.json.decode(content, type=ErrorAnswer).error
        code, text = said.code, f"{said.message} {said.hint}".strip()
    except (msgspec.MsgspecError, UnicodeError):
        code, text = "", f"The coordinator answered with HTTP {status}."
    text = clean(text, SENTENCE_MOST_LETTERS)
    return Trouble(text) if status in _OWN_TROUBLE else Refused(status, code, text)
