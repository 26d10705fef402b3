"""A task that fills the disk is stopped before nothing is left for others (abuse test T36)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from planetmesh.agent.sandbox.messages import Why

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
SIZE = "64m"


@pytest.fixture
def work_root(ground: Path):
    """A disk of its own, of 64 MiB and 4000 files."""
    root = ground / "work"
    root.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE},nr_inodes=4000,mode=0711", "none", str(root)],
        check=False,
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("no mounts are allowed here")
    yield root
    subprocess.run(["umount", str(root)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        "head -c 62m /dev/zero > big; sleep 30",
        "head -c 62m /dev/zero > ../big; sleep 30",
        "i=0; while test $i -lt 3950; do : > f$i; i=$((i + 1)); done; sleep 30",
    ],
    ids=["bytes", "beside its folder", "files"],
)
async def test_who_fills_the_disk_is_stopped_and_the_disk_is_free_again(open_job, work_root, script):
    job = await open_job()
    end = await job.shell(script)
    assert end.why is Why.DISK
    assert "filled the disk" in end.message
    assert end.wall_seconds < 25
    await job.handle.close()


@pytest.mark.slow
async def test_a_disk_that_others_fill_stops_nobody(open_job, work_root):
    job = await open_job()
    index = job.start("/bin/sh", "-c", "echo some > file; sleep 1.6")
    await job.started(index)
    (work_root / "theirs").write_bytes(bytes(62 * 1024 * 1024))
    assert (await job.end(index)).why is Why.EXIT
