"""What a node says about itself."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest

from planetmesh.agent import probe
from planetmesh.model.node import Gpu
from planetmesh.model.resources import Resources


class RecordedNvml:
    """Answers as recorded from a machine with two cards; older versions answer in bytes."""

    class NVMLError(Exception):
        pass

    class Memory:
        total = 25_757_220_864

    def __init__(self, fails_at=""):
        self.fails_at = fails_at
        self.open = 0

    def __getattr__(self, name):
        if name == self.fails_at:
            raise self.NVMLError(name)
        raise AttributeError(name)

    def nvmlInit(self):  # noqa: N802  the library's name
        if self.fails_at == "nvmlInit":
            raise self.NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self):  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, number):  # noqa: N802
        if self.fails_at == "handle":
            raise self.NVMLError("GPU is lost")
        return number

    def nvmlDeviceGetUUID(self, device):  # noqa: N802
        return [b"GPU-aaaa", "GPU-bbbb"][device]

    def nvmlDeviceGetName(self, device):  # noqa: N802
        return [b"NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 4090"][device]

    def nvmlDeviceGetMemoryInfo(self, device):  # noqa: N802
        return self.Memory


def test_gpus_are_found():
    library = RecordedNvml()
    assert probe.find_gpus(library) == (
        Gpu("GPU-aaaa", "NVIDIA GeForce RTX 3090", 25_757_220_864),
        Gpu("GPU-bbbb", "NVIDIA GeForce RTX 4090", 25_757_220_864),
    )
    assert library.open == 0


@pytest.mark.parametrize("where", ["nvmlInit", "handle"])
def test_a_driver_that_fails_means_no_gpus(where):
    library = RecordedNvml(where)
    assert probe.find_gpus(library) == ()
    assert library.open == 0


def test_without_the_library_there_are_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert probe.find_gpus() == ()


def test_a_container_s_limits_count(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "CGROUP", tmp_path)
    free = (probe.count_cpus(), probe.memory_limit())
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert (probe.count_cpus(), probe.memory_limit()) == free
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text("1048576\n")
    assert (probe.count_cpus(), probe.memory_limit()) == (0.5, 1048576)


def test_the_owner_says_what_is_offered(monkeypatch):
    monkeypatch.setattr(probe, "_tasks_are_others", lambda: False)
    info = probe.look(offers=Resources(1500, 2**20, 0), tags=("quick",), refuses="no sandbox")
    assert info.offer == Resources(1500, 2**20, 0)
    own = f"python{sys.version_info.major}.{sys.version_info.minor}"
    dask = f"dask{metadata.version('distributed')}"
    assert (info.tags, info.refuses) == (("quick", own, "image:heic", dask), "no sandbox")
    assert info.job_types == ("command", "script", "python", "image_batch", "embedding", "dask")
    unsaid = probe.look()
    assert unsaid.offer.cpu_millis >= 100
    assert 0 < unsaid.offer.memory_bytes < unsaid.memory_bytes


def test_the_machine_is_the_same_each_time_and_not_given_away():
    assert probe.machine_hash() == probe.machine_hash()
    assert len(probe.machine_hash()) == 32
    if probe.MACHINE_ID_FILES[0].exists():
        assert probe.machine_hash() != probe.MACHINE_ID_FILES[0].read_text().strip()


def test_load_is_read_without_waiting(tmp_path):
    load = probe.LoadMeter(tmp_path).read(running=2, backlog=3)
    assert 0 <= load.cpu <= 1
    assert load.memory_free_bytes > 0
    assert load.disk_free_bytes > 0
    assert (load.running, load.backlog) == (2, 3)
    assert probe.LoadMeter(tmp_path / "gone").read(0, 0).disk_free_bytes == 0


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_dask_is_not_offered_where_tasks_cannot_import_it(monkeypatch, tmp_path):
    monkeypatch.setattr(probe, "_tasks_are_others", lambda: True)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    tmp_path.chmod(0o700)
    assert not [tag for tag in probe.look().tags if tag.startswith("dask")]
    monkeypatch.setattr(probe, "closed_to_others", lambda path: None)
    assert [tag for tag in probe.look().tags if tag.startswith("dask")]
