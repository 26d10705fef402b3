"""The head of a `.npy` file that holds a matrix of float32: written and read without NumPy."""

from __future__ import annotations

import re

from planetmesh.errors import BadInput

NUMBER_BYTES = 4
HEAD_MOST_BYTES = 1024
"""Ours have 128."""
_ALIGN = 64
_MAGIC = b"\x93NUMPY\x01\x00"
_WORDS = re.compile(
    rb"\{'descr': '<f4', 'fortran_order': False, 'shape': \(([0-9]{1,15}), ([0-9]{1,9})\), \} *\n"
)


def npy_head(rows: int, width: int) -> bytes:
    """What stands before `rows * width` numbers, which follow row by row, the lowest byte first."""
    words = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}".encode()
    room = -(len(_MAGIC) + 2 + len(words) + 1) % _ALIGN
    return _MAGIC + (len(words) + room + 1).to_bytes(2, "little") + words + b" " * room + b"\n"


def read_npy_head(begin: bytes) -> tuple[int, int, int]:
    """Rows, width, and where the numbers begin; of the first HEAD_MOST_BYTES of a file. Raises BadInput."""
    length = int.from_bytes(begin[len(_MAGIC) : len(_MAGIC) + 2], "little")
    at = len(_MAGIC) + 2
    found = _WORDS.fullmatch(begin[at : at + length])
    if not begin.startswith(_MAGIC) or at + length > len(begin) or found is None:
        raise BadInput("This is no .npy file with a matrix of float32.")
    return int(found[1]), int(found[2]), at + length
