"""The work of the job type `embedding`: texts in, vectors out, in batches over all inputs of the task.

A model folder is loaded once and stays for as long as the worker lives.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from math import isfinite
from operator import mul
from pathlib import Path
from typing import Any

import msgspec

from planetmesh.child.call import Call
from planetmesh.child.model_server import ModelServer, ServerRefused
from planetmesh.child.vector_files import plain, write_jsonl, write_npy
from planetmesh.errors import BadInput
from planetmesh.jobtypes.embedding import OUTPUTS, EmbeddingPayload, read_embedding, text_in
from planetmesh.wire.calls import Fault

FILE_MOST_BYTES = 256 * 1024 * 1024
TEXTS_MOST = 1_000_000
"""Of one task: some gigabytes of vectors."""
SHOWN = 200
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")

Encode = Callable[[Sequence[str]], Sequence[Sequence[float]]]

_loaded: dict[tuple[str, str], Any] = {}
"""(job, model) → model folder in memory: one job's folder does not change, though each task has a copy."""


class TextRefused(Exception):
    """One input has no vectors; the others go on."""


class Part(msgspec.Struct):
    """What came of one input."""

    item: str
    number: int
    """Of the input in its job."""
    texts: list[str] = []
    vectors: list[Any] = []
    fault: str = ""
    is_final: bool = False
    """The fault is the input's own: no other try would go better."""


def run(call: Call) -> None:
    """Values: {"vector"} or {"vectors"} for an input; with files {"output", "row", "count", "dimensions"}."""
    payload = read_embedding(call.payload)
    call.failing = "inputs have no vectors"
    parts = [
        _read(call, payload, item, call.index * payload.chunk + number)
        for number, item in enumerate(call.items)
    ]
    good = [part for part in parts if not part.fault]
    try:
        _refuse_too_many(sum(len(part.texts) for part in good))
        _fill(good, _encoder(call, payload), payload)
    except (TextRefused, ServerRefused, OSError) as error:
        for part in good:
            part.fault = part.fault or str(error)
    good = [part for part in good if not part.fault]
    name = f"{OUTPUTS}/{parts[0].number:010d}.{payload.result}" if parts else ""
    if good and payload.result != "values":
        _write(Path(call.folder) / name, good, payload)
    _emit(call, parts, payload, name)


def _refuse_too_many(count: int) -> None:
    if count > TEXTS_MOST:
        raise TextRefused(
            f"The task has {count} texts; {TEXTS_MOST} is the limit. Give each task fewer files."
        )


def _emit(call: Call, parts: Sequence[Part], payload: EmbeddingPayload, name: str) -> None:
    row = 0
    for number, part in enumerate(parts):
        if part.fault:
            fault = Fault("NoVector", f"{part.item[:SHOWN]!a}: {part.fault}")
            call.emit_error(fault, number, is_final=part.is_final)
        elif payload.result != "values":
            size = len(part.vectors[0]) if part.vectors else 0
            value = {"output": name, "row": row, "count": len(part.vectors), "dimensions": size}
            call.emit(value, number)
            row += len(part.vectors)
        elif payload.per == "line":
            call.emit({"vectors": [plain(vector) for vector in part.vectors]}, number)
        else:
            call.emit({"vector": plain(part.vectors[0])}, number)


def _write(path: Path, parts: Sequence[Part], payload: EmbeddingPayload) -> None:
    """All vectors of the task in the order of its inputs."""
    if payload.result == "npy":
        write_npy(path, [vector for part in parts for vector in part.vectors])
        return
    write_jsonl(
        path,
        (
            {"input": part.number, **_origin(part, line, payload), "vector": plain(vector)}
            for part in parts
            for line, vector in enumerate(part.vectors)
        ),
    )


def _origin(part: Part, line: int, payload: EmbeddingPayload) -> dict[str, Any]:
    if payload.source != "file":
        return {"text": part.texts[0]}
    return {"file": part.item, **({"text": part.texts[line]} if payload.per == "line" else {})}


def _fill(parts: Sequence[Part], encode: Encode, payload: EmbeddingPayload) -> None:
    """Give each part its vectors. Texts of like length go together: short ones are padded less."""
    for part in parts:
        part.vectors = [None] * len(part.texts)
    places = [(part, line) for part in parts for line in range(len(part.texts))]
    places.sort(key=lambda place: len(place[0].texts[place[1]]))
    for start in range(0, len(places), payload.batch):
        batch = places[start : start + payload.batch]
        found = _encode(encode, batch, payload)
        for (part, line), numbers in zip(batch, found, strict=True):
            if isinstance(numbers, ServerRefused):
                part.fault, part.is_final = str(numbers), True
                continue
            vector = array("f", numbers)
            length = sum(map(mul, vector, vector)) ** 0.5
            if not isfinite(length):
                part.fault, part.is_final = "its vector has numbers that are none", True
            elif payload.normalise and length:
                vector = array("f", [number / length for number in vector])
            part.vectors[line] = vector


def _encode(
    encode: Encode, batch: Sequence[tuple[Part, int]], payload: EmbeddingPayload
) -> Sequence[Sequence[float] | ServerRefused]:
    """A vector for each; a server that does not like one of the texts is asked for each alone."""
    texts = [payload.prefix + part.texts[line] for part, line in batch]
    try:
        return encode(texts)
    except ServerRefused as error:
        if not error.is_about_texts:
            raise
        if len(batch) == 1:
            return [error]
    return [_encode(encode, [place], payload)[0] for place in batch]


def _encoder(call: Call, payload: EmbeddingPayload) -> Encode:
    if payload.server is not None:
        return ModelServer(payload.server).encode
    # Before NumPy is loaded, which reads them then.
    for name in THREAD_VARIABLES:
        os.environ[name] = str(max(1, payload.threads))
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if payload.threads > 1 else "false"
    try:
        from planetmesh.child.model_folder import ModelFolder, ModelRefused
    except ImportError as error:
        raise TextRefused(
            f"This node lacks what models need: {error}. There: pip install 'planetmesh[embedding]'"
        ) from error
    key = (os.environ.get("PLANETMESH_JOB", ""), payload.model)
    try:
        if key not in _loaded:
            _loaded.clear()
            _loaded[key] = ModelFolder(Path(call.folder) / payload.model)
        model: ModelFolder = _loaded[key]

        def encode(texts: Sequence[str]) -> Sequence[Sequence[float]]:
            try:
                return model.encode(texts, payload.tokens_most)  # type: ignore[return-value]  # rows of floats
            except ModelRefused as error:
                raise TextRefused(str(error)) from error

        return encode
    except ModelRefused as error:
        raise TextRefused(str(error)) from error
    except (KeyError, ValueError, TypeError, ArithmeticError, IndexError) as error:
        raise TextRefused(f"The model folder is not what it should be: {error!r}.") from error


def _read(call: Call, payload: EmbeddingPayload, item: str, number: int) -> Part:
    """The texts of one input, or why there are none."""
    part = Part(item, number)
    try:
        if payload.source == "text":
            part.texts = [item]
        elif payload.source == "json":
            part.texts = [text_in(item, payload.key, "It")]
        else:
            part.texts = _read_file(Path(call.folder) / item, payload)
    except (TextRefused, BadInput) as error:
        part.fault = str(error)
        part.is_final = not isinstance(error.__cause__, OSError)
    return part


def _read_file(path: Path, payload: EmbeddingPayload) -> list[str]:
    try:
        if not path.is_file():
            raise TextRefused("there is no such file")
        with path.open("rb") as file:
            content = file.read(FILE_MOST_BYTES + 1)
    except OSError as error:
        raise TextRefused(f"it cannot be read: {error.strerror}") from error
    if len(content) > FILE_MOST_BYTES:
        raise TextRefused(f"it is longer than {FILE_MOST_BYTES} bytes")
    try:
        # Not `utf-8-sig`: that is a module of its own, which a confined worker might not be able to load.
        text = content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise TextRefused(f"it is no UTF-8 text (byte {error.start})") from error
    if payload.per == "file":
        return [text]
    lines = [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
    if path.suffix in {".jsonl", ".ndjson"}:
        return [text_in(line, payload.key, f"line {at + 1}") for at, line in enumerate(lines)]
    return lines
