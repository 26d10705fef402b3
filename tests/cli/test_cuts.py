"""Transfers between the client and the real coordinator, cut off at any byte of the connection."""

from __future__ import annotations

import asyncio
import random
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from cutting_proxy import DOWN, UP, CuttingProxy
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.downloads import Downloader
from planetmesh.client.plan import Plan
from planetmesh.client.progress import Progress
from planetmesh.client.wanted import Selection, Wanted
from planetmesh.model.job import JobSpec
from planetmesh.paths import Home
from planetmesh.trust.identity import Membership

LARGE_BYTES = 2_500_000
SMALL = {f"small-{number}": b"%d" % number * 1000 for number in range(20)}
CUTS_MOST = 4
WIRE_BYTES = LARGE_BYTES + 100_000
"""What one connection carries at most: TLS and HTTP add a little."""

anywhere = st.one_of(st.integers(0, 6000), st.integers(0, WIRE_BYTES))
"""The handshake and the headers are small, and most can go wrong there."""


@pytest.mark.slow
def test_any_cut_of_a_transfer_is_gone_on_with(home: Home, coordinator, tmp_path: Path) -> None:
    examples = iter(range(10_000))
    done: list[int] = []

    @profile(max_examples=12)
    @given(
        st.lists(st.tuples(st.sampled_from([UP, DOWN]), anywhere), min_size=1, max_size=CUTS_MOST),
        st.lists(st.tuples(st.sampled_from([UP, DOWN]), anywhere), min_size=1, max_size=CUTS_MOST),
    )
    def check(sending: list[tuple[str, int]], fetching: list[tuple[str, int]]) -> None:
        number = next(examples)
        folder = tmp_path / str(number)
        done.append(asyncio.run(there_and_back(home, coordinator._port, folder, number, sending, fetching)))

    check()
    assert sum(done) >= len(done), "cuts that came to be"


async def there_and_back(
    home: Home,
    port: int,
    folder: Path,
    seed: int,
    sending: list[tuple[str, int]],
    fetching: list[tuple[str, int]],
) -> int:
    files = {"large": random.Random(seed).randbytes(LARGE_BYTES)}
    files |= {name: content + b"%d" % seed for name, content in SMALL.items()}
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    plan = Plan(folder)
    plan.add("*")
    async with CuttingProxy(port) as proxy:
        lead_through(home, proxy.port)
        async with AsyncMesh(home.root, patience_seconds=30) as mesh:
            await mesh.status()
            proxy.cuts = list(sending)
            proxy.drop()
            spec = JobSpec(type="command", payload={"argv": ["true"]})
            await mesh.submit_with(plan, spec)
            proxy.cuts = list(fetching)
            proxy.drop()
            wanted = tuple(
                Wanted(0, name, sha256(content).hexdigest(), len(content)) for name, content in files.items()
            )
            downloader = Downloader(mesh._open, folder / "back", Progress(), overwrite=False)
            await downloader.fetch(Selection(wanted))
    assert {path.name: path.read_bytes() for path in (folder / "back").iterdir()} == files
    return proxy.done


def lead_through(home: Home, port: int) -> None:
    """Let this home's operator go by another port."""
    place = home.operator / "mesh.json"
    membership = msgspec.json.decode(place.read_bytes(), type=Membership)
    place.write_bytes(
        msgspec.json.encode(msgspec.structs.replace(membership, endpoints=(f"127.0.0.1:{port}",)))
    )
