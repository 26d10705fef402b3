"""Manifests: a list of files, read from a peer and checked whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planetmesh.errors import BadInput, TooLarge
from planetmesh.model.blob import Digest, Manifest, ManifestFile
from planetmesh.wire import manifest as wire
from planetmesh.wire.manifest import decode_manifest, encode_manifest

DIGEST = Digest("0f" * 32)


def of(*names: str, folders: tuple[str, ...] = ()) -> Manifest:
    return Manifest(tuple(ManifestFile(name, DIGEST, 3) for name in names), folders)


def test_what_was_written_is_read():
    manifest = Manifest((ManifestFile("a/ü b.txt", DIGEST, 3, executable=True),), ("empty/deep",))
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert manifest.size == 3


@pytest.mark.parametrize(
    "manifest",
    [
        of("../x"),
        of("/abs"),
        of("a", "a"),
        of("Straße", "STRASSE"),
        of("a", "a/b"),
        of("A/b", "a"),
        of("a", folders=("a",)),
        of("x", folders=("..",)),
        Manifest((ManifestFile("a", Digest("../../etc/passwd"), 1),)),
    ],
)
def test_files_that_cannot_lie_side_by_side_are_refused_both_ways(manifest):
    import msgspec

    with pytest.raises(BadInput):
        encode_manifest(manifest)
    with pytest.raises(BadInput):
        decode_manifest(msgspec.json.encode(manifest))


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b'{"files":[["a"]]}', b'{"files":[["a","x",-1,false]]}', b"[" * 100_000, b"\xff"],
)
def test_what_is_no_manifest_is_refused(data):
    with pytest.raises(BadInput):
        decode_manifest(data)


def test_too_many_files_are_refused(monkeypatch):
    monkeypatch.setattr(wire, "FILES_MOST", 2)
    with pytest.raises(TooLarge):
        encode_manifest(of("a", "b", "c"))


@given(st.lists(st.text(max_size=8), max_size=6))
def test_what_is_let_in_can_be_laid_out(names):
    try:
        data = encode_manifest(of(*names))
    except BadInput:
        return
    files = {file.name for file in decode_manifest(data).files}
    assert len(files) == len(names)
    assert not any(other.startswith(f"{name}/") for name in files for other in files)
