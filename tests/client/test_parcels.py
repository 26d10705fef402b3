"""What is too large for a job: taken out, sent once, and put together again where it is called."""

from __future__ import annotations

import gc
import random
import weakref
from base64 import b64encode
from pathlib import Path
from pickle import PickleBuffer
from typing import Any

import msgspec
import pytest

from planetmesh.child import python_call
from planetmesh.client import parcels
from planetmesh.client.functions import pack_arguments, pack_function
from planetmesh.client.parcels import APART_BYTES, INLINE_MOST_BYTES, Parcel, pickled
from planetmesh.model.blob import Manifest
from planetmesh.wire.manifest import decode_manifest
from planetmesh.wire.python import PythonItem

MIB = 1024 * 1024


class Array:
    """Pickled as numpy's are: its data apart, if whoever pickles wants that."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: int) -> Any:
        return Array, (PickleBuffer(self.data),)


def lay(parcel: Parcel, folder: Path) -> Manifest:
    """As an agent lays it into a task's folder."""
    manifest = decode_manifest(parcel.manifest.content)
    contents = {each.digest: each.content for each in parcel.outgoing()}
    place = folder / parcel.staged.name
    place.mkdir()
    for file in manifest.files:
        (place / file.name).write_bytes(contents[file.digest])
    return manifest


def arrived(args: tuple[Any, ...], folder: Path) -> Any:
    """What a node makes of them."""
    packed = pack_arguments(args, {})
    if packed.parcel is not None:
        lay(packed.parcel, folder)
    return python_call._arguments(packed.text, str(folder))[0]


@pytest.mark.parametrize("size", [10, APART_BYTES, INLINE_MOST_BYTES - 1000])
def test_what_is_small_stays_in_the_job(size):
    packed = pack_arguments((Array(bytearray(size)),), {})
    assert packed.parcel is None
    assert msgspec.json.decode(packed.text, type=PythonItem).p


@pytest.mark.parametrize("size", [INLINE_MOST_BYTES + 1, 3 * MIB, 40 * MIB])
def test_large_buffers_travel_beside_it_and_can_be_written_to(tmp_path, size):
    data = bytearray(random.Random(1).randbytes(1000) * (size // 1000 + 1))
    packed = pack_arguments((Array(data), 7), {})
    assert len(packed.text) < 1000
    assert packed.parcel.size == len(data)
    array, seven = arrived((Array(data), 7), tmp_path)
    assert (array.data, seven) == (data, 7)
    array.data[0] ^= 1


@pytest.mark.parametrize("value", [b"x" * MIB, "é" * MIB, list(range(200_000)), {"k": "v" * MIB}], ids=type)
def test_all_else_that_is_large_travels_as_a_file_too(tmp_path, value):
    packed = pack_arguments((value,), {})
    assert len(packed.text) < 1000
    assert arrived((value,), tmp_path) == (value,)


def test_several_buffers_keep_their_places(tmp_path):
    arrays = [Array(bytearray([n]) * (APART_BYTES + n)) for n in range(6)]
    found = arrived((arrays, b"y" * MIB), tmp_path)
    assert [each.data for each in found[0]] == [each.data for each in arrays]
    assert found[1] == b"y" * MIB


def test_one_buffer_of_many_calls_is_one_blob_and_gone_after_them():
    data = Array(bytearray(MIB))
    packed = [pack_arguments((data, n), {}) for n in range(5)]
    assert len({each.parcel.staged for each in packed}) == 1, "its parcel holds the buffer, the text the rest"
    assert len({id(blob) for each in packed for blob in each.parcel.blobs}) == 1
    blob = weakref.ref(packed[0].parcel.blobs[0])
    assert blob() in parcels._known.values()
    del packed
    gc.collect()
    assert blob() is None


def test_what_is_changed_after_the_call_is_another():
    data = bytearray(MIB)
    digests = []
    keep = []
    for number in range(4):
        data[MIB // 2] = number % 2
        keep.append(pickled(Array(data), "arguments"))
        digests.append(keep[-1].parcel.blobs[0].digest)
    assert digests[0] == digests[2] != digests[1] == digests[3]


def test_a_function_that_holds_much_travels_as_files(tmp_path, monkeypatch):
    monkeypatch.setattr(python_call, "_last", None)
    held = Array(bytearray(b"ab" * MIB))
    packed = pack_function(lambda n: len(held.data) + n)
    assert len(packed.payload.function) < 100_000
    assert packed.payload.buffers == 1
    lay(packed.parcel, tmp_path)
    assert python_call._load(packed.payload, str(tmp_path))(1) == 2 * MIB + 1
    text = "x" * MIB
    whole = pack_function(lambda n: len(text) + n)
    assert whole.payload.function == ""
    lay(whole.parcel, tmp_path)
    assert python_call._load(whole.payload, str(tmp_path))(1) == MIB + 1


def test_files_that_are_not_there_fail_the_call_only(tmp_path):
    item = msgspec.json.encode({"f": "arguments-0123456789abcdef", "p": b64encode(b"x").decode(), "b": 1})
    with pytest.raises(FileNotFoundError):
        python_call._arguments(item.decode(), str(tmp_path))
