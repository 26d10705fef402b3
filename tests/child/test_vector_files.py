"""Vectors in files."""

from __future__ import annotations

import json
from array import array

import numpy as np
import pytest

from planetmesh.child.vector_files import plain, write_jsonl, write_npy


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (3, 384), (100, 7), (0, 0), (12345, 2)])
def test_numpy_reads_what_is_written_without_it(tmp_path, rows, width):
    vectors = [array("f", np.random.default_rng(row).normal(size=width)) for row in range(rows)]
    write_npy(tmp_path / "deep" / "v.npy", vectors)
    found = np.load(tmp_path / "deep" / "v.npy", allow_pickle=False)
    assert (found.shape, found.dtype) == ((rows, width), np.float32)
    assert found.tolist() == [vector.tolist() for vector in vectors]


def test_lines_are_json(tmp_path):
    write_jsonl(tmp_path / "v.jsonl", [{"n": 1, "vector": [0.5]}, {"n": 2, "vector": [-1.0]}])
    assert [json.loads(line)["n"] for line in (tmp_path / "v.jsonl").read_text().splitlines()] == [1, 2]


def test_half_a_file_is_none(tmp_path):
    def lines():
        yield {"n": 1}
        raise OSError("no space left")

    with pytest.raises(OSError, match="space"):
        write_jsonl(tmp_path / "v.jsonl", lines())
    assert list(tmp_path.iterdir()) == []


def test_plain_numbers_are_the_same_float32():
    vector = array("f", np.random.default_rng(1).normal(size=1000))
    assert array("f", plain(vector)) == vector
