"""A file larger than anybody's memory, sent by the command line to the real coordinator and back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from planetmesh.client.sync_client import Mesh
from planetmesh.paths import Home

GIB = 1024**3
SIZE = (5 if os.environ.get("PLANETMESH_LARGE") else 2) * GIB + 7
PEAK_MOST_BYTES = 200 * 1024 * 1024
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
FETCH = """
import asyncio, sys
from pathlib import Path
from planetmesh.client.async_client import AsyncMesh
from planetmesh.client.downloads import Downloader
from planetmesh.client.progress import Progress
from planetmesh.client.wanted import Selection, Wanted
async def main(home, folder, digest, size):
    async with AsyncMesh(home) as mesh:
        await mesh.status()
        selection = Selection((Wanted(0, "hole.bin", digest, int(size)),))
        await Downloader(mesh._open, Path(folder), Progress(), overwrite=False).fetch(selection)
asyncio.run(main(*sys.argv[1:]))
"""


def peak_of(*arguments: str, cwd: Path) -> int:
    """The most memory that a program of ours used, bytes.

    By way of a small one: what a program is started from counts as its own until it runs.
    """
    process = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(process.stdout.split()[-1]) * 1024


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform != "linux", reason="sparse files, memory in KiB")
def test_gibibytes_pass_in_flat_memory(home: Home, coordinator, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    with (here / "hole.bin").open("wb") as file:
        file.truncate(SIZE - 7)
        file.seek(SIZE - 7)
        file.write(b"the end")
    run = ("-m", "planetmesh", "--home", str(home.root), "run", "--detach", "--in", "hole.bin", "true")
    assert peak_of(*run, cwd=here) < PEAK_MOST_BYTES
    with Mesh(home.root) as mesh:
        (staged,) = mesh.job("last").spec.files
    assert staged.size == SIZE
    arguments = ("-c", FETCH, str(home.root), "made", staged.digest, str(SIZE))
    assert peak_of(*arguments, cwd=here) < PEAK_MOST_BYTES
    made = here / "made/hole.bin"
    assert made.stat().st_size == SIZE
    with made.open("rb") as file:
        file.seek(SIZE - 8)
        assert file.read() == b"\0the end"
