"""The coordinator's side of the load tool: a throw-away home with many members, and its process."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from cryptography.hazmat.primitives.asymmetric import ec

from planetmesh.coordinator.enrolment import found_mesh
from planetmesh.model.identity import CertificateState, Role
from planetmesh.model.ids import NodeId
from planetmesh.model.node import Node
from planetmesh.paths import Home
from planetmesh.store.changes import Changes
from planetmesh.store.store import Store
from planetmesh.trust.authority import Authority, Leaf
from planetmesh.trust.identity import Identity, Membership, key_to_pem

PROBE = Path(__file__).with_name("load_probe.py")
START_SECONDS = 120.0
"""Until a coordinator that reads a large home says that it is ready."""
STOP_SECONDS = 20.0
SETTLE_SECONDS = 1.0
"""Before memory is looked at: what a submit needed only for itself has gone by then."""


async def make_home(folder: Path, agents: int) -> list[Identity]:
    """A mesh in `folder`/home with so many agents in its tables, as if each were paired; their identities."""
    home = Home(folder / "home")
    home.prepare()
    found_mesh(home, "load")
    authority = Authority.open(home.authority)
    own = Identity.load(home.coordinator).membership
    made = [
        _make_member(folder / "agents" / f"{number:05}", authority, own, number) for number in range(agents)
    ]
    store = await Store.open(home)
    try:
        await store.commit(
            Changes(
                nodes=[
                    Node(id=NodeId(leaf.id), name=identity.membership.name, created_at=time.time())
                    for identity, leaf in made
                ],
                certificates=[leaf.record(CertificateState.ACTIVE) for _identity, leaf in made],
            )
        )
    finally:
        await store.close()
    return [identity for identity, _leaf in made]


def _make_member(folder: Path, authority: Authority, own: Membership, number: int) -> tuple[Identity, Leaf]:
    """As `Authority.issue_local`, without waiting for the disk two thousand times."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = authority.issue(Role.AGENT, secrets.token_hex(16), key.public_key())
    name = f"node-{number:05}"
    membership = Membership(own.mesh_id, own.mesh_name, Role.AGENT, leaf.id, name, own.coordinator_id)
    folder.mkdir(mode=0o700, parents=True)
    identity = Identity(folder, membership, leaf.cert_pem, authority.ca_pem)
    identity.key_path.touch(mode=0o600)
    identity.key_path.write_bytes(key_to_pem(key))
    identity.certificate_path.write_bytes(leaf.cert_pem)
    return identity, leaf


class Desk:
    """One coordinator process at a time, on a copy of a prepared home."""

    def __init__(self, folder: Path, prepared: Path) -> None:
        shutil.copytree(prepared, folder)
        self.home = folder
        self.port = 0
        self._log = (folder.parent / f"{folder.name}.log").open("ab")
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> dict[str, float]:
        """Start it (again); the seconds until it was ready, and of them those after the program's imports."""
        began = time.monotonic()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROBE),
            str(self.home),
            str(self.port),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=self._log,
        )
        ready = await self._line(START_SECONDS)
        self.port = ready["port"]
        return {"start_s": time.monotonic() - began, "load_s": ready["load_seconds"]}

    async def look(self) -> dict[str, Any]:
        """What the coordinator says of the time since it was last asked."""
        process = self._running
        assert process.stdin is not None
        process.stdin.write(b"look\n")
        return await self._line(START_SECONDS)

    @property
    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("The coordinator was not started.")
        return self._process

    @property
    def pid(self) -> int:
        return self._running.pid

    async def _line(self, seconds: float) -> dict[str, Any]:
        process = self._running
        assert process.stdout is not None
        async with asyncio.timeout(seconds):
            line = await process.stdout.readline()
        if not line:
            raise RuntimeError(f"The coordinator ended; its last words:\n{self.log[-4000:]}")
        return dict(json.loads(line))

    @property
    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    async def memory(self) -> int:
        """Its own share of memory (PSS), in bytes, after it has come to rest."""
        await asyncio.sleep(SETTLE_SECONDS)
        return int(psutil.Process(self.pid).memory_full_info().pss)

    def disk(self) -> int:
        """Bytes of its databases with their logs."""
        return sum(path.stat().st_size for path in self.home.glob("*.db*"))

    async def kill(self) -> None:
        """As a power cut of the process alone."""
        if self._running.returncode is None:
            self._running.kill()
        await self._running.wait()

    async def stop(self) -> None:
        """End in order; by force if that takes too long."""
        if self._process is None or self._process.returncode is not None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            await self.kill()

    async def close(self) -> None:
        await self.stop()
        self._log.close()
        shutil.rmtree(self.home, ignore_errors=True)
