"""Every example does what it says, on a real mesh."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lan import REPOSITORY
from meshes import Machine
from model_server_double import serving

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    return Path(shutil.copytree(REPOSITORY / "examples", tmp_path / "examples"))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with serving() as server:
        machine = Machine(tmp_path / "home", env={"OLLAMA_HOST": server.url})
        try:
            machine.up("--new", "--no-mdns", "--bind", "127.0.0.1", "--port", "0", "--cpus", "2")
            assert machine.call("status", "--wait", "--timeout", "20").status == 0, machine.log
            yield machine
            print(machine.log[-6000:])
        finally:
            machine.close()


def work(machine: Machine, file: Path) -> str:
    said = machine.call("submit", str(file))
    assert said.status == 0, said.error
    job = said.out.strip()
    said = machine.call("wait", job, seconds=60)
    assert said.status == 0, said.error
    return job


def fetched(machine: Machine, job: str, folder: Path) -> list[str]:
    said = machine.call("fetch", job, "-o", str(folder))
    assert said.status == 0, said.error
    return sorted(path.name for path in folder.iterdir())


def test_every_example(machine: Machine, examples: Path, tmp_path: Path) -> None:
    job = work(machine, examples / "command.toml")
    assert fetched(machine, job, tmp_path / "sums") == ["dusk.sum", "meadow.sum", "sea.sum"]
    job = work(machine, examples / "script.toml")
    assert "1002 = 2 x 501" in machine.call("results", job).out
    job = work(machine, examples / "images.toml")
    assert fetched(machine, job, tmp_path / "small") == ["dusk.webp", "meadow.webp", "sea.webp"]
    job = work(machine, examples / "contact-sheet.toml")
    assert fetched(machine, job, tmp_path / "sheet") == ["contact-sheet.jpg"]
    job = work(machine, examples / "embeddings.toml")
    vectors = machine.call("results", job, "--form", "json").json
    near = subprocess.run(
        [sys.executable, str(examples / "neighbours.py")],
        input=json.dumps(vectors),
        capture_output=True,
        text=True,
        check=False,
    )
    assert near.stdout.count("is nearest to") == 3, (near.stderr, vectors)
    calls = subprocess.run(
        [sys.executable, str(examples / "calls.py")],
        env={"PLANETMESH_HOME": str(machine.home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "1161 takes longest: 181 steps" in calls.stdout, calls.stderr


def test_no_example_is_forgotten() -> None:
    told = (REPOSITORY / "examples" / "README.md").read_text()
    files = {path.name for path in (REPOSITORY / "examples").iterdir()} - {"README.md", "photos", "primes.py"}
    assert {name for name in files if name not in told} == set()
