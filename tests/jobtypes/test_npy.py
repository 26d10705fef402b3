"""The head of a `.npy` file, as NumPy reads and writes it."""

from __future__ import annotations

import io

import numpy as np
import pytest

from planetmesh.errors import BadInput
from planetmesh.jobtypes.npy import npy_head, read_npy_head


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (3, 384), (1_000, 7)])
def test_numpy_reads_ours_and_we_read_numpys(shape):
    matrix = np.arange(shape[0] * shape[1], dtype="<f4").reshape(shape)
    np.testing.assert_array_equal(np.load(io.BytesIO(npy_head(*shape) + matrix.tobytes())), matrix)
    out = io.BytesIO()
    np.save(out, matrix)
    rows, width, begin = read_npy_head(out.getvalue())
    assert (rows, width) == shape
    assert out.getvalue()[begin:] == matrix.tobytes()


def test_large_numbers_fit():
    assert read_npy_head(npy_head(10**12, 4096)) == (10**12, 4096, len(npy_head(10**12, 4096)))


@pytest.mark.parametrize(
    "array",
    [np.zeros(3, "<f4"), np.zeros((2, 2), ">f4"), np.zeros((2, 2)), np.zeros((2, 2), "<f4", order="F")],
)
def test_others_are_refused(array):
    out = io.BytesIO()
    np.save(out, array)
    with pytest.raises(BadInput):
        read_npy_head(out.getvalue())


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"PK\x03\x04" * 40, npy_head(1, 1)[:60]])
def test_nonsense_is_refused(data):
    with pytest.raises(BadInput):
        read_npy_head(data)
