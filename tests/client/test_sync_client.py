"""`Mesh`: the same client for programs without an event loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_double import Does, Double, running_double

import planetmesh
from planetmesh.client.sync_client import Mesh
from planetmesh.errors import BadInput, NotAllowed, NotFound
from planetmesh.model.job import Items, JobSpec, JobState
from planetmesh.paths import Home

TWO = JobSpec(type="command", payload={"argv": ["echo"]}, inputs=Items(("a", "b")))


@pytest.fixture
def double(tmp_path: Path, home: Home) -> Iterator[Double]:
    with running_double(tmp_path / "double", home) as double:
        yield double


def test_a_job_from_submit_to_logs(double: Double, home: Home) -> None:
    double.plan = lambda spec, index: Does(pieces=((1, b"%d\n" % index),))
    with planetmesh.Mesh(home.root) as mesh:
        assert mesh.status().mesh == "home"
        job = mesh.submit(TWO, wait_seconds=5)
        assert job.view.status == JobState.COMPLETED
        assert job.wait() is job.view
        assert [task.payload for task in job.tasks()] == ["a", "b"]
        assert b"".join(piece.data for piece in job.logs()) == b"0\n1\n"
        assert [piece.index for piece in job.output()] == [0, 1]
        assert mesh.handle("last").id == job.id
        assert [node.name for node in mesh.nodes()] == ["desk"]
        with pytest.raises(NotFound):
            mesh.job("zzz")


def test_leaving_a_stream_early_leaves_nothing_behind(double: Double, home: Home) -> None:
    double.plan = lambda spec, index: Does(pieces=((1, b"x"),) * 5, seconds=0.01)
    with Mesh(home.root) as mesh:
        job = mesh.submit(TWO)
        for _piece in job.output():
            break
        assert job.wait().status == JobState.COMPLETED


def test_many_threads_share_one_mesh(double: Double, home: Home) -> None:
    ids: list[str] = []
    with Mesh(home.root) as mesh:
        threads = [
            threading.Thread(target=lambda: ids.append(mesh.submit(TWO, wait_seconds=5).id)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(set(ids)) == 8


def test_a_closed_mesh_says_so(double: Double, home: Home) -> None:
    mesh = Mesh(home.root)
    mesh.close()
    mesh.close()
    with pytest.raises(BadInput, match="closed"):
        mesh.status()


def test_no_identity_leaves_no_thread(home: Home) -> None:
    before = threading.active_count()
    with pytest.raises(NotAllowed):
        Mesh(home.root)
    assert threading.active_count() == before
