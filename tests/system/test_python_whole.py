"""The job type `python` through a real mesh, by the API and the command line."""

from __future__ import annotations

import base64
import json
import pickle
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import cloudpickle
import msgspec
import pytest
from meshes import Machine, wait_until

from planetmesh.client.async_client import AsyncMesh
from planetmesh.errors import BadInput
from planetmesh.model.job import AUTO_CHUNK, Items, JobSpec, JobState
from planetmesh.wire.calls import VALUES, read_frames

pytestmark = [pytest.mark.system]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "desk")
    made.up("--new", "--no-mdns", "--bind", "127.0.0.1", "--port", "0", "--name", "desk", "--cpus", "2")
    wait_until(lambda: [each["state"] for each in made.json("nodes")] == ["HEALTHY"], 60, lambda: made.log)
    yield made
    print(made.log[-8000:])
    made.kill()
    made.close()


def job_of(function, *calls: tuple, **changes) -> JobSpec:
    payload = {"function": base64.b64encode(cloudpickle.dumps(function)).decode(), "python": HERE}
    items = Items(tuple(json.dumps({"a": args}) for args in calls))
    given = {"inputs": items, "tags": (f"python{HERE}",), "max_attempts": 1, **changes}
    return JobSpec(type="python", payload=payload | {"name": function.__name__}, **given)


def divide(x, y):
    print(f"{x} / {y}")
    return slice(x // y) if x > 5 else x // y


async def test_values_errors_and_pickles_come_back(desk: Machine) -> None:
    async with AsyncMesh(desk.home) as mesh:
        handle = await mesh.submit(job_of(divide, (4, 2), (1, 0), (9, 3), chunk=2))
        view = await handle.wait()
    assert view.status == JobState.FAILED
    assert "ZeroDivisionError" in view.error
    said = desk.call("--json", "results", handle.id)
    assert said.status == 1
    first, second = said.json
    assert (first["status"], first["encoding"], first["value"][0]) == ("FAILED", "calls", {"value": 2})
    error = first["value"][1]["error"]
    assert (error["type"], "in divide" in error["traceback"]) == ("ZeroDivisionError", True)
    assert (second["status"], second["encoding"]) == ("COMPLETED", "pickle")
    assert pickle.loads(base64.b64decode(second["value"])) == slice(3)
    assert "1 of 2 calls raised; first: ZeroDivisionError" in first["error"]
    assert desk.call("logs", handle.id).out.count(" / ") == 3
    assert '"v"' not in desk.call("logs", handle.id).out
    assert f"python{HERE}" in desk.json("nodes")[0]["tags"]


async def test_many_small_calls_become_few_tasks(desk: Machine) -> None:
    calls = 3000
    async with AsyncMesh(desk.home) as mesh:
        handle = await mesh.submit(job_of(lambda x: -x, *[(n,) for n in range(calls)], chunk=AUTO_CHUNK))
        found: dict[int, bytes] = {}
        async with aclosing(mesh.output(handle.id, stream=VALUES, following=True)) as pieces:
            async for piece in pieces:
                found[piece.index] = found.get(piece.index, b"") + piece.data
        assert (await handle.wait()).status == JobState.COMPLETED
    values = {
        index + number: int(bytes(frame.v))
        for index, data in found.items()
        for number, frame in read_frames(data, calls).items()
    }
    assert values == {number: -number for number in range(calls)}
    assert len(found) < calls / 5


async def test_another_python_is_refused_or_waits_with_the_reason(desk: Machine) -> None:
    payload = {"function": base64.b64encode(cloudpickle.dumps(len)).decode(), "python": "3.99"}
    base = job_of(len, ("x",))
    async with AsyncMesh(desk.home) as mesh:
        spec = msgspec.structs.replace(base, tags=())
        with pytest.raises(BadInput, match="only on nodes with the same Python"):
            await mesh.submit(spec)
        spec = msgspec.structs.replace(base, payload=payload, tags=("python3.99",))
        handle = await mesh.submit(spec)
    said = desk.call("explain", handle.id).out
    assert f"It has Python {HERE}" in said
    assert "the job needs 3.99" in said
