"""A large blob and many small ones, to and from a coordinator, beside scp and a bare TLS loop as the limit.

Run by hand::

    BENCH_BLOB_MIB=1024 BENCH_ROUNDS=3 python tests/benchmarks/blob_throughput.py

All of it on loopback, each server a process of its own, in turn within each round. The bare loop is uvloop
with the same kind of TLS, and does nothing with the bytes: no disk, no digest. Both sides of it and of the
blob's transfer speak through the same client, so the ratio is the server's. scp (`BENCH_SSHD` names the
server's program) writes the file and does not verify it. Prints JSON lines, like `bench_mesh`.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import psutil
import uvloop
from bench_mesh import connected, emit, free_port, start, stop

from planetmesh.blobs.frames import BODY_MOST_BYTES, Frames, frame, framed_size
from planetmesh.client.async_client import AsyncMesh
from planetmesh.model.blob import Digest, StagedFile
from planetmesh.model.job import JobSpec
from planetmesh.paths import Home
from planetmesh.trust.identity import Identity
from planetmesh.trust.tls import client_context, serve_context

BLOB_BYTES = int(os.environ.get("BENCH_BLOB_MIB", "1024")) * 2**20
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SMALL = int(os.environ.get("BENCH_SMALL", "100000"))
SSHD = os.environ.get("BENCH_SSHD") or shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
PIECE = 2**20
HOST = "127.0.0.1"


class Line(asyncio.Protocol):
    """One TLS connection that moves bytes as quickly as uvloop can, and a little HTTP."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._held = bytearray()
        self._left = 0
        """Bytes that are only counted."""
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    @classmethod
    async def open(cls, port: int, context: ssl.SSLContext) -> Line:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(cls, HOST, port, ssl=context))[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._left >= len(data):
            self._left -= len(data)
        else:
            self._held += data[self._left :]
            self._left = 0
        if not self._left:
            self._news.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self._news.set()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    async def send_file(self, path: Path) -> None:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(PIECE):
                self.transport.write(piece)
                await self._room.wait()

    async def more(self) -> None:
        self._news.clear()
        await self._news.wait()
        if self.transport.is_closing() and not self._held:
            raise EOFError

    async def read(self, count: int) -> bytes:
        while len(self._held) < count:
            await self.more()
        data = bytes(self._held[:count])
        del self._held[:count]
        return data

    async def take(self, count: int) -> None:
        """Let so many bytes come and forget them."""
        here = min(count, len(self._held))
        del self._held[:here]
        self._left = count - here
        while self._left:
            await self.more()

    async def give(self, count: int, piece: bytes) -> None:
        for _ in range(count // len(piece)):
            self.transport.write(piece)
            await self._room.wait()

    def ask(self, method: str, path: str, length: int) -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n"
        self.transport.write(head.encode())

    async def head(self) -> tuple[int, int]:
        """Status and length of the answer."""
        while (end := self._held.find(b"\r\n\r\n")) < 0:
            await self.more()
        lines = (await self.read(end + 4)).decode().split("\r\n")
        length = next(line for line in lines if line.lower().startswith("content-length"))
        return int(lines[0].split()[1]), int(length.split(":")[1])

    async def answer(self) -> tuple[int, bytes]:
        status, length = await self.head()
        return status, await self.read(length)


class Bare(Line):
    """The limit: what is asked for with P is swallowed, with G it is given out of thin air."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.serving = asyncio.get_running_loop().create_task(self.serve())

    async def serve(self) -> None:
        piece = os.urandom(PIECE)
        with suppress(EOFError):
            while True:
                kind, count = await self.read(1), int.from_bytes(await self.read(8), "big")
                if kind == b"P":
                    await self.take(count)
                    self.transport.write(b"!")
                else:
                    await self.give(count, piece)


async def bare(home: Home, port: int) -> None:
    context = serve_context(Identity.load(home.coordinator))
    server = await asyncio.get_running_loop().create_server(Bare, HOST, port, ssl=context)
    await server.serve_forever()


@contextmanager
def bare_server(home: Home) -> Iterator[tuple[int, psutil.Process]]:
    port = free_port()
    process = subprocess.Popen([sys.executable, __file__, "bare", str(home.root), str(port)])
    try:
        time.sleep(1.5)
        yield port, psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


@contextmanager
def ssh_server(folder: Path) -> Iterator[Callable[[str, str], None] | None]:
    """Gives a function that copies by scp; None if there is no server to start."""
    if SSHD is None:
        yield None
        return
    keys = {name: folder / name for name in ("host", "user")}
    for path in keys.values():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    (folder / "authorized").write_bytes((folder / "user.pub").read_bytes())
    port = free_port()
    options = {
        "Port": port, "ListenAddress": HOST, "HostKey": keys["host"], "PidFile": "none",
        "AuthorizedKeysFile": folder / "authorized", "StrictModes": "no", "UsePAM": "no",
        "PermitRootLogin": "yes", "Subsystem": "sftp internal-sftp",
    }  # fmt: skip
    config = folder / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=(folder / "sshd.log").open("wb"))

    def copy(source: str, target: str) -> None:
        known = "-oUserKnownHostsFile=/dev/null"
        quiet = ["-q", "-oStrictHostKeyChecking=no", known, "-oBatchMode=yes"]
        subprocess.run(["scp", *quiet, "-P", str(port), "-i", keys["user"], source, target], check=True)

    try:
        time.sleep(0.5)
        yield copy if process.poll() is None else None
    finally:
        process.kill()
        process.wait()


class Rates:
    """MiB a second by what was measured, and seconds of processor time for each GiB on the server's side."""

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = {}
        self._cpu: dict[str, list[float]] = {}

    @contextmanager
    def timed(self, what: str, server: psutil.Process | None = None) -> Iterator[None]:
        begun, used = time.perf_counter(), cpu_of(server)
        yield
        self._seen.setdefault(what, []).append(BLOB_BYTES / 2**20 / (time.perf_counter() - begun))
        self._cpu.setdefault(what, []).append((cpu_of(server) - used) / (BLOB_BYTES / 2**30))

    def tell(self) -> None:
        for what, rates in self._seen.items():
            cpu = {"cpu": round(statistics.median(self._cpu[what]), 2)} if any(self._cpu[what]) else {}
            least, most = round(min(rates)), round(max(rates))
            emit(what, round(statistics.median(rates)), "MiB/s", least=least, most=most, **cpu)
        for way in ("put", "get"):
            for other in ("bare", "scp"):
                pairs = zip(self._seen[f"{way}_blob"], self._seen.get(f"{way}_{other}", []), strict=False)
                if ratios := sorted(round(own / limit, 2) for own, limit in pairs):
                    emit(f"{way}_blob_to_{other}", statistics.median(ratios), "", rounds=ratios)


def cpu_of(process: psutil.Process | None) -> float:
    return sum(process.cpu_times()[:2]) if process is not None else 0.0


class Server(NamedTuple):
    """The coordinator."""

    port: int
    process: psutil.Process


async def large(mesh: AsyncMesh, home: Home, server: Server, folder: Path, rates: Rates) -> None:
    user = f"{getpass.getuser()}@{HOST}"
    context = client_context(Identity.load(home.operator))
    with bare_server(home) as (bare_port, swallower), ssh_server(folder) as copy:
        for number in range(ROUNDS):
            path = folder / f"blob-{number}"
            digest = write_random(path)
            line = await Line.open(bare_port, context)
            with rates.timed("put_bare", swallower):
                line.transport.write(b"P" + BLOB_BYTES.to_bytes(8, "big"))
                await line.send_file(path)
                await line.read(1)
            with rates.timed("get_bare", swallower):
                line.transport.write(b"G" + BLOB_BYTES.to_bytes(8, "big"))
                await line.take(BLOB_BYTES)
            line.transport.close()
            if copy is not None:
                target = folder / "copied"
                for way, source, end in (
                    ("put", path, f"{user}:{target}"),
                    ("get", f"{user}:{path}", target),
                ):
                    with rates.timed(f"{way}_scp"):
                        await asyncio.to_thread(copy, str(source), str(end))
                    target.unlink()
            line = await Line.open(server.port, context)
            with rates.timed("put_blob", server.process):
                line.ask("PUT", f"/v1/blobs/{digest}", BLOB_BYTES)
                await line.send_file(path)
                status, said = await line.answer()
            assert status == 201, said
            await use(mesh, [StagedFile("blob", digest, BLOB_BYTES)])
            with rates.timed("get_blob", server.process):
                line.ask("GET", f"/v1/blobs/{digest}", 0)
                _status, length = await line.head()
                await line.take(length)
            line.transport.close()
            path.unlink()


def write_random(path: Path) -> Digest:
    """A file that nobody has seen before, in the page cache and on the disk."""
    state, seed = sha256(), os.urandom(PIECE)
    with path.open("wb") as file:
        for number in range(BLOB_BYTES // PIECE):
            piece = number.to_bytes(8, "big") + seed[8:]
            state.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return Digest(state.hexdigest())


async def use(mesh: AsyncMesh, files: list[StagedFile]) -> None:
    """A job that is paused for ever by waiting for a node that is not there."""
    spec = JobSpec(type="command", payload={"argv": ["true"]}, files=tuple(files), tags=("nowhere",))
    await mesh.submit(spec)


async def small(mesh: AsyncMesh, home: Home, port: int) -> None:
    """Files of 1 KiB, there and back."""
    contents = [number.to_bytes(8, "big") + os.urandom(16) * 63 + b"\0" * 8 for number in range(SMALL)]
    blobs = {Digest(sha256(content).hexdigest()): content for content in contents}
    bodies = list(batches(blobs))
    line = await Line.open(port, client_context(Identity.load(home.operator)))
    begun = time.perf_counter()
    for some in bodies:
        body = b"".join(frame(digest, blobs[digest]) for digest in some)
        line.ask("POST", "/v1/blobs", len(body))
        line.transport.write(body)
        status, said = await line.answer()
        assert status == 200, said
    emit("small_put", round(SMALL / (time.perf_counter() - begun)), "files/s", n=SMALL)
    for first in range(0, SMALL, 2000):
        some = list(blobs)[first : first + 2000]
        await use(mesh, [StagedFile(digest, digest, 1024) for digest in some])
    begun = time.perf_counter()
    for first in range(0, SMALL, 10_000):
        names = json.dumps({"digests": list(blobs)[first : first + 10_000]}).encode()
        line.ask("POST", "/v1/blobs/read", len(names))
        line.transport.write(names)
        status, body = await line.answer()
        assert status == 200, body
        found = sum(1 for _each in Frames().feed(body))
        assert found == min(10_000, SMALL - first)
    emit("small_get", round(SMALL / (time.perf_counter() - begun)), "files/s", n=SMALL)


def batches(blobs: dict[Digest, bytes]) -> Iterator[list[Digest]]:
    most = BODY_MOST_BYTES // framed_size([1024])
    names = list(blobs)
    for first in range(0, len(names), most):
        yield names[first : first + most]


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-blobs-", dir=os.environ.get("BENCH_FOLDER")) as name:
        folder = Path(name)
        home = Home(folder / "home")
        home.root.mkdir(mode=0o700)
        process = start(home.root)
        port = int(process.args[process.args.index("--port") + 1])  # type: ignore[union-attr, arg-type]
        rates = Rates()
        try:
            async with connected(home.root, nodes=1) as mesh:
                if BLOB_BYTES:
                    await large(mesh, home, Server(port, psutil.Process(process.pid)), folder, rates)
                    rates.tell()
                if SMALL:
                    await small(mesh, home, port)
                status = Path(f"/proc/{process.pid}/status").read_text()
                peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
                emit("coordinator_peak_memory", round(peak), "MiB")
        finally:
            stop(process)


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        uvloop.run(bare(Home(Path(sys.argv[2])), int(sys.argv[3])))
    else:
        uvloop.run(main())
