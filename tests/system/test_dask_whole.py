"""A Dask cluster on a mesh of three machines: what it computes, who gets in, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lan import REPOSITORY, Lan
from meshes import Machine, wait_until
from open_python import open_python

from planetmesh.paths import Home

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(240)]
OWNER = str(Path(__file__).parent / "dask_owner.py")
INTRUDER = str(Path(__file__).parent / "dask_intruder.py")
PATIENCE_SECONDS = 8.0
"""Of the clusters here (dask_owner.py)."""
ENDS = {"COMPLETED", "CANCELLED"}
"""Of processes that were told to end; cancelled is one whose answer to the key had not come by then."""
LISTENS = "0A"
LOOPBACK = "0100007F"


class World:
    """A coordinator on h1, nodes on h2 and h3, and a program on h1 that owns a cluster."""

    def __init__(self, lan: Lan, folder: Path) -> None:
        python, env = open_python("distributed", "numpy")
        self.lan = lan
        self.folder = folder
        self.desk = Machine(folder / "desk", lan=lan, host="h1", python=python, env=env)
        self.nodes = {
            host: Machine(folder / host, lan=lan, host=host, python=python, env=env) for host in ("h2", "h3")
        }

    def start(self) -> None:
        self.desk.up("--new", "--no-agent", "--no-mdns", "--port", "7433", "--name", "desk")
        for host, node in self.nodes.items():
            self.start_node(host, code=self.desk.code()["code"])
            assert node.process is not None
        wait_until(lambda: {each["state"] for each in self.desk.json("nodes")} == {"HEALTHY"}, 60)
        # From then on they listen too, and tests compare who listens before a cluster and after it.
        wait_until(lambda: all("peer.open" in node.log for node in self.nodes.values()), 60, self.tell)

    def start_node(self, host: str, code: str | None = None) -> None:
        join = ("--join", f"{self.lan.address('h1')}:7433") if code else ()
        self.nodes[host].up(*join, "--no-mdns", "--name", host, "--cpus", "3", code=code)

    def own(self, what: str, home: Path | None = None) -> Owner:
        return Owner(self, what, home or self.desk.home)

    def log_in(self, role: str) -> Machine:
        """Somebody else's identity, on h1."""
        person = Machine(self.folder / role, lan=self.lan, host="h1")
        code = self.desk.json("code", "--role", role)["code"]
        where = ("--join", f"{self.lan.address('h1')}:7433", "--code-stdin")
        joined = person.call("login", "--role", role, *where, stdin=f"{code}\n")
        assert joined.status == 0, joined.error
        return person

    def jobs(self) -> dict[str, str]:
        return {job["name"]: job["status"] for job in self.desk.json("jobs")}

    def listening(self, host: str) -> set[str]:
        """Ports that somebody listens at."""
        tables = self.lan.check(host, ["cat", "/proc/net/tcp", "/proc/net/tcp6"])
        rows = [line.split() for line in tables.splitlines()]
        return {row[1] for row in rows if len(row) > 3 and row[3] == LISTENS}

    def tell(self) -> str:
        machines = [self.desk, *self.nodes.values()]
        jobs = self.desk.call("--json", "jobs")
        logs = [self.desk.call("logs", job["id"]) for job in jobs.json] if not jobs.status else []
        said = [f"{each.out[-3000:]}{each.error[-3000:]}" for each in logs]
        return "\n".join([jobs.out, *said, *(each.log[-4000:] for each in machines)])

    def close(self) -> None:
        for machine in (*self.nodes.values(), self.desk):
            machine.close()


class Owner:
    def __init__(self, world: World, what: str, home: Path) -> None:
        self._out = world.folder / f"{what}.out"
        self._error = world.folder / f"{what}.error"
        with self._out.open("wb") as out, self._error.open("wb") as error:
            self.process = world.lan.run(
                "h1",
                [sys.executable, OWNER, str(home), what],
                {"PYTHONPATH": str(REPOSITORY)},
                stdout=out,
                stderr=error,
            )

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self._out.read_text().splitlines() if line.endswith("}")]

    def wait_for(self, holds: Callable[[dict], bool], seconds: float = 90.0) -> dict:
        def found() -> list[dict]:
            return [line for line in self.lines if holds(line)]

        wait_until(lambda: bool(found()) or self.process.poll() is not None, seconds, self.tell)
        assert found(), self.tell()
        return found()[-1]

    def tell(self) -> str:
        return f"{self.lines}\n{self._error.read_text()[-4000:]}"


@pytest.fixture
def world(lan: Lan, tmp_path: Path) -> Iterator[World]:
    made = World(lan, tmp_path)
    try:
        made.start()
        yield made
        print(made.tell())
    finally:
        made.close()


def host_of(address: str) -> str:
    return address.removeprefix("tls://").rpartition(":")[0]


def test_a_cluster_computes_scales_and_is_gone(world: World) -> None:
    before = {host: world.listening(host) for host in world.nodes}
    owner = world.own("work")
    assert owner.process.wait(180) == 0, owner.tell()
    said = {name: value for line in owner.lines for name, value in line.items()}
    node_hosts = {world.lan.address(host) for host in world.nodes}
    assert said["scheduler"].startswith("tls://")
    assert {host_of(each) for each in (said["scheduler"], *said["workers"])} <= node_hosts
    assert said["array"] == sum(range(1_000_000))
    assert said["graph"] == sum(n * n for n in range(10))
    assert [line["squares"] for line in owner.lines if "squares" in line] == [
        sum(n * n for n in range(200)),
        sum(range(51)),
    ]
    assert said["ran_on"] == said["workers"]
    assert (len(said["up"]), len(said["down"])) == (4, 1)
    assert {host_of(each) for each in said["up"]} == node_hosts
    assert said["closed"] is True
    # Closed: no job goes on, nobody listens any more, and no task is left.
    jobs = world.jobs()
    assert len(jobs) == 5, jobs
    assert set(jobs.values()) <= ENDS
    assert {host: world.listening(host) for host in world.nodes} == before


def test_nobody_else_gets_in_and_nothing_outlives_a_killed_owner(world: World) -> None:
    before = {host: world.listening(host) for host in world.nodes}
    owner = world.own("stay")
    said = owner.wait_for(lambda line: len(line["workers"]) == 2)
    assert said["total"] == 45
    viewer = world.log_in("viewer")
    strangers = [
        "-",
        str(Home(viewer.home).operator),
        str(Home(world.nodes["h2"].home).agent),
        str(Home(world.nodes["h2"].home).peer),
        str(Home(world.desk.home).operator),
    ]
    # Of each process both ports: Dask's own, and the one where it waits for its owner.
    doors = [each.removeprefix("tls://") for each in (said["scheduler"], *said["workers"])]
    for host in world.nodes:
        own = world.listening(host) - before[host]
        ports = [int(each.rpartition(":")[2], 16) for each in own if not each.startswith(LOOPBACK)]
        doors += [f"{world.lan.address(host)}:{port}" for port in ports]
    assert len(set(doors)) == 6
    for door in dict.fromkeys(doors):
        for stranger in strangers:
            said_to = world.lan.check("h1", [sys.executable, INTRUDER, door, stranger])
            assert said_to.startswith("refused"), (door, stranger, said_to)
    assert owner.process.poll() is None
    # The coordinator is away for longer than anybody's patience: a cluster goes on without it.
    world.desk.kill()
    time.sleep(PATIENCE_SECONDS + 2)
    world.desk.up()
    assert owner.process.poll() is None
    assert len(owner.lines[-1]["workers"]) == 2
    # Killed: nobody says goodbye, and all of it ends by itself.
    os.kill(owner.process.pid, 9)
    owner.process.wait(60)
    wait_until(lambda: set(world.jobs().values()) == {"COMPLETED"}, 60, lambda: f"{world.jobs()}")
    assert {host: world.listening(host) for host in world.nodes} == before


def test_the_cluster_of_a_revoked_owner_ends(world: World) -> None:
    before = {host: world.listening(host) for host in world.nodes}
    owner = world.own("stay", world.log_in("operator").home)
    owner.wait_for(lambda line: len(line["workers"]) == 2)
    member = world.desk.json("jobs")[0]["submitter"]
    script = (
        "import asyncio, sys; from planetmesh import AsyncMesh\n"
        "async def revoke(home, member):\n"
        "    async with AsyncMesh(home) as mesh: await mesh._ask('DELETE', f'/v1/members/{member}', dict)\n"
        "asyncio.run(revoke(*sys.argv[1:]))"
    )
    env = {"PYTHONPATH": str(REPOSITORY)}
    world.lan.check("h1", [sys.executable, "-c", script, str(world.desk.home), member], env)
    wait_until(lambda: set(world.jobs().values()) == {"COMPLETED"}, 60, lambda: f"{world.jobs()}")
    assert {host: world.listening(host) for host in world.nodes} == before
    os.kill(owner.process.pid, 9)


def test_the_example(world: World) -> None:
    env = {"PYTHONPATH": str(REPOSITORY), "PLANETMESH_HOME": str(world.desk.home)}
    said = world.lan.check("h1", [sys.executable, str(REPOSITORY / "examples" / "dask_cluster.py")], env, 120)
    assert said.splitlines() == [
        "squares: 332833500",
        "mean of an array: 1999999.5",
        "sum of a graph: 22.5",
    ]


def test_a_lost_worker_comes_back_on_another_node(world: World) -> None:
    owner = world.own("stay")
    first = owner.wait_for(lambda line: len(line["workers"]) == 2)
    hosts = {world.lan.address(host): host for host in world.nodes}
    scheduler = hosts[host_of(first["scheduler"])]
    other = next(host for host in world.nodes if host != scheduler)
    lost = [each for each in first["workers"] if hosts[host_of(each)] == other]
    assert lost, first
    began = time.monotonic()
    world.lan.unplug(other)
    again = owner.wait_for(
        lambda line: (
            len(line["workers"]) == 2 and {hosts[host_of(each)] for each in line["workers"]} == {scheduler}
        ),
        150,
    )
    assert again["total"] == 45
    print(f"back after {time.monotonic() - began:.1f} s")
