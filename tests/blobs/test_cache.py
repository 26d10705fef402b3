"""The cache forgets what was not used for longest, never what is pinned, and says what came and went."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.blobs.cache import Cache
from planetmesh.blobs.shelf import Shelf
from planetmesh.errors import StorageFailed
from planetmesh.model.blob import Digest


def new_cache(folder: Path, most_bytes: int = 100) -> Cache:
    return Cache(Shelf(folder), most_bytes, reported_bytes=20)


def put(cache: Cache, letter: str, size: int = 30) -> Digest:
    with cache.room_for(size):
        added = cache.shelf.put_bytes(letter.encode() * size)
        cache.added(added.digest, added.size)
    return added.digest


def test_the_one_not_used_for_longest_goes_first(tmp_path):
    cache = new_cache(tmp_path)
    first, second, third = (put(cache, letter) for letter in "abc")
    with cache.pinned(first) as here:
        assert here
    fourth = put(cache, "d")
    assert [cache.has(each) for each in (first, second, third, fourth)] == [True, False, True, True]
    assert not cache.shelf.has(second)
    assert cache.used_bytes == 90


def test_pinned_ones_stay_until_unpinned_as_often(tmp_path):
    cache = new_cache(tmp_path)
    held = [put(cache, letter) for letter in "abc"]
    for each in held:
        assert cache.pin(each)
        cache.pin(each)
        cache.unpin(each)
    with pytest.raises(StorageFailed) as refused:
        cache.evict(30)
    assert "room" in refused.value.message
    assert all(map(cache.has, held))
    cache.unpin(held[1])
    assert cache.evict(30) == [held[1]]


def test_a_pin_waits_for_what_will_come(tmp_path):
    cache = new_cache(tmp_path)
    name = Digest("0" * 64)
    assert not cache.pin(name)
    cache.unpin(name)
    kept = Shelf(tmp_path / "other").put_bytes(b"a" * 30).digest
    assert not cache.pin(kept)
    assert put(cache, "a") == kept
    put(cache, "b", 60)
    put(cache, "c", 60)
    assert cache.has(kept)


def test_room_that_was_given_is_not_given_twice(tmp_path):
    cache = new_cache(tmp_path)
    with cache.room_for(70), pytest.raises(StorageFailed):
        cache.evict(31)
    assert cache.evict(100) == []


def test_recency_survives_a_restart(tmp_path):
    cache = new_cache(tmp_path)
    first, second, third = (put(cache, letter) for letter in "abc")
    for age, digest in ((300, second), (200, third), (100, first)):
        os.utime(cache.shelf.path(digest), (0, time.time() - age))
    again = new_cache(tmp_path)
    with again.pinned(second):
        pass
    assert new_cache(tmp_path).evict(70) == [third, first]


def test_what_came_and_went_is_told_once(tmp_path):
    cache = new_cache(tmp_path)
    first, second = put(cache, "a"), put(cache, "b")
    small = put(cache, "c", 5)
    assert cache.changes().added == (first, second)
    assert not cache.changes()
    cache.evict(60)
    put(cache, "d", 95)
    told = cache.changes()
    assert set(told.dropped) == {first, second}
    assert small not in told.dropped
    assert not cache.changes()
    assert cache.held() == list(told.added)


def test_what_comes_and_goes_between_two_reports_is_no_news(tmp_path):
    cache = new_cache(tmp_path)
    first = put(cache, "a")
    cache.lost(first)
    assert not cache.changes()


def test_a_smaller_limit_counts_at_once(tmp_path):
    cache = new_cache(tmp_path)
    first = put(cache, "a")
    second = put(cache, "b")
    cache.most_bytes = 30
    assert cache.evict() == [first]
    cache.pin(second)
    cache.most_bytes = 10
    assert cache.evict() == []


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["put", "pin", "unpin"]), st.sampled_from("abcdef"), st.integers(1, 60)),
        max_size=30,
    )
)
def test_it_never_holds_too_much_nor_loses_a_pinned_one(new_folder, steps):
    cache = new_cache(new_folder())
    known: dict[str, Digest] = {}
    pins: list[Digest] = []
    for what, letter, size in steps:
        if what == "put":
            try:
                known[letter] = put(cache, letter, size)
            except StorageFailed:
                assert cache.used_bytes + size > 100
        elif what == "pin" and letter in known and cache.pin(known[letter]):
            pins.append(known[letter])
        elif what == "unpin" and pins:
            cache.unpin(pins.pop())
        assert cache.used_bytes <= 100
        assert all(map(cache.has, pins))
        entries = list(cache.shelf.entries())
        assert cache.used_bytes == sum(each.size for each in entries)
        assert all(cache.has(each.digest) for each in entries)
