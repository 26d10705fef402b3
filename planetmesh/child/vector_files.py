"""Vectors in files: `.npy` that NumPy reads (written without it), or a JSON object a line."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from planetmesh.jobtypes.npy import npy_head


def write_npy(path: Path, vectors: Sequence[array[float]]) -> None:
    """A matrix of float32 with a row for each vector; all are of one length."""
    width = len(vectors[0]) if vectors else 0
    with _whole(path) as file:
        file.write(npy_head(len(vectors), width))
        for vector in vectors:
            file.write(_little(vector))


def write_jsonl(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    encode = msgspec.json.Encoder().encode
    with _whole(path) as file:
        for line in lines:
            file.write(encode(line) + b"\n")


def plain(vector: array[float]) -> list[float]:
    """With the digits that a float32 has: half as long as what Python would write."""
    return [float(f"{number:.9g}") for number in vector]


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """Under a hidden name, which no pattern collects, until all of it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _little(vector: array[float]) -> bytes:
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return vector.tobytes()
