"""All tasks' vectors as one file: rows where their inputs are, whatever is missing; nothing believed."""

from __future__ import annotations

import io
from array import array
from pathlib import Path

import numpy as np
import pytest

from planetmesh.client.vectors import Part, join_jsonl, join_npy
from planetmesh.errors import Conflict, PeerMisbehaved
from planetmesh.jobtypes.npy import npy_head


def part(folder: Path, first: int, rows: list[list[float]]) -> Part:
    path = folder / f"{first:010d}.npy"
    width = len(rows[0]) if rows else 0
    path.write_bytes(npy_head(len(rows), width) + b"".join(array("f", row).tobytes() for row in rows))
    return Part(first, path)


def joined(parts, total=None, present=None):
    out = io.BytesIO()
    said = join_npy(parts, out, total, present or {})
    assert said.size == len(out.getvalue())
    return said, np.load(io.BytesIO(out.getvalue()))


def test_rows_follow_each_other_in_the_order_of_the_inputs(tmp_path):
    parts = [part(tmp_path, 2, [[5, 6]]), part(tmp_path, 0, [[1, 2], [3, 4]])]
    said, found = joined(parts, 3)
    assert found.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert (said.rows, said.width, said.missing) == (3, 2, 0)
    assert list(tmp_path.iterdir()) == [], "a part that is in the file takes no room any more"


def test_texts_without_a_vector_are_rows_of_nan(tmp_path):
    """Inputs 0 and 7 are of tasks that brought nothing; of the task from 2 on the second was no good."""
    parts = [
        part(tmp_path, 1, [[1, 1]]),
        part(tmp_path, 2, [[2, 2], [4, 4]]),
        part(tmp_path, 5, [[5, 5], [6, 6]]),
    ]
    said, found = joined(parts, 8, {2: [True, False, True]})
    assert [row[0] if not np.isnan(row[0]) else None for row in found] == [None, 1, 2, None, 4, 5, 6, None]
    assert said.missing == 3


def test_files_of_many_lines_only_follow_each_other(tmp_path):
    parts = [part(tmp_path, 9, [[3, 3]]), part(tmp_path, 0, [[1, 1], [2, 2]])]
    said, found = joined(parts)
    assert (found.tolist(), said.missing) == ([[1, 1], [2, 2], [3, 3]], 0)


def test_other_models_on_other_nodes_are_said(tmp_path):
    parts = [part(tmp_path, 0, [[1, 2]]), part(tmp_path, 1, [[1, 2, 3]])]
    with pytest.raises(Conflict, match="input 1 have 3 numbers, those of input 0 2"):
        joined(parts, 2)
    with pytest.raises(Conflict, match="No vector"):
        joined([], 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not what it should be"),
        (b"\x93NUMPY\x01\x00\xff\xff", "not what it should be"),
        (npy_head(1, 2), "more or fewer"),
        (npy_head(1, 2) + b"\0" * 9, "more or fewer"),
        (npy_head(10**12, 2) + b"\0" * 8, "more or fewer"),
        (npy_head(1, 2).replace(b"<f4", b"|O8") + b"\0" * 8, "not what it should be"),
    ],
)
def test_what_is_no_matrix_is_refused(tmp_path, content, words):
    path = tmp_path / "0.npy"
    path.write_bytes(content)
    with pytest.raises(PeerMisbehaved, match=words):
        joined([Part(0, path)], 1)


def test_rows_that_belong_to_others_are_refused(tmp_path):
    with pytest.raises(PeerMisbehaved):
        joined([part(tmp_path, 0, [[1], [2]]), part(tmp_path, 1, [[3]])], 3)
    with pytest.raises(PeerMisbehaved):
        joined([part(tmp_path, 0, [[1], [2]])], 1)
    with pytest.raises(PeerMisbehaved):
        joined([part(tmp_path, 0, [[1], [2]])], 3, {0: [True, False, False]})


def test_lines_follow_each_other(tmp_path):
    for first, text in ((0, "a\nb\n"), (2, "c\n")):
        (tmp_path / f"{first}.jsonl").write_text(text)
    out = io.BytesIO()
    said = join_jsonl([Part(2, tmp_path / "2.jsonl"), Part(0, tmp_path / "0.jsonl")], out)
    assert (out.getvalue(), said.rows) == (b"a\nb\nc\n", 3)
    (tmp_path / "0.jsonl").write_text("cut")
    with pytest.raises(PeerMisbehaved, match="cut off"):
        join_jsonl([Part(0, tmp_path / "0.jsonl")], out)
