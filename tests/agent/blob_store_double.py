"""The coordinator double's blobs: the real wire, kept in memory, with cuts and refusals at will."""

from __future__ import annotations

import asyncio
import re
from hashlib import sha256

import msgspec
from aiohttp import web

from planetmesh.blobs.frames import Frames, frame
from planetmesh.trust.tls import cut
from planetmesh.wire.api import ApiError, Digests, ErrorAnswer, MissingBlob, MissingBlobs, StoredBlobs


class BlobDouble:
    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.arriving: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        """Method, what for, and the query of every call."""
        self.cuts: list[int] = []
        """The next transfers of single blobs are cut after so many bytes each."""
        self.refusal: tuple[str, int, str, str] | None = None
        """Calls of this method are answered with this status, code and sentence."""
        self.refusals = 0
        self.slow_seconds = 0.0
        """Between two pieces of a blob that is read."""
        self.spoiled = 0
        """The next so many answers hold a wrong byte."""

    def put(self, content: bytes) -> str:
        digest = sha256(content).hexdigest()
        self.blobs[digest] = content
        return digest

    def add_routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/blobs/missing", self._missing)
        app.router.add_post("/v1/blobs/read", self._read_many)
        app.router.add_post("/v1/blobs", self._put_many)
        app.router.add_put("/v1/blobs/{digest}", self._put)
        app.router.add_get("/v1/blobs/{digest}", self._get)

    def count(self, method: str, what: str = "") -> int:
        return sum(1 for each in self.asked if each[0] == method and what in each[1])

    def _note(self, request: web.Request, what: str) -> web.Response | None:
        self.asked.append((request.method, what, dict(request.query)))
        if self.refusal and self.refusal[0] in (request.method, what):
            self.refusals += 1
            return _error(*self.refusal[1:])
        return None

    async def _missing(self, request: web.Request) -> web.Response:
        refused = self._note(request, "missing")
        asked = msgspec.json.decode(await request.read(), type=Digests).digests
        missing = [
            MissingBlob(each, len(self.arriving.get(each, b""))) for each in asked if each not in self.blobs
        ]
        return refused or _json(MissingBlobs(tuple(missing)))

    async def _read_many(self, request: web.Request) -> web.StreamResponse:
        refused = self._note(request, "read")
        asked = msgspec.json.decode(await request.read(), type=Digests).digests
        if refused:
            return refused
        body = b"".join(frame(each, self._spoil(self.blobs[each])) for each in asked)
        answer = web.StreamResponse()
        answer.content_length = len(body)
        await answer.prepare(request)
        await self._give(request, answer, body)
        return answer

    async def _put_many(self, request: web.Request) -> web.Response:
        refused = self._note(request, "frames")
        frames = Frames()
        found = list(frames.feed(await request.read()))
        frames.end()
        if refused:
            return refused
        for digest, content in found:
            assert sha256(content).hexdigest() == digest
            self.blobs[digest] = content
        return _json(StoredBlobs(len(found)))

    async def _put(self, request: web.Request) -> web.Response:
        refused = self._note(request, "put")
        if refused:
            return refused
        digest = request.match_info["digest"]
        said = request.headers.get("Content-Range", "")
        offset = int(said.split("-")[0].removeprefix("bytes ")) if "-" in said else 0
        have = self.arriving.get(digest, b"") if said else b""
        if "-" in said and offset != len(have):
            return _error(409, "wrong_offset", f"{len(have)} bytes are here.")
        stop = self.cuts.pop(0) if self.cuts else None
        came = bytearray()
        while True:
            data = await request.content.readany()
            came += data
            if stop is not None and len(came) >= stop:
                self.arriving[digest] = have + bytes(came[:stop])
                cut(request.transport)
                return web.Response()
            if request.content.at_eof():
                break
        content = have + bytes(came)
        if sha256(content).hexdigest() != digest:
            self.arriving.pop(digest, None)
            return _error(422, "wrong_digest", "It is not what its name says.")
        self.blobs[digest] = content
        return _json(StoredBlobs(1), 201)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        digest = request.match_info["digest"]
        refused = self._note(request, "get")
        if refused:
            return refused
        if digest not in self.blobs:
            return _error(404, "not_found", "There is no such blob.")
        content = self._spoil(self.blobs[digest])
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        answer = web.StreamResponse(status=206 if match else 200)
        answer.content_length = len(content) - start
        await answer.prepare(request)
        await self._give(request, answer, content[start:])
        return answer

    async def _give(self, request: web.Request, answer: web.StreamResponse, body: bytes) -> None:
        stop = self.cuts.pop(0) if self.cuts else None
        for place in range(0, len(body), 65536):
            piece = body[place : place + 65536]
            if stop is not None and place + len(piece) >= stop:
                await answer.write(piece[: stop - place])
                await asyncio.sleep(0.02)
                cut(request.transport)
                return
            await answer.write(piece)
            if self.slow_seconds:
                await asyncio.sleep(self.slow_seconds)

    def _spoil(self, content: bytes) -> bytes:
        if not self.spoiled:
            return content
        self.spoiled -= 1
        return bytes([content[0] ^ 1]) + content[1:]


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def _error(status: int, code: str, message: str) -> web.Response:
    return _json(ErrorAnswer(ApiError(code, message)), status)
