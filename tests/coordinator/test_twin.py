"""A coordinator that proves to be one of our mesh is found; nobody else counts as one."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from planetmesh.coordinator.enrolment import found_mesh
from planetmesh.coordinator.service import CoordinatorOptions, running_coordinator
from planetmesh.coordinator.twin import CALLED_MOST, first_answering
from planetmesh.paths import Home
from planetmesh.trust.identity import Identity

NOBODY = "127.0.0.1:9"


def coordinator_in(home: Home):
    return running_coordinator(
        CoordinatorOptions(home, "den", port=0, bind=("127.0.0.1",), mdns=False, local_agent=False)
    )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    found_mesh(home, "den")
    return home


async def test_a_coordinator_of_the_same_mesh_is_found(home: Home):
    identity = Identity.load(home.coordinator)
    async with coordinator_in(home) as twin:
        where = f"127.0.0.1:{twin.port}"
        assert await first_answering(identity, [NOBODY, where]) == where
    assert await first_answering(identity, [where]) is None


async def test_one_of_another_mesh_is_none(home: Home, tmp_path: Path):
    other = Home(tmp_path / "other")
    other.prepare()
    async with coordinator_in(other) as stranger:
        where = [f"127.0.0.1:{stranger.port}"]
        assert await first_answering(Identity.load(home.coordinator), where) is None


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 200 OK\r\n\r\n", secrets.token_bytes(2000)])
async def test_whoever_only_says_so_keeps_nobody_silent(home: Home, words: bytes):
    """Others on the LAN can announce our mesh at their address; they cannot prove it."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(words)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await first_answering(Identity.load(home.coordinator), [where]) is None


async def test_a_flood_of_announcements_costs_a_few_calls(home: Home):
    called = []

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(writer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        flood = [f"127.0.{number}.1:{port}" for number in range(1, 200)]
        assert await first_answering(Identity.load(home.coordinator), [f"127.0.0.1:{port}", *flood]) is None
    assert 1 <= len(called) <= CALLED_MOST
