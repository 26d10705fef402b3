"""Functions called through a real mesh: by `Mesh`, `AsyncMesh` and `MeshExecutor`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from pickle import PickleBuffer

import pytest
from meshes import Machine, wait_until

from planetmesh import AsyncMesh, Mesh, MeshExecutor
from planetmesh.client.functions import RemoteTraceback
from planetmesh.errors import BadInput, CallFailed, PicklesRefused

pytestmark = [pytest.mark.system]


class Odd(Exception):
    """Known here only."""


def fail(kind: str) -> None:
    if kind == "odd":
        raise Odd("strange")
    raise ValueError(f"no {kind}")


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def die() -> None:
    import os

    os._exit(9)


def twice_unless(guilty: int, how: str, x: int) -> int:
    import os
    import signal

    if x == guilty and how == "eat":
        held = []
        while True:
            held.append(bytearray(16 * 2**20))
            time.sleep(0.01)
    if x == guilty:
        os.kill(os.getpid(), signal.SIGSEGV)
    return x * 2


def ready(file: str) -> str:
    """With a file's name: once there is one."""
    while file and not Path(file).exists():
        time.sleep(0.02)
    return file


@pytest.fixture
def desk(tmp_path: Path, shared: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "desk")
    here = ("--no-mdns", "--bind", "127.0.0.1", "--port", "0")
    made.up("--new", *here, "--name", "desk", "--cpus", "2", "--share", str(shared))
    wait_until(lambda: [each["state"] for each in made.json("nodes")] == ["HEALTHY"], 60, lambda: made.log)
    yield made
    print(made.log[-8000:])
    made.kill()
    made.close()


def test_calls_of_a_program_without_a_loop(desk: Machine, shared: Path) -> None:
    with Mesh(desk.home) as mesh:
        assert mesh.submit(pow, 2, 10).result(60) == 1024
        assert mesh.submit(sorted, [3, 1, 2], reverse=True).result(60) == [3, 2, 1]
        calls = mesh.map(lambda x: x * x, range(500))
        assert calls.results(60) == [x * x for x in range(500)]
        assert calls.progress == (500, 500)
        assert mesh.starmap(divmod, []).results() == []
        assert mesh.gather(mesh.starmap(pow, [(2, 3), (3, 2)])) == [8, 9]
        file = shared / "file"
        late, soon = mesh.submit(ready, str(file)), mesh.submit(ready, "")
        completed = mesh.as_completed([late, soon], 60)
        assert next(completed) is soon
        file.touch()
        assert [call.result() for call in completed] == [str(file)]
        assert len(mesh.jobs(limit=200)) < 20


@pytest.mark.parametrize("how", ["crash", "eat"])
def test_a_call_that_kills_its_process_fails_alone_among_a_thousand(desk: Machine, how: str) -> None:
    with Mesh(desk.home) as mesh:
        calls = mesh.using(memory="400MiB").starmap(twice_unless, [(500, how, x) for x in range(1000)])
        words = "its limit is 400 MiB" if how == "eat" else "ended by signal 11"
        with pytest.raises(CallFailed, match=words):
            calls[500].result(60)
        assert [call.result(60) for call in calls if call is not calls[500]] == [
            2 * x for x in range(1000) if x != 500
        ]


def test_arguments_functions_and_results_of_many_megabytes(desk: Machine) -> None:
    data = bytearray(b"planetmesh" * 3_000_000)
    kept = bytes(data)
    with Mesh(desk.home) as mesh:
        calls = mesh.map(
            lambda buffer, n: (len(buffer) + n) * buffer[0], [PickleBuffer(data)] * 20, range(20)
        )
        data[0] = 0
        assert calls.results(60) == [(len(data) + n) * kept[0] for n in range(20)]
        assert mesh.map(lambda n: kept[n], range(10)).results(60) == list(kept[:10])
        assert mesh.map(lambda n: "y" * 1_000_000 + str(n), range(40)).results(60)[-1][-2:] == "39"
        with pytest.raises(CallFailed, match="ResultTooLarge"):
            mesh.submit(lambda: "y" * 20_000_000).result(60)
        with MeshExecutor(mesh) as pool:
            assert pool.submit(len, kept).result(60) == len(kept)


def test_calls_that_come_one_soon_after_the_other_share_jobs(desk: Machine) -> None:
    async def call() -> int:
        async with AsyncMesh(desk.home) as mesh:
            assert await mesh.submit(abs, -1) == 1
            calls = []
            for x in range(3000):
                calls.append(mesh.submit(abs, -x))
                await asyncio.sleep(0)
            assert list(await asyncio.gather(*calls)) == list(range(3000))
            return len({call.job for call in calls})

    assert asyncio.run(call()) <= 5


def test_what_calls_raise_comes_back_with_its_traceback(desk: Machine) -> None:
    with Mesh(desk.home) as mesh:
        with pytest.raises(ValueError, match="no luck") as caught:
            mesh.submit(fail, "luck").result(60)
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert "in fail" in str(caught.value.__cause__)
        with pytest.raises(CallFailed, match=r"Odd: strange"):
            mesh.submit(fail, "odd").result(60)
        with pytest.raises(Odd, match="strange"):
            mesh.using(pickles=True).submit(fail, "odd").result(60)
        mixed = mesh.map(lambda x: 6 // x, [3, 0, 2])
        assert (mixed[0].result(60), mixed[2].result(60)) == (2, 3)
        with pytest.raises(ZeroDivisionError):
            mixed[1].result(60)
        with pytest.raises(CallFailed):
            mesh.submit(die).result(60)
        assert mesh.submit(abs, -1).result(60) == 1


def test_pickled_results_are_opened_only_by_who_asks(desk: Machine) -> None:
    with Mesh(desk.home) as mesh:
        with pytest.raises(PicklesRefused, match="not opened"):
            mesh.submit(slice, 7, 2).result(60)
        assert mesh.using(pickles=True).submit(slice, 7, 2).result(60) == slice(7, 2)
        assert mesh.submit(divmod, 7, 2).result(60) == (3, 1)
        assert mesh.submit(str.encode, "ü").result(60) == b"\xc3\xbc"
        assert mesh.submit(len, {1, 2}).result(60) == 2
        with pytest.raises(BadInput, match="cannot be sent"):
            mesh.submit(len, (each for each in "ab"))
        with pytest.raises(TypeError, match="cannot be sent back"):
            mesh.submit(lambda: __import__("threading").Lock()).result(60)


def test_cancelled_calls_do_not_go_on(desk: Machine) -> None:
    with Mesh(desk.home) as mesh:
        calls = mesh.using(chunk=1).map(sleep, [60.0] * 8)
        wait_until(lambda: calls[0].job is not None, 60)
        assert calls.cancel() == 8
        wait_until(lambda: {job.status for job in mesh.jobs()} == {"CANCELLED"}, 60)
        assert mesh.submit(abs, -2).result(60) == 2


def test_a_coordinator_that_is_killed_loses_no_call(desk: Machine) -> None:
    with Mesh(desk.home) as mesh:
        calls = mesh.using(chunk=1).map(sleep, [0.5 + n / 100 for n in range(12)])
        wait_until(lambda: calls.progress[0] >= 2, 60)
        desk.kill()
        desk.up()
        assert calls.results(90) == [0.5 + n / 100 for n in range(12)]


async def test_calls_of_a_program_with_a_loop(desk: Machine, shared: Path) -> None:
    async with AsyncMesh(desk.home) as mesh:
        assert await mesh.submit(pow, 2, 10) == 1024
        assert await mesh.map(lambda x: -x, range(50)) == [-x for x in range(50)]
        assert await mesh.gather([mesh.submit(abs, -1), mesh.submit(abs, -2)]) == [1, 2]
        file = shared / "file"
        late, soon = mesh.submit(ready, str(file)), mesh.submit(ready, "")
        completed = mesh.as_completed([late, soon])
        assert await anext(completed) is soon
        file.touch()
        assert [await call async for call in completed] == [str(file)]
        with pytest.raises(ValueError, match="no way"):
            await mesh.submit(fail, "way")


def test_an_executor(desk: Machine) -> None:
    with MeshExecutor(home=desk.home, pickles=True) as pool:
        assert list(pool.map(divmod, range(5), [2] * 5)) == [divmod(n, 2) for n in range(5)]
        late = pool.submit(sleep, 0.3)

        async def ask() -> int:
            return await asyncio.get_running_loop().run_in_executor(pool, abs, -3)

        assert asyncio.run(ask()) == 3
    assert late.result(0) == 0.3
    with pytest.raises(RuntimeError):
        pool.submit(abs, 1)
