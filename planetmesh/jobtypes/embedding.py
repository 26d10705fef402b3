"""The job type `embedding`: texts to vectors, by a staged model folder or by a model server of the node.

`child/embed.py` does the work. A node says by tags what it can do: `embed:folder` where the libraries for
model folders are, `embed:NAME` for each model of a server on its loopback. Jobs ask for them by themselves.
"""

from __future__ import annotations

import re
from posixpath import isabs
from typing import Any, Literal

import msgspec

from planetmesh.errors import BadInput
from planetmesh.jobtypes.call_type import CallType
from planetmesh.jobtypes.contract import Launch, kind_of, read_payload
from planetmesh.model.job import Items, JobSpec
from planetmesh.model.names import safe_parts
from planetmesh.model.resources import MILLIS

FOLDER_TAG = "embed:folder"
TAG_MOST = 64
BATCH_MOST = 1024
TOKENS_MOST = 32_768
PREFIX_MOST = 1000
NAME_MOST = 128
OUTPUTS = "vectors"
"""The folder of what tasks write."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_.:=+/-]")


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server that runs on the node already, on its loopback."""

    model: str
    kind: Literal["ollama", "openai"] = "ollama"


class EmbeddingPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str = ""
    """Name of the model's folder among the job's files, or an absolute path that all nodes have."""
    server: Server | None = None
    source: Literal["text", "json", "file"] = "text"
    """An input is a text; JSON with a text in it; the name of a text file."""
    key: str = "text"
    """Where the text stands in a JSON object."""
    per: Literal["file", "line"] = "file"
    """A file is one text, or each of its lines that is not blank (of a .jsonl file: the JSON's text)."""
    prefix: str = ""
    """Put before each text, as some models want it: `passage: `."""
    batch: int = 32
    normalise: bool = True
    """To length one."""
    tokens_most: int = 0
    """What is longer is cut; 0: what the model takes."""
    result: Literal["values", "npy", "jsonl"] = "values"
    """Vectors as the tasks' values, or a file from each task."""
    join: str = ""
    """A name: whoever fetches the results gets one file, called so, in the order of the inputs."""
    threads: int = 0
    """Of one task; 0: as many as it asks for CPUs."""
    chunk: int = 1
    """How many inputs each task has, where that is fixed. Follows from the job."""


class Embedding(CallType):
    """See the module."""

    name = "embedding"

    def complete(self, spec: JobSpec) -> JobSpec:
        payload = read_embedding(spec.payload)
        more: dict[str, Any] = {}
        if not payload.threads:
            more["threads"] = max(1, spec.requests.cpu_millis // MILLIS)
        if max(1, spec.chunk) != payload.chunk:
            more["chunk"] = max(1, spec.chunk)
        tag = model_tag(payload.server.model) if payload.server else FOLDER_TAG
        outputs = spec.outputs
        if not outputs and payload.result != "values":
            outputs = (f"{OUTPUTS}/*.{payload.result}",)
        return msgspec.structs.replace(
            spec,
            payload={**spec.payload, **more},
            tags=spec.tags if tag in spec.tags else (*spec.tags, tag),
            outputs=outputs,
        )

    def check(self, spec: JobSpec) -> None:
        payload = read_embedding(spec.payload)
        if not isinstance(spec.inputs, Items):
            raise BadInput("An embedding job needs texts, or files with texts, as its inputs.")
        if payload.model and not isabs(payload.model) and not _is_staged(spec, payload.model):
            raise BadInput(
                f"The model {payload.model[:80]!a} is not among the job's files.",
                hint=f"Stage its folder: --in {payload.model[:80]}",
            )
        if payload.source == "json":
            for number, item in enumerate(spec.inputs.items):
                text_in(item, payload.key, f"Input {number + 1}")

    def launch(self, payload: dict[str, Any], items: tuple[str, ...], index: int) -> Launch:
        read_embedding(payload)
        return Launch(call="planetmesh.child.embed:run")

    def describe(self, payload: dict[str, Any], items: tuple[str, ...] = (), index: int = 0) -> str:
        read = read_embedding(payload)
        what = {"text": "text", "json": "text", "file": "file"}[read.source]
        count = f"{len(items)} {what}{'' if len(items) == 1 else 's'}" if items else f"{what}s"
        return f"embed {count} with {_model_of(read)}"

    def kind(self, payload: dict[str, Any]) -> str:
        return kind_of(self.name, _model_of(read_embedding(payload)))


def read_embedding(payload: dict[str, Any]) -> EmbeddingPayload:
    """The payload, each part within its bounds; raises BadInput."""
    found = read_payload(payload, EmbeddingPayload, Embedding.name)
    if bool(found.model) == bool(found.server):
        raise BadInput(
            "An embedding job names a model folder or a model server, one of them.",
            hint='Say model = "FOLDER", or server = { kind = "ollama", model = "nomic-embed-text" }.',
        )
    if found.server is not None and (
        len(found.server.model) > NAME_MOST or _NAME.fullmatch(found.server.model) is None
    ):
        raise BadInput(f"{found.server.model[:80]!a} is not a name of a model.")
    if found.model and not isabs(found.model):
        safe_parts(found.model)
    if found.per == "line" and found.source != "file":
        raise BadInput('per = "line" is for files: say source = "file".')
    _within("batch", found.batch, 1, BATCH_MOST)
    _within("tokens_most", found.tokens_most, 0, TOKENS_MOST)
    _within("threads", found.threads, 0, 1024)
    if found.join and (found.result == "values" or "/" in found.join or found.join.startswith(".")):
        raise BadInput(
            "join names the one file that all vectors are put into.",
            hint='Say it like: result = "npy", join = "vectors.npy"',
        )
    if found.join:
        safe_parts(found.join)
    if len(found.prefix) > PREFIX_MOST:
        raise BadInput(f"The prefix is longer than {PREFIX_MOST} letters.")
    return found


def is_row_each(payload: EmbeddingPayload) -> bool:
    """Has each input one vector? Else a file has as many as lines."""
    return payload.source != "file" or payload.per == "file"


def text_in(line: str | bytes, key: str, where: str) -> str:
    """The text of a JSON object's `key`, or of JSON that is a text itself; raises BadInput with `where`."""
    try:
        value = msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadInput(f"{where} is not JSON: {error}.") from error
    if isinstance(value, dict):
        value = value.get(key)
    if not isinstance(value, str):
        raise BadInput(f"{where} has no text under {key[:80]!a}.")
    return value


def model_tag(name: str) -> str:
    """The tag of nodes whose server has this model: `nomic-embed-text:latest` → `embed:nomic-embed-text`."""
    return f"embed:{_NOT_IN_TAGS.sub('_', name.removesuffix(':latest'))}"[:TAG_MOST]


def _is_staged(spec: JobSpec, name: str) -> bool:
    return any(file.name == name or file.name.startswith(f"{name}/") for file in spec.files)


def _model_of(payload: EmbeddingPayload) -> str:
    return payload.server.model if payload.server else payload.model


def _within(what: str, number: int, least: int, most: int) -> None:
    if not least <= number <= most:
        raise BadInput(f"{what} must be between {least} and {most}.")
