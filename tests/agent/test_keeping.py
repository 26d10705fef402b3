"""What attempts made goes into the node's cache: right, within bounds, and never at a cost to anybody."""

from __future__ import annotations

import sys
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from planetmesh.agent.collecting import collect
from planetmesh.agent.keeping import keep
from planetmesh.blobs.cache import Cache
from planetmesh.blobs.shelf import Shelf
from planetmesh.model.blob import Digest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="collecting needs folders that can be opened")

LARGE = b"x" * 3_000_000
MANY_BYTES = 100_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    made.mkdir()
    return made


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(Shelf(tmp_path / "blobs"), MANY_BYTES)


def found_in(folder: Path, files: dict[str, bytes]):
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return collect(folder, ["*"], {}, 2**40, threading.Event())


def name_of(content: bytes) -> Digest:
    return Digest(sha256(content).hexdigest())


def test_large_and_small_ones_are_there_afterwards(folder, cache):
    files = {
        "large": LARGE,
        "same": LARGE,
        "small": b"s",
        "empty": b"",
        **{f"f{n}": b"%d" % n for n in range(50)},
    }
    assert keep(cache, found_in(folder, files), threading.Event()) == 52
    for content in files.values():
        assert cache.has(name_of(content)) == bool(content)
    assert cache.shelf.read(name_of(LARGE), len(LARGE)) == LARGE
    assert cache.used_bytes == sum(map(len, set(files.values())))
    assert keep(cache, found_in(folder, files), threading.Event()) == 52


def test_what_changed_since_it_was_sent_is_not_kept(folder, cache):
    found = found_in(folder, {"large": LARGE, "small": b"small"})
    for name in ("large", "small"):
        with (folder / name).open("r+b") as file:
            file.write(b"?")
    keep(cache, found, threading.Event())
    assert cache.used_bytes == 0
    assert list(cache.shelf.entries()) == []
    assert list((cache.shelf.folder / "partial").iterdir()) == []


def test_it_stops_when_told_and_leaves_nothing(folder, cache):
    stop = threading.Event()
    stop.set()
    assert keep(cache, found_in(folder, {"large": LARGE, "small": b"s"}), stop) == 0
    assert cache.used_bytes == cache.shelf.room.used_bytes == 0


def test_what_running_tasks_need_stays(folder, cache):
    cache.most_bytes = 2 * len(LARGE)
    inputs = [cache.shelf.put_bytes(bytes([number]) * 1_450_000) for number in range(4)]
    for added in inputs:
        cache.pin(added.digest)
        cache.added(added.digest, added.size)
    assert keep(cache, found_in(folder, {"out": b"o" * 1_400_000}), threading.Event()) == 0
    assert all(cache.has(added.digest) for added in inputs)


def test_the_share_is_for_the_largest_that_fit(folder, cache):
    cache.most_bytes = 4 * len(LARGE)
    files = {"too large": LARGE + b"!", "large": LARGE[:-10], "ten": b"t" * 10, "eleven": b"e" * 11}
    assert keep(cache, found_in(folder, files), threading.Event()) == 2
    assert {name for name, content in files.items() if cache.has(name_of(content))} == {"large", "ten"}
