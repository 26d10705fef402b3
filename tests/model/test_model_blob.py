"""Digests are the only names that blobs have; the files of a task follow its inputs."""

from __future__ import annotations

import pytest

from planetmesh.model.blob import Digest, Manifest, ManifestFile, StagedFile, is_digest
from planetmesh.model.job import Items, JobSpec, Range

A, B = Digest("a" * 64), Digest("b" * 64)


def test_a_digest_is_64_lower_case_hex_digits():
    assert is_digest(A)


@pytest.mark.parametrize("text", ["", "a" * 63, "a" * 65, "A" * 64, "../" + "a" * 61, "a" * 64 + "\n"])
def test_nothing_else_is_a_digest(text):
    assert not is_digest(text)


def test_a_manifest_knows_how_large_its_files_are():
    assert Manifest((ManifestFile("x", A, 3), ManifestFile("y", B, 4))).size == 7


def test_a_task_gets_the_files_of_its_own_inputs_each_once():
    files = (StagedFile("x", A, 1), None, StagedFile("y", B, 1), StagedFile("y", B, 1), StagedFile("z", A, 1))
    spec = JobSpec(type="command", payload={}, inputs=Items(("x", "?", "y", "y", "z"), files), chunk=2)
    assert spec.files_of(0) == (files[0],)
    assert spec.files_of(1) == (files[2],)
    assert spec.files_of(2) == (files[4],)
    assert spec.files_of(0, width=3) == (files[0], files[2], files[4])


def test_inputs_that_name_no_files_bring_none():
    assert JobSpec(type="command", payload={}, inputs=Items(("x",))).files_of(0) == ()
    assert JobSpec(type="command", payload={}, inputs=Range(1, 9)).files_of(3) == ()
