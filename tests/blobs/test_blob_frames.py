"""Small blobs in one body: whatever the cuts, what went in comes out; what is too large or cut is refused."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.blobs.frames import Frames, frame, framed_size, head, in_bodies
from planetmesh.errors import BadInput, TooLarge
from planetmesh.model.blob import Digest


def named(content: bytes) -> tuple[Digest, bytes]:
    return Digest(sha256(content).hexdigest()), content


@given(
    contents=st.lists(st.binary(max_size=200), max_size=8), cuts=st.lists(st.integers(0, 2000), max_size=12)
)
def test_any_cuts(contents, cuts):
    blobs = [named(content) for content in contents]
    body = b"".join(frame(*each) for each in blobs)
    assert len(body) == framed_size(map(len, contents))
    edges = sorted({0, len(body), *(min(cut, len(body)) for cut in cuts)})
    reader = Frames()
    found = [each for start, end in pairwise(edges) for each in reader.feed(body[start:end])]
    reader.end()
    assert found == blobs


@given(cut=st.integers(1, 59))
def test_an_end_in_the_middle_is_noticed(cut):
    reader = Frames()
    body = frame(*named(b"x" * 20))
    assert list(reader.feed(body[:cut])) == []
    with pytest.raises(BadInput):
        reader.end()


def test_sizes_are_bounded_before_the_bytes_come():
    digest, _ = named(b"")
    with pytest.raises(TooLarge):
        list(Frames(each_most=100).feed(head(digest, 101)))
    with pytest.raises(TooLarge):
        list(Frames().feed(head(digest, 2**64 - 1)))
    assert list(Frames(each_most=100).feed(head(digest, 100))) == []


def test_the_body_is_bounded():
    reader = Frames(body_most=100)
    assert len(list(reader.feed(frame(*named(b"x" * 40))))) == 1
    with pytest.raises(TooLarge):
        list(reader.feed(b"x" * 21))


class _Blob:
    def __init__(self, size: int) -> None:
        self.size = size


@given(st.lists(st.integers(0, 300), max_size=40), st.integers(1, 600), st.integers(1, 8))
def test_bodies_keep_order_and_bounds(sizes, most_bytes, most):
    blobs = [_Blob(size) for size in sizes]
    bodies = list(in_bodies(blobs, most_bytes, most))
    assert [blob for body in bodies for blob in body] == blobs
    for body in bodies:
        assert 1 <= len(body) <= most
        assert len(body) == 1 or framed_size(blob.size for blob in body) <= most_bytes
