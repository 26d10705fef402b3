"""What a Dask cluster says when it cannot be, and that nothing is left then; one machine, its own network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lan import REPOSITORY, Lan
from meshes import Machine, wait_until
from open_python import open_python

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(240)]

TRY = """
import asyncio, json, sys, threading, warnings
warnings.simplefilter("error", ResourceWarning)
from distributed import Client
from planetmesh.dask import MeshCluster
from planetmesh.errors import MeshError

async def main():
    async with MeshCluster(workers=1, asynchronous=True, **json.loads(sys.argv[1])) as cluster:
        async with Client(cluster, asynchronous=True) as client:
            return await client.submit(pow, 2, 10)

def here():
    with MeshCluster(workers=1, **json.loads(sys.argv[1])) as cluster, Client(cluster) as client:
        return client.submit(pow, 2, 10).result()

for way in (lambda: asyncio.run(main()), here):
    try:
        print(way())
    except MeshError as error:
        print(type(error).__name__, error)
"""


@pytest.fixture
def desk(make_lan: Callable[[int], Lan], tmp_path: Path) -> Iterator[Machine]:
    python, env = open_python("distributed", "numpy")
    made = Machine(tmp_path / "desk", lan=make_lan(1), host="h1", python=python, env=env)
    try:
        made.up("--new", "--no-mdns", "--port", "7433", "--name", "desk", "--cpus", "2")
        wait_until(
            lambda: [each["state"] for each in made.json("nodes")] == ["HEALTHY"], 60, lambda: made.log
        )
        yield made
        print(made.log[-4000:])
    finally:
        made.close()


def try_cluster(desk: Machine, **options: object) -> list[str]:
    """What came of one cluster for an event loop, and of one without."""
    assert desk.lan is not None
    program = desk.lan.run(
        "h1",
        [sys.executable, "-W", "ignore::UserWarning", "-c", TRY, json.dumps(options)],
        {"PYTHONPATH": str(REPOSITORY), "PLANETMESH_HOME": str(desk.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, error = program.communicate(timeout=200)
    assert program.returncode == 0, error
    assert "ResourceWarning" not in error, error
    return out.splitlines()


def jobs(desk: Machine) -> set[str]:
    return {job["status"] for job in desk.json("jobs")}


def test_it_works_in_a_loop_and_without(desk: Machine) -> None:
    assert try_cluster(desk) == ["1024", "1024"]
    assert jobs(desk) <= {"COMPLETED", "CANCELLED"}


def test_a_scheduler_that_never_starts_is_explained_and_cancelled(desk: Machine) -> None:
    assert desk.call("node", "drain", "desk").status == 0
    said = try_cluster(desk, start_seconds=2)
    assert all(each.startswith("Unreachable The cluster's scheduler does not run") for each in said), said
    assert all("draining" in each for each in said), said
    assert len(said) == 2
    assert jobs(desk) == {"CANCELLED"}


def test_what_makes_no_sense_is_refused(desk: Machine) -> None:
    for options, words in (({"hours": 1000}, "72 hours"), ({"cores": 3}, "no option 'cores'")):
        assert all(words in each for each in try_cluster(desk, **options)), options
    assert jobs(desk) == set()
