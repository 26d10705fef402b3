"""The call of the job type `dask`: one Dask scheduler or worker, for as long as its owner is there.

It listens for its owner, who alone can show the cluster's certificate, gets the key from him and then serves
Dask. An owner who is silent for too long counts as gone, and the process ends: no cluster outlives its owner.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import msgspec

from planetmesh.child.call import Call
from planetmesh.discovery.adapters import usable_addresses
from planetmesh.trust.cluster import make_own
from planetmesh.trust.tls import HANDSHAKE_SECONDS, pinned_context
from planetmesh.wire.dask import (
    LINE_MOST_BYTES,
    PLACES_MOST,
    Begin,
    DaskPayload,
    End,
    Failed,
    FromOwner,
    Running,
)

LOOK_SECONDS = 0.25
CLOSE_SECONDS = 5.0
LOOPBACK = "127.0.0.1"

_read_line: msgspec.json.Decoder[FromOwner] = msgspec.json.Decoder(FromOwner)


def run(call: Call) -> None:
    """Until Dask is closed, the owner says so, or he is gone."""
    payload = msgspec.convert(call.payload, DaskPayload)
    print(asyncio.run(_Process(payload).serve(call)), flush=True)


class _Process:
    def __init__(self, payload: DaskPayload) -> None:
        self._payload = payload
        self._heard_at = time.monotonic()
        self._is_over = False
        self._beginning = asyncio.Lock()
        self._dask: Any = None
        self._failure = ""

    async def serve(self, call: Call) -> str:
        """Emit a `Hello` to the owner, then serve; why it ended.

        Raises RuntimeError if Dask could not be started.
        """
        key, certificate = make_own()
        context = pinned_context(key, certificate, self._payload.certificate, serves=True)
        servers, places = await self._listen(context)
        try:
            call.emit({"places": places, "certificate": certificate})
            return await self._watch()
        finally:
            for server in servers:
                server.close()
            if self._dask is not None:
                with suppress(Exception):
                    async with asyncio.timeout(CLOSE_SECONDS):
                        await self._dask.close()

    async def _listen(self, context: Any) -> tuple[list[asyncio.Server], list[str]]:
        servers, places = [], []
        for host in own_hosts()[:PLACES_MOST]:
            with suppress(OSError):
                server = await asyncio.start_server(
                    self._hear,
                    host,
                    0,
                    ssl=context,
                    ssl_handshake_timeout=HANDSHAKE_SECONDS,
                    limit=LINE_MOST_BYTES,
                )
                servers.append(server)
                places.append(f"{_bracketed(host)}:{server.sockets[0].getsockname()[1]}")
        return servers, places

    async def _watch(self) -> str:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._failure:
                raise RuntimeError(self._failure)
            if self._is_over:
                return "Its owner has ended it."
            if self._dask is not None and self._dask.status.name in {"closing", "closed", "failed"}:
                return "Dask has closed it."
            silent = time.monotonic() - self._heard_at
            if silent > self._payload.patience_seconds:
                return f"Its owner has been silent for {silent:.0f} seconds, so it ends."

    # The owner

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = await self._do(_read_line.decode(line))
                if answer is not None:
                    writer.write(msgspec.json.encode(answer) + b"\n")
                    await writer.drain()
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            print(f"The line to the owner broke: {error}", flush=True)
        finally:
            writer.close()

    async def _do(self, said: FromOwner) -> Running | Failed | None:
        self._heard_at = time.monotonic()
        if isinstance(said, End):
            self._is_over = True
        if not isinstance(said, Begin):
            return None
        async with self._beginning:
            try:
                if self._dask is None:
                    self._dask = await self._start(said)
                return Running(self._dask.address)
            except Exception as error:  # whatever it is, the owner is told before this ends
                self._failure = f"Dask could not be started: {error}"
                return Failed(self._failure[:4096])

    async def _start(self, said: Begin) -> Any:
        from distributed import Scheduler, Worker

        from planetmesh.child.dask_security import PinnedSecurity

        class Quiet:
            """No page of its own: that would be open to everybody who can reach this machine."""

            def start_http_server(self, *_args: Any, **_kwargs: Any) -> None:
                return

        payload = self._payload
        common = {
            "security": PinnedSecurity(said.key, payload.certificate),
            "host": _bracketed(said.host),
            "port": 0,
            "protocol": "tls",
            "dashboard": False,
        }
        if payload.part == "scheduler":
            return await type("QuietScheduler", (Quiet, Scheduler), {})(**common)
        return await type("QuietWorker", (Quiet, Worker), {})(
            payload.scheduler,
            **common,
            name=payload.name,
            nthreads=payload.threads,
            memory_limit=payload.memory_bytes or None,
            local_directory=os.getcwd(),  # noqa: PTH109  the task's own folder goes with it
            death_timeout=payload.patience_seconds,
        )


def own_hosts() -> list[str]:
    """Addresses under which others may reach this machine; loopback last, for an owner on this one."""
    found = [each.address for each in usable_addresses()]
    return [each for each in found if not ip_address(each.partition("%")[0]).is_link_local] + [LOOPBACK]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
