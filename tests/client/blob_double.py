"""The double's files: blobs in memory, transfers cut where a test says, and what tasks brought."""

from __future__ import annotations

from hashlib import sha256

import msgspec
from aiohttp import web

from planetmesh.blobs.frames import Frames, frame
from planetmesh.client.local_files import SMALL_BYTES
from planetmesh.errors import NotFound, WrongDigest, WrongOffset
from planetmesh.model.blob import Digest, Manifest, ManifestFile
from planetmesh.wire.api import Digests, MissingBlob, MissingBlobs, StoredBlobs, TaskFiles


def digest_of(content: bytes) -> Digest:
    return Digest(sha256(content).hexdigest())


class Blobs:
    """A mix-in of `Double`."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.partials: dict[str, bytearray] = {}
        self.cuts: list[int] = []
        """After so many bytes the next large transfers break off, in or out."""
        self.received: list[tuple[str, int, int]] = []
        """Of each PUT: digest, where it began, how many bytes came."""
        self.ranges: list[str] = []
        """Of each GET of a large blob."""
        self.brought: dict[str, list[TaskFiles]] = {}

    def put(self, content: bytes) -> Digest:
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def bring(self, job_id: str, index: int, files: dict[str, bytes], executable: bool = False) -> None:
        """A task's files, as if its node had sent them."""
        listed = tuple(
            ManifestFile(name, self.put(content), len(content), executable) for name, content in files.items()
        )
        self.bring_manifest(job_id, index, msgspec.json.encode(Manifest(listed)))

    def bring_manifest(self, job_id: str, index: int, manifest: bytes) -> None:
        """Whatever stands in it."""
        self.brought.setdefault(job_id, []).append(TaskFiles(index, self.put(manifest), 1, 1))

    # Requests

    async def _post_blobs(self, request: web.Request, what: str = "") -> web.StreamResponse:
        body = await request.read()
        if what == "missing":
            asked = msgspec.json.decode(body, type=Digests).digests
            lacking = [
                MissingBlob(each, len(self.partials.get(each, b"")))
                for each in asked
                if each not in self.blobs
            ]
            return _json(MissingBlobs(tuple(lacking)))
        if what == "read":
            asked = msgspec.json.decode(body, type=Digests).digests
            return web.Response(body=b"".join(frame(each, self._blob(each)) for each in asked))
        stored = 0
        for digest, content in Frames().feed(body):
            _check(digest, content)
            self.blobs[digest] = content
            stored += 1
        return _json(StoredBlobs(stored))

    async def _put_blobs(self, request: web.Request, digest: str) -> web.StreamResponse:
        start = 0
        if "Content-Range" in request.headers:
            start = int(request.headers["Content-Range"].split()[1].split("-")[0])
        held = self.partials.setdefault(digest, bytearray())
        if start not in {0, len(held)}:
            raise WrongOffset(f"Of this blob {len(held)} bytes are here.", have=len(held))
        del held[start:]
        cut = self.cuts.pop(0) if self.cuts else None
        try:
            async for chunk in request.content.iter_any():
                held += chunk
                if cut is not None and len(held) - start >= cut:
                    request.transport.abort()
                    return web.Response()
        finally:
            self.received.append((digest, start, len(held) - start))
        content = bytes(self.partials.pop(digest))
        _check(digest, content)
        self.blobs[digest] = content
        return _json(StoredBlobs(1), 201)

    async def _get_blobs(self, request: web.Request, digest: str) -> web.StreamResponse:
        content = self._blob(digest)
        span = request.headers.get("Range", "")
        is_large = len(content) > SMALL_BYTES
        if is_large:
            self.ranges.append(span)
        start = int(span.removeprefix("bytes=").removesuffix("-") or 0)
        response = web.StreamResponse(status=206 if span else 200)
        response.content_length = len(content) - start
        await response.prepare(request)
        cut = self.cuts.pop(0) if self.cuts and is_large else None
        await response.write(content[start:] if cut is None else content[start : start + cut])
        if cut is not None:
            request.transport.close()
        return response

    async def _get_jobs_files(self, _request: web.Request, job_id: str) -> web.StreamResponse:
        found = next((each for each in self.brought if each.startswith(job_id)), job_id)
        lines = self.brought.get(found, [])
        return web.Response(body=b"".join(msgspec.json.encode(each) + b"\n" for each in lines))

    def _blob(self, digest: str) -> bytes:
        if digest not in self.blobs:
            raise NotFound(f"There is no blob {digest} here.")
        return self.blobs[digest]


def _check(digest: str, content: bytes) -> None:
    if digest_of(content) != digest:
        raise WrongDigest("The bytes that came are others.")


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
