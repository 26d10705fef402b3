"""A full disk is an answer, not an end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_rows import job, tasks, verify

from planetmesh.errors import StorageFailed
from planetmesh.model.job import TaskState
from planetmesh.paths import Home
from planetmesh.settings import Settings
from planetmesh.store.changes import Changes
from planetmesh.store.outputs import Outputs
from planetmesh.store.store import Store
from planetmesh.wire.agent import TaskOutput

SIZE = "2m"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount a small tmpfs")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "planetmesh-test", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not let us mount a tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_refuses_the_commit_and_the_store_goes_on_when_there_is_space(
    small_disk: Path,
) -> None:
    home = Home(small_disk)
    store = await Store.open(home)
    one = job(count=100)
    await store.commit(Changes(jobs=[one]))
    ballast = small_disk / "ballast"
    _fill(ballast)
    big = Changes(tasks=tasks(one, 0, 50, TaskState.QUEUED, error="x" * 40_000))
    for _ in range(3):
        with pytest.raises(StorageFailed, match="disk is full") as failure:
            await store.commit(big)
        assert "Free some space" in failure.value.hint
    assert (await store.load()).jobs[0].next_index == 0, "reads go on, and nothing was kept"
    with pytest.raises(StorageFailed, match="disk is full"):
        await store.backup()

    ballast.unlink()
    small = tasks(one, 0, 5, TaskState.QUEUED)
    await store.commit(Changes(tasks=small))
    assert await store.tasks(one.id, 0, 5) == small
    await store.close()
    store = await Store.open(home)
    assert (await store.load()).jobs[0].next_index == 5
    await store.close()
    verify(home)


async def test_output_that_found_no_space_can_be_sent_again(small_disk: Path) -> None:
    home = Home(small_disk)
    store = await Store.open(home)
    outputs = await Outputs.open(home, Settings())
    ballast = small_disk / "ballast"
    _fill(ballast)
    piece = TaskOutput(job().id, 0, 1, 1, 0, b"x" * 500_000)
    with pytest.raises(StorageFailed, match="disk is full"):
        await outputs.append([piece])
    ballast.unlink()
    await outputs.append([piece])
    assert [len(p.data) for p in await outputs.read(piece.job_id, 0)] == [500_000]
    await outputs.close()
    await store.close()


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return
