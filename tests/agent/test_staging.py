"""Files laid into a task's folder, on the real disk."""

from __future__ import annotations

import os
import stat
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from planetmesh.agent import staging
from planetmesh.agent.sandbox.folders import TaskUser, task_user
from planetmesh.agent.staging import Stager, Stopped, lay_out
from planetmesh.errors import BadInput, StorageFailed, TooLarge
from planetmesh.model.blob import Digest, Manifest, ManifestFile, StagedFile

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's tasks have a user of their own")


class Folder:
    """Blobs as plain files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def put(self, content: bytes) -> Digest:
        digest = Digest(sha256(content).hexdigest())
        if not self.path(digest).exists():
            self.path(digest).write_bytes(content)
            self.path(digest).chmod(0o444)
        return digest

    def staged(self, name, content=b"text", **changes):
        return StagedFile(name, self.put(content), len(content), **changes)

    def path(self, digest: Digest) -> Path:
        return self.folder / digest

    def open(self, digest: Digest) -> int:
        return os.open(self.path(digest), os.O_RDONLY)


@pytest.fixture
def blobs(tmp_path):
    return Folder(tmp_path / "blobs")


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "task"
    made.mkdir()
    return made


def lay(folder, blobs, files, manifests=None, **changes):
    user = changes.pop("user", None)
    stager = Stager(folder, blobs, user, changes.pop("stop", threading.Event()), **changes)
    return stager.lay(lay_out(files, manifests or {}))


def test_files_lie_where_they_are_named_with_their_bits(folder, blobs):
    files = [
        blobs.staged("größe/日本 1.txt", b"unicode"),
        blobs.staged("run.sh", b"#!/bin/sh\n", executable=True),
        blobs.staged("empty", b""),
        blobs.staged("a/b/c/large", b"x" * 3_000_000),
    ]
    old = os.umask(0o077)
    try:
        stamps = lay(folder, blobs, files)
    finally:
        os.umask(old)
    assert (folder / "größe/日本 1.txt").read_bytes() == b"unicode"
    assert (folder / "empty").read_bytes() == b""
    assert (folder / "a/b/c/large").read_bytes() == b"x" * 3_000_000
    assert stat.S_IMODE((folder / "run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((folder / "empty").stat().st_mode) == 0o644
    assert stat.S_IMODE((folder / "a/b").stat().st_mode) == 0o755
    for file in files:
        assert stamps[file.name].fits((folder / file.name).lstat())


def test_what_a_task_does_to_its_files_reaches_neither_the_cache_nor_the_next_task(folder, blobs, tmp_path):
    file = blobs.staged("in.bin", b"x" * 2_000_000)
    stamps = lay(folder, blobs, [file])
    with (folder / "in.bin").open("r+b") as opened:
        opened.write(b"changed")
    assert not stamps["in.bin"].fits((folder / "in.bin").lstat())
    other = tmp_path / "other"
    other.mkdir()
    lay(other, blobs, [file])
    assert (other / "in.bin").read_bytes() == b"x" * 2_000_000


def test_a_tree_is_laid_below_its_name_or_in_the_folder_itself(folder, blobs):
    inner = [blobs.staged("x", b"1"), blobs.staged("deep/y", b"2", executable=True)]
    manifest = Manifest(
        tuple(ManifestFile(f.name, f.digest, f.size, f.executable) for f in inner), ("hollow/inside",)
    )
    named = StagedFile("tree", Digest("a" * 64), 9, is_tree=True)
    bare = StagedFile("", Digest("b" * 64), 9, is_tree=True)
    empty = StagedFile("nothing", Digest("c" * 64), 9, is_tree=True)
    manifests = {named.digest: manifest, bare.digest: manifest, empty.digest: Manifest()}
    lay(folder, blobs, [named, bare, empty], manifests)
    assert (folder / "tree/x").read_bytes() == (folder / "x").read_bytes() == b"1"
    assert os.access(folder / "tree/deep/y", os.X_OK)
    assert list((folder / "hollow/inside").iterdir()) == []
    assert list((folder / "nothing").iterdir()) == []


@pytest.mark.parametrize(
    "names", [("a", "a"), ("a", "A"), ("a", "a/b"), ("a/b", "a"), ("caf\u00e9", "cafe\u0301")]
)
def test_two_files_in_one_place_are_refused_by_name(names, blobs):
    with pytest.raises(BadInput, match="side by side"):
        lay_out([blobs.staged(name) for name in names], {})


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "C:\\x", "nul", "a\0b"])
def test_a_name_that_leads_out_is_refused(name, blobs):
    with pytest.raises(BadInput):
        lay_out([blobs.staged(name)], {})
    tree = StagedFile("", Digest("a" * 64), 1, is_tree=True)
    with pytest.raises(BadInput):
        lay_out([tree], {tree.digest: Manifest((ManifestFile(name, Digest("b" * 64), 1),))})


def test_more_files_than_any_folder_may_hold_are_refused():
    manifest = Manifest(tuple(ManifestFile(f"f{i}", Digest("a" * 64), 1) for i in range(130_000)))
    trees = [StagedFile(name, Digest("b" * 64), 1, is_tree=True) for name in "xy"]
    with pytest.raises(TooLarge, match="260000"):
        lay_out(trees, {trees[0].digest: manifest})


def test_a_disk_without_room_is_said_and_the_reserve_stays(folder, blobs):
    file = blobs.staged("in.bin", b"x" * 100)
    with pytest.raises(StorageFailed, match="no room"):
        lay(folder, blobs, [file], reserve_bytes=1000, read_free=lambda _path: 1050)
    assert not list(folder.iterdir())
    lay(folder, blobs, [file], reserve_bytes=1000, read_free=lambda _path: 1200)


def test_the_disk_is_looked_at_again_while_much_is_laid(folder, blobs, monkeypatch):
    monkeypatch.setattr(staging, "LOOK_BYTES", 4096)
    monkeypatch.setattr(Stager, "_clone", lambda *_args: False)
    left = iter([10_000_000, 0])
    files = [blobs.staged(f"in{i}", bytes([i]) * 5000) for i in range(3)]
    with pytest.raises(StorageFailed):
        lay(folder, blobs, files, read_free=lambda _path: next(left))


def test_a_size_that_the_job_did_not_say_is_refused(folder, blobs):
    file = StagedFile("in.bin", blobs.put(b"four"), 5)
    with pytest.raises(StorageFailed, match="4 bytes"):
        lay(folder, blobs, [file])


def test_it_stops_when_told(folder, blobs):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        lay(folder, blobs, [blobs.staged("in.bin")], stop=stop)


@needs_root
def test_the_files_belong_to_the_tasks_user(folder, blobs):
    user = task_user()
    lay(folder, blobs, [blobs.staged("a/b", b"1"), blobs.staged("c", b"2" * 2_000_000)], user=user)
    for name in ("a", "a/b", "c"):
        assert (folder / name).lstat().st_uid == user.uid


@needs_root
def test_large_files_of_another_user_are_the_caches_own(folder, blobs, monkeypatch):
    monkeypatch.setattr(staging, "LINK_LEAST_BYTES", 10)
    files = [blobs.staged("large", b"x" * 20), blobs.staged("program", b"y" * 20, executable=True)]
    stamps = lay(folder, blobs, files, user=TaskUser("nobody", 65534, 65534))
    large, program = (folder / "large").lstat(), (folder / "program").lstat()
    assert large.st_ino == blobs.path(files[0].digest).stat().st_ino
    assert (large.st_uid, stat.S_IMODE(large.st_mode)) == (0, 0o444)
    assert (program.st_uid, stat.S_IMODE(program.st_mode), program.st_nlink) == (65534, 0o755, 1)
    # Another task that has it too, or a use that the cache notes, is no change.
    os.link(blobs.path(files[0].digest), folder / "again")
    os.utime(blobs.path(files[0].digest))
    assert stamps["large"].fits((folder / "large").lstat())


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_hundred_thousand_small_files(folder, blobs):
    content = [blobs.put(bytes([number])) for number in range(10)]
    files = tuple(ManifestFile(f"d{i // 1000}/f{i}", content[i % 10], 1) for i in range(100_000))
    tree = StagedFile("", Digest("a" * 64), 1, is_tree=True)
    stamps = lay(folder, blobs, [tree], {tree.digest: Manifest(files)})
    assert len(stamps) == 100_000
    assert (folder / "d99/f99999").read_bytes() == b"\x09"
