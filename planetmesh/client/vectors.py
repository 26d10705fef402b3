"""The vectors of all tasks of an embedding job as one file, in the order of the inputs.

Each task's file was fetched before and is named by its first input. Pieces are copied, so memory stays flat
however many there are, and NumPy is not needed. What a file says of itself is checked: a node wrote it.
Blocks on the disk.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import IO

import msgspec

from planetmesh.errors import BadInput, Conflict, PeerMisbehaved
from planetmesh.jobtypes.npy import HEAD_MOST_BYTES, NUMBER_BYTES, npy_head, read_npy_head
from planetmesh.model.blob import Digest

PIECE_BYTES = 1024 * 1024
NAN = struct.pack("<f", float("nan"))


class Part(msgspec.Struct, frozen=True):
    """One task's vectors."""

    first: int
    """The number of its first input in the job."""
    path: Path


class Joined(msgspec.Struct, frozen=True):
    """What became of them."""

    rows: int
    width: int
    missing: int
    """Rows of NaN: inputs without a vector."""
    size: int
    digest: Digest


class _Head(msgspec.Struct, frozen=True):
    part: Part
    rows: int
    width: int
    begin: int


def join_npy(
    parts: Iterable[Part], file: IO[bytes], total: int | None, present: Mapping[int, Sequence[bool]]
) -> Joined:
    """Write one matrix, and remove each part that is in it.

    With `total` input N is row N, and one without a vector a row of NaN; `present` says of tasks that failed
    which of their inputs have one. Without it rows follow each other. Raises Conflict for vectors of
    different lengths, PeerMisbehaved for files that are not what they should be.
    """
    heads = [_read_head(part) for part in sorted(parts, key=lambda part: part.first)]
    if not heads:
        raise Conflict("No vector has come of this job.", hint="`planetmesh results JOB --failed` says why.")
    width = heads[0].width
    for head in heads:
        if head.width != width:
            raise Conflict(
                f"The vectors of input {head.part.first} have {head.width} numbers, those of input "
                f"{heads[0].part.first} {width}: not all nodes have the same model.",
                hint="Name the nodes to use by --tag or --node.",
            )
    rows = sum(head.rows for head in heads) if total is None else total
    out = _Out(file)
    out.write(npy_head(rows, width))
    row = 0
    for head in heads:
        if total is not None:
            row = _fill(out, row, head, total)
        row += _copy(out, head, present.get(head.part.first) if total is not None else None)
        head.part.path.unlink()
    if total is not None:
        if row > total:
            raise _misfit(heads[-1])
        out.write_rows(total - row, width)
    made = sum(head.rows for head in heads)
    return Joined(rows, width, rows - made, out.size, Digest(out.state.hexdigest()))


def join_jsonl(parts: Iterable[Part], file: IO[bytes]) -> Joined:
    """One line after the other, and each part that is in it removed."""
    out = _Out(file)
    lines = 0
    for part in sorted(parts, key=lambda part: part.first):
        end = b"\n"
        with part.path.open("rb") as source:
            while piece := source.read(PIECE_BYTES):
                lines += piece.count(b"\n")
                end = piece[-1:]
                out.write(piece)
        if end != b"\n":
            raise PeerMisbehaved(f"The vectors from input {part.first} on are cut off.")
        part.path.unlink()
    return Joined(lines, 0, 0, out.size, Digest(out.state.hexdigest()))


class _Out:
    """Counts and hashes what is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.state = sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.state.update(data)
        self.size += len(data)

    def write_rows(self, count: int, width: int) -> None:
        """Of NaN."""
        for _ in range(count):
            self.write(NAN * width)


def _read_head(part: Part) -> _Head:
    with part.path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            rows, width, begin = read_npy_head(file.read(HEAD_MOST_BYTES))
        except BadInput as error:
            raise PeerMisbehaved(
                f"What a task made of input {part.first} on is not what it should be: {error.message}"
            ) from error
    head = _Head(part, rows, width, begin)
    if size != begin + rows * width * NUMBER_BYTES:
        raise _misfit(head)
    return head


def _fill(out: _Out, row: int, head: _Head, total: int) -> int:
    """Rows of NaN up to the part's first input."""
    if not row <= head.part.first <= total:
        raise _misfit(head)
    out.write_rows(head.part.first - row, head.width)
    return head.part.first


def _copy(out: _Out, head: _Head, present: Sequence[bool] | None) -> int:
    """The part's rows, with rows of NaN between where its task says so; how many that are."""
    with head.part.path.open("rb") as source:
        source.seek(head.begin)
        if present is None:
            while piece := source.read(PIECE_BYTES):
                out.write(piece)
            return head.rows
        if sum(present) != head.rows:
            raise _misfit(head)
        for is_there in present:
            out.write(source.read(head.width * NUMBER_BYTES) if is_there else NAN * head.width)
        return len(present)


def _misfit(head: _Head) -> PeerMisbehaved:
    return PeerMisbehaved(
        f"The vectors from input {head.part.first} on are more or fewer than they should be.",
        hint="`planetmesh fetch JOB --by-task` brings each task's file as it is.",
    )
