"""Blobs stand under their digest whole and right, or not at all, whatever happens in the middle."""

from __future__ import annotations

import errno
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.blobs import files, partial
from planetmesh.blobs.room import Room
from planetmesh.blobs.shelf import READ_ONLY, Shelf
from planetmesh.errors import BadInput, Conflict, NotFound, StorageFailed, TooLarge, WrongDigest, WrongOffset
from planetmesh.model.blob import Digest

CONTENT = bytes(range(256)) * 40


def name_of(content: bytes) -> Digest:
    return Digest(sha256(content).hexdigest())


NAME = name_of(CONTENT)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "blobs")


def whole(shelf: Shelf, digest: Digest = NAME) -> bytes:
    return shelf.read(digest, 2**30)


def on_disk(shelf: Shelf) -> int:
    return sum(path.stat().st_size for path in shelf.folder.rglob("*") if path.is_file())


def counts_right(shelf: Shelf) -> bool:
    """What it thinks that it holds is what lies there, and nothing is promised."""
    return shelf.room.used_bytes == on_disk(shelf) and shelf.room.promised_bytes == 0


def test_bytes_go_in_and_come_out(shelf):
    added = shelf.put_bytes(CONTENT)
    assert (added.digest, added.size, added.is_new) == (NAME, len(CONTENT), True)
    assert shelf.has(NAME)
    assert shelf.size(NAME) == len(CONTENT)
    assert whole(shelf) == CONTENT
    assert shelf.path(NAME) == shelf.folder / NAME[:2] / NAME
    assert not shelf.put_bytes(CONTENT).is_new
    assert shelf.blobs == 1
    assert counts_right(shelf)


def test_nothing_is_a_blob_too(shelf):
    empty = name_of(b"")
    with shelf.open_partial(empty, 0) as arriving:
        assert arriving.finish()
    assert whole(shelf, empty) == b""


@pytest.mark.parametrize(
    "name", ["", "ab", "../x", "A" * 64, "g" * 64, "a" * 65, "a" * 63 + "\n", "a" * 63 + "/"]
)
def test_only_a_digest_becomes_a_path(shelf, name):
    for ask in (shelf.has, shelf.open, shelf.size, shelf.remove, shelf.partial_size, shelf.path, shelf.touch):
        with pytest.raises(BadInput):
            ask(name)
    with pytest.raises(BadInput):
        shelf.open_partial(name, 1)


def test_what_is_not_there_is_said(shelf):
    for ask in (shelf.open, shelf.size, shelf.path):
        with pytest.raises(NotFound):
            ask(NAME)
    assert not shelf.has(NAME)
    assert not shelf.remove(NAME)
    shelf.touch(NAME)


@given(cut=st.integers(0, len(CONTENT)), killed=st.booleans(), step=st.integers(1, 4000))
def test_cut_at_any_byte_and_gone_on_with(new_folder, cut, killed, step):
    shelf = Shelf(new_folder() / "blobs")
    arriving = shelf.open_partial(NAME, len(CONTENT))
    for start in range(0, cut, step):
        arriving.append(CONTENT[start : min(cut, start + step)])
    if killed:
        # A power cut or `kill -9`: nobody says goodbye.
        os.close(arriving._descriptor)
        shelf = Shelf(shelf.folder)
    else:
        arriving.close()
    assert not shelf.has(NAME)
    assert shelf.partial_size(NAME) == cut
    with shelf.open_partial(NAME, len(CONTENT), cut) as going_on:
        going_on.append(CONTENT[cut:])
        assert going_on.finish()
    assert whole(shelf) == CONTENT
    assert shelf.partial_size(NAME) == 0
    assert counts_right(shelf)


@given(cut=st.integers(0, len(CONTENT)), step=st.integers(50, 4000), threads=st.integers(1, 4))
def test_what_was_fed_is_written_in_order_whoever_drains(new_folder, cut, step, threads):
    shelf = Shelf(new_folder() / "blobs")
    arriving = shelf.open_partial(NAME, len(CONTENT))
    with ThreadPoolExecutor(threads) as pool:
        for number, start in enumerate(range(0, cut, step)):
            arriving.feed(CONTENT[start : min(cut, start + step)])
            if number % 3 == 0:
                pool.submit(arriving.drain)
        pool.submit(arriving.close)
    assert shelf.partial_size(NAME) == arriving.have == cut
    with shelf.open_partial(NAME, len(CONTENT), cut) as going_on:
        going_on.feed(CONTENT[cut:])
        assert going_on.backlog == len(CONTENT) - cut
        assert going_on.finish()
        assert going_on.backlog == 0
    assert whole(shelf) == CONTENT
    assert counts_right(shelf)


def test_nothing_is_written_behind_what_could_not_be(shelf, monkeypatch):
    disk = FullDisk(100)

    class Os:
        write = staticmethod(disk.write)

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

    monkeypatch.setattr(files, "os", Os())
    arriving = shelf.open_partial(NAME, len(CONTENT))
    arriving.feed(CONTENT[:100], CONTENT[100:200], CONTENT[200:300])
    with pytest.raises(StorageFailed):
        arriving.drain()
    disk.room = 10**9
    arriving.feed(CONTENT[300:400])
    with pytest.raises(StorageFailed):
        arriving.drain()
    arriving.close()
    assert shelf.partial_size(NAME) == 100
    with shelf.open_partial(NAME, len(CONTENT), 100) as going_on:
        going_on.append(CONTENT[100:])
        assert going_on.finish()
    assert counts_right(shelf)


def test_it_goes_on_only_where_it_ended(shelf):
    with shelf.open_partial(NAME, len(CONTENT)) as arriving:
        arriving.append(CONTENT[:100])
    for offset in (50, 101, len(CONTENT) + 1):
        with pytest.raises(WrongOffset) as refused:
            shelf.open_partial(NAME, len(CONTENT), offset)
        assert refused.value.have == 100
    with shelf.open_partial(NAME, len(CONTENT)) as anew:
        assert anew.have == 0
        with pytest.raises(Conflict):
            anew.finish()
        anew.append(CONTENT)
        anew.finish()
    assert counts_right(shelf)


def test_other_bytes_than_the_name_says_are_dropped(shelf):
    with shelf.open_partial(NAME, len(CONTENT)) as arriving:
        arriving.append(CONTENT[:-1] + b"?")
        with pytest.raises(WrongDigest):
            arriving.finish()
    assert not shelf.has(NAME)
    assert shelf.partial_size(NAME) == 0
    assert counts_right(shelf)


def test_a_beginning_that_was_damaged_on_disk_is_noticed(shelf):
    with shelf.open_partial(NAME, len(CONTENT)) as arriving:
        arriving.append(CONTENT[:100])
        path = arriving.path
    path.write_bytes(b"?" * 100)
    with shelf.open_partial(NAME, len(CONTENT), 100) as going_on:
        going_on.append(CONTENT[100:])
        with pytest.raises(WrongDigest):
            going_on.finish()
    assert not shelf.has(NAME)


def test_more_than_was_announced_is_refused(shelf):
    with shelf.open_partial(NAME, 10) as arriving:
        arriving.append(b"x" * 10)
        with pytest.raises(TooLarge):
            arriving.append(b"y")
        assert arriving.have == 10


def test_two_of_one_name_arrive_at_once(shelf):
    first = shelf.open_partial(NAME, len(CONTENT))
    second = shelf.open_partial(NAME, len(CONTENT))
    first.append(CONTENT[:50])
    second.append(CONTENT)
    assert second.finish()
    first.append(CONTENT[50:])
    assert not first.finish()
    assert whole(shelf) == CONTENT
    assert shelf.blobs == 1
    assert counts_right(shelf)


def test_the_second_of_one_name_leaves_nothing_when_it_breaks_off(shelf):
    first = shelf.open_partial(NAME, len(CONTENT))
    first.append(CONTENT[:50])
    with shelf.open_partial(NAME, len(CONTENT)) as second:
        second.append(CONTENT[:70])
    first.close()
    assert shelf.partial_size(NAME) == 50
    assert counts_right(shelf)


def test_many_threads_with_the_same_blob(shelf):
    def send(number: int) -> bool:
        with shelf.open_partial(NAME, len(CONTENT)) as arriving:
            for start in range(0, len(CONTENT), 500 + number):
                arriving.append(CONTENT[start : start + 500 + number])
            return arriving.finish()

    with ThreadPoolExecutor(8) as pool:
        new = list(pool.map(send, range(32)))
    assert sum(new) == 1
    assert whole(shelf) == CONTENT
    assert counts_right(shelf)
    assert [path.name for path in shelf.folder.rglob("*") if path.is_file()] == [NAME]


def test_what_was_left_is_counted_and_cleared_at_the_next_start(shelf):
    shelf.put_bytes(b"kept")
    first = shelf.open_partial(NAME, len(CONTENT))
    first.append(CONTENT[:50])
    second = shelf.open_partial(NAME, len(CONTENT))
    second.append(CONTENT[:70])
    for each in (first, second):
        os.close(each._descriptor)
    again = Shelf(shelf.folder)
    assert again.partial_size(NAME) == 50
    assert (again.blobs, again.room.used_bytes) == (1, 54)
    assert counts_right(again)


def test_partial_ones_go_when_nobody_goes_on(shelf):
    with shelf.open_partial(NAME, len(CONTENT)) as arriving:
        arriving.append(b"x")
        changed = arriving.path.stat().st_mtime
        assert shelf.sweep_partials(changed + 11, 10) == 0, "somebody writes it"
    assert shelf.sweep_partials(changed + 9, 10) == 0
    assert shelf.sweep_partials(changed + 11, 10) == 1
    assert shelf.partial_size(NAME) == 0
    assert counts_right(shelf)


def test_a_reader_keeps_what_is_removed(shelf):
    shelf.put_bytes(CONTENT)
    descriptor = shelf.open(NAME)
    assert shelf.remove(NAME)
    assert os.read(descriptor, 10) == CONTENT[:10]
    os.close(descriptor)
    assert not shelf.has(NAME)
    assert (shelf.blobs, shelf.room.used_bytes) == (0, 0)


# Files


def test_a_file_is_copied_and_hashed(shelf, tmp_path):
    source = tmp_path / "in"
    source.write_bytes(CONTENT * 1000)
    added = shelf.put_file(source)
    assert (added.digest, added.size, added.is_new) == (name_of(CONTENT * 1000), len(CONTENT) * 1000, True)
    assert whole(shelf, added.digest) == CONTENT * 1000
    with source.open("rb") as file:
        assert not shelf.put_file(file.fileno()).is_new
    with pytest.raises(TooLarge):
        shelf.put_file(source, most_bytes=5)
    assert shelf.put_file(source, most_bytes=added.size).size == added.size
    assert counts_right(shelf)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
def test_only_ordinary_files_are_copied(shelf, tmp_path):
    (tmp_path / "target").write_bytes(b"secret")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "."):
        with pytest.raises(BadInput):
            shelf.put_file(tmp_path / name)
    with pytest.raises(NotFound):
        shelf.put_file(tmp_path / "nothing")
    assert counts_right(shelf)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
@pytest.mark.parametrize("mode", [0o600, READ_ONLY])
def test_modes(tmp_path, mode):
    shelf = Shelf(tmp_path / "blobs", file_mode=mode)
    shelf.put_bytes(b"one")
    (tmp_path / "two").write_bytes(b"two")
    shelf.put_file(tmp_path / "two")
    with shelf.open_partial(NAME, len(CONTENT)) as arriving:
        assert stat.S_IMODE(arriving.path.stat().st_mode) == 0o600
        arriving.append(CONTENT)
        arriving.finish()
    for path in [shelf.folder, *shelf.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else mode)


# Many at once


def test_many_small_ones(shelf):
    many = {name_of(content): content for content in (b"%d" % number for number in range(600))}
    assert set(shelf.put_many(many.items())) == set(many)
    assert shelf.put_many(many.items()) == []
    assert {entry.digest: entry.size for entry in shelf.entries()} == {d: len(c) for d, c in many.items()}
    assert shelf.blobs == 600
    assert counts_right(shelf)
    assert list((shelf.folder / "partial").iterdir()) == []


def test_of_many_one_wrong_refuses_all(shelf):
    with pytest.raises(WrongDigest):
        shelf.put_many([(name_of(b"a"), b"a"), (name_of(b"b"), b"c")])
    assert shelf.blobs == 0
    assert counts_right(shelf)


# Room


def test_the_quota_is_asked_before_anything_is_written(tmp_path):
    shelf = Shelf(tmp_path / "blobs", room=Room(tmp_path, quota_bytes=100))
    shelf.put_bytes(b"x" * 60)
    with pytest.raises(TooLarge) as refused:
        shelf.open_partial(NAME, 41)
    assert "blob_quota_bytes" in refused.value.hint
    with pytest.raises(TooLarge):
        shelf.put_many([(name_of(b"y" * 41), b"y" * 41)])
    first = shelf.open_partial(NAME, 30)
    with pytest.raises(TooLarge):
        shelf.open_partial(name_of(b"z"), 11)
    first.append(b"x" * 20)
    first.close()
    assert (shelf.room.used_bytes, shelf.room.free_bytes) == (80, 20)
    shelf.sweep_partials(2e10)
    assert shelf.room.free_bytes == 40


def test_the_disks_reserve_is_kept(tmp_path):
    shelf = Shelf(tmp_path / "blobs", room=Room(tmp_path, reserve_bytes=1000, read_free=lambda _path: 1500))
    with pytest.raises(StorageFailed) as refused:
        shelf.open_partial(NAME, 501)
    assert refused.value.http_status == 507
    shelf.open_partial(NAME, 500).close()


class FullDisk:
    """Takes so many bytes, then none."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, descriptor: int, data: memoryview) -> int:
        count = min(len(data), self.room)
        if not count:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= count
        return os.write(descriptor, data[:count])


def test_a_disk_that_fills_up_loses_nothing(shelf, monkeypatch):
    disk = FullDisk(1000)

    class Os:
        write = staticmethod(disk.write)

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

    monkeypatch.setattr(files, "os", Os())
    with shelf.open_partial(NAME, len(CONTENT)) as arriving, pytest.raises(StorageFailed) as refused:
        arriving.append(CONTENT)
    assert "full" in refused.value.message
    assert shelf.partial_size(NAME) == 1000
    with pytest.raises(StorageFailed):
        shelf.put_many([(name_of(b"a"), b"a")])
    assert counts_right(shelf)
    disk.room = 10**9
    with shelf.open_partial(NAME, len(CONTENT), 1000) as going_on:
        going_on.append(CONTENT[1000:])
        assert going_on.finish()
    assert whole(shelf) == CONTENT
    assert counts_right(shelf)


def test_a_failure_at_the_very_end_keeps_what_came(shelf, monkeypatch):
    def refuse(_descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    arriving = shelf.open_partial(NAME, len(CONTENT))
    arriving.append(CONTENT)
    with monkeypatch.context() as patched:
        patched.setattr(partial.os, "fsync", refuse)
        with pytest.raises(StorageFailed):
            arriving.finish()
    assert not shelf.has(NAME)
    with shelf.open_partial(NAME, len(CONTENT), len(CONTENT)) as again:
        assert again.finish()
    assert counts_right(shelf)
