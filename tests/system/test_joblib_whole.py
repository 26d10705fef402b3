"""joblib's `Parallel` with the calls on a real mesh."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from joblib import Parallel, delayed, parallel_config
from meshes import Machine, wait_until
from open_python import open_python

import planetmesh.joblib
from planetmesh import Mesh
from planetmesh.errors import BadInput, PicklesRefused

pytestmark = [pytest.mark.system]


def when(seconds: float) -> list[float]:
    began = time.time()
    time.sleep(seconds)
    return [began, time.time()]


def squares_of(numbers: list[int]) -> int:
    found = Parallel(n_jobs=2)(
        delayed(lambda x: (x * x, threading.current_thread().name))(n) for n in numbers
    )
    return sum(square if "MainThread" not in thread else -1 for square, thread in found)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    python, env = open_python("joblib")
    made = Machine(tmp_path / "desk", env=env, python=python)
    made.up("--new", "--no-mdns", "--bind", "127.0.0.1", "--port", "0", "--name", "desk", "--cpus", "4")
    wait_until(lambda: [each["state"] for each in made.json("nodes")] == ["HEALTHY"], 60, lambda: made.log)
    monkeypatch.setenv("PLANETMESH_HOME", str(made.home))
    planetmesh.joblib.register()
    yield made
    print(made.log[-8000:])
    made.kill()
    made.close()


def test_values_in_order_and_as_they_come(desk: Machine) -> None:
    with parallel_config("planetmesh"):
        assert Parallel()(delayed(lambda x: x * x)(n) for n in range(3000)) == [n * n for n in range(3000)]
        assert Parallel()([]) == []
        assert joblib.effective_n_jobs(-1) == 4
        assert Parallel()(delayed(squares_of)([n, 2]) for n in range(3)) == [4, 5, 8]
        with Parallel(n_jobs=-1, batch_size=7) as parallel:
            assert [parallel(delayed(pow)(n, 2) for n in range(20))[-1] for _ in range(2)] == [361, 361]
    values = Parallel(backend="planetmesh", return_as="generator")(delayed(abs)(-n) for n in range(50))
    assert (next(values), sum(values)) == (0, sum(range(50)))
    late = Parallel(backend="planetmesh", return_as="generator_unordered")(
        delayed(lambda s: time.sleep(s) or s)(seconds) for seconds in (1.5, 0.1)
    )
    assert list(late) == [0.1, 1.5]
    pairs = Parallel(backend="planetmesh")(delayed(divmod)(n, 3) for n in range(9))
    assert pairs == [divmod(n, 3) for n in range(9)]
    with Mesh() as mesh:
        jobs = mesh.jobs(limit=200)
        assert sum(job.tasks.total for job in jobs) < 400
        given = parallel_config("planetmesh", mesh=mesh, pickles=True, name="mine")
        with given:
            assert Parallel()(delayed(slice)(n, 3) for n in range(9)) == [slice(n, 3) for n in range(9)]
        assert mesh.jobs(limit=1)[0].name == "mine"


def test_large_arguments_travel_as_files(desk: Machine) -> None:
    large = bytes(range(256)) * 40_000
    with parallel_config("planetmesh"):
        found = Parallel(batch_size=3)(delayed(lambda data, n: data[n])(large, n) for n in range(12))
    assert found == list(range(12))


def test_no_more_run_at_once_than_was_asked_for(desk: Machine) -> None:
    times = Parallel(n_jobs=2, backend="planetmesh")(delayed(when)(0.3) for _ in range(8))
    assert max(sum(began <= each[0] < ended for each in times) for began, ended in times) == 2


def test_what_goes_wrong_is_raised_and_stops_the_rest(desk: Machine) -> None:
    parallel = Parallel(backend="planetmesh")
    with pytest.raises(ZeroDivisionError):
        parallel(delayed(lambda x: 1 // x)(n) for n in (1, 2, 0, 3))
    with pytest.raises(PicklesRefused):
        parallel(delayed(slice)(7, 3) for _ in range(3))
    with pytest.raises(BadInput, match="cannot be sent"):
        parallel(delayed(len)(each for each in "ab") for _ in range(3))
    with pytest.raises(RuntimeError, match="of the caller"):
        parallel(delayed(abs)(n if n < 30 else _fail()) for n in range(50))
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(backend="planetmesh", timeout=1)(delayed(time.sleep)(60) for _ in range(6))
    with Mesh() as mesh:
        wait_until(lambda: all(job.status != "RUNNING" for job in mesh.jobs()), 60)
        assert {job.status for job in mesh.jobs() if job.name == "sleep"} == {"CANCELLED"}


def _fail() -> int:
    raise RuntimeError("an error of the caller's own")
