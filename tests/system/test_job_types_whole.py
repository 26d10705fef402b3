"""Every job type on a real node, in the sandbox: images, vectors, and a type that another package brings."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_model
from fake_install import install
from lan import REPOSITORY
from meshes import Machine
from model_server_double import Double, serving, vector_of
from PIL import Image

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(240)]

EXAMPLE = REPOSITORY / "examples" / "job_type_plugin"
TEXTS = ["the cat sits on the mat", "a dog", "revenue grew"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where tasks may look: unlike pytest's own folder, open to the user that root's tasks run as."""
    path = Path(tempfile.mkdtemp(prefix="planetmesh-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server() -> Iterator[Double]:
    with serving() as server:
        yield server


@pytest.fixture
def machine(tmp_path: Path, folder: Path, server: Double) -> Iterator[Machine]:
    site = install(EXAMPLE, folder / "site")
    env = {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(site))), "OLLAMA_HOST": server.url}
    machine = Machine(tmp_path / "home", env=env)
    try:
        machine.up(
            *("--new", "--no-mdns", "--bind", "127.0.0.1", "--port", "0"),
            *("--embedding-server", f"{server.url}/v1"),
        )
        said = machine.call("status", "--wait", "--timeout", "60", seconds=70)
        assert said.status == 0, machine.log
        yield machine
        print(machine.log)
    finally:
        machine.close()


def work(machine: Machine, folder: Path, job: str) -> list[dict]:
    """What came of a job file's tasks."""
    path = folder / "job.toml"
    path.write_text(job, encoding="utf-8")
    said = machine.call("submit", str(path))
    assert said.status == 0, said.error
    job_id = said.out.strip()
    said = machine.call("wait", "--timeout", "60", job_id, seconds=70)
    assert said.status in {0, 1}, said.error
    return machine.call("results", job_id, "--form", "json").json


def make_readable(folder: Path) -> None:
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_every_job_type_on_a_real_node(machine: Machine, folder: Path, server: Double) -> None:
    (node,) = machine.nodes().values()
    assert {"embed:folder", "embed:nomic-embed-text", "embed:bge_small/v1.5"} <= set(node["tags"])
    another_packages_type(machine, folder)
    images(machine, folder)
    a_model_folder(machine, folder)
    model_servers(machine, folder, server)


def another_packages_type(machine: Machine, folder: Path) -> None:
    found = work(machine, folder, (EXAMPLE / "wordcount.toml").read_text())
    assert [each["value"] for each in found] == [
        {"the": 2, "cat": 1, "and": 1, "hat": 1},
        {"fish": 2, "one": 1, "two": 1},
    ]
    said = machine.call("submit", str(folder / "bad.toml"))
    assert said.status != 0
    (folder / "bad.toml").write_text('type = "wordcount"\ninputs = ["x"]\n[payload]\nleast = 0\n')
    said = machine.call("submit", str(folder / "bad.toml"))
    assert (said.status, "occurs once" in said.error) == (2, True)


def images(machine: Machine, folder: Path) -> None:
    """The cut one is in a task with good ones: those come back, and nothing is tried again."""
    for name in ("a", "c", "d"):
        Image.new("RGB", (300, 200), "teal").save(folder / f"{name}.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:-40])
    make_readable(folder)
    inputs = json.dumps([str(folder / f"{name}.png") for name in "abcd"])
    bad, good = work(
        machine,
        folder,
        f"""
        type = "image_batch"
        inputs = {inputs}
        chunk = 3
        retries = 5
        [payload]
        operations = [{{ op = "resize", width = 100 }}, {{ op = "convert", format = "webp" }}]
        """,
    )
    assert (good["status"], bad["status"], bad["attempts"]) == ("COMPLETED", "FAILED", 1)
    value = good["value"]
    assert (value["output"], value["width"], value["height"]) == ("d.webp", 100, 67)
    assert "1 of 3 images cannot be used; first: ImageRefused: b.png: It is cut off" in bad["error"]
    assert [sorted(each) for each in bad["value"]] == [["value"], ["error"], ["value"]]
    said = machine.call("fetch", "last", "-o", str(folder / "small"))
    assert said.status == 1, said.error
    assert sorted(path.name for path in (folder / "small").iterdir()) == ["a.webp", "c.webp", "d.webp"]
    (node,) = machine.nodes().values()
    assert node["reliability"] == 1.0


def a_model_folder(machine: Machine, folder: Path) -> None:
    model = tiny_model.make(folder / "model")
    make_readable(folder)
    found = work(
        machine,
        folder,
        f"""
        type = "embedding"
        inputs = {json.dumps(TEXTS)}
        chunk = 2
        [payload]
        model = "{model}"
        """,
    )
    from planetmesh.child.model_folder import ModelFolder

    vectors = [each["value"]["vector"] for each in flat(found)]
    np.testing.assert_allclose(vectors, ModelFolder(model).encode(TEXTS), atol=1e-5)


def flat(found: list[dict]) -> list[dict]:
    """One entry a call: those of a task with several stand in a list."""
    return [part for each in found for part in (each["value"] if each["encoding"] == "calls" else [each])]


def model_servers(machine: Machine, folder: Path, server: Double) -> None:
    for kind, name in (("ollama", "nomic-embed-text"), ("openai", "bge_small/v1.5")):
        found = work(
            machine,
            folder,
            f"""
            type = "embedding"
            inputs = {json.dumps(TEXTS)}
            [payload]
            server = {{ kind = "{kind}", model = "{name}" }}
            normalise = false
            """,
        )
        assert found[0]["status"] == "COMPLETED", found[0]["error"]
        assert [each["value"]["vector"] for each in found] == [vector_of(text) for text in TEXTS]
    (folder / "texts.txt").write_text("\n".join(TEXTS))
    out = folder / "vectors.npy"
    said = machine.call(
        "embed", "--server", "nomic-embed-text", "--no-normalise", "-o", str(out), str(folder / "texts.txt")
    )
    assert said.status == 0, said.error
    np.testing.assert_allclose(np.load(out), [vector_of(text) for text in TEXTS], rtol=1e-6)
    assert {path for path, _ in server.asked} == {"/api/embed", "/v1/embeddings"}
