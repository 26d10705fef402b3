"""What an embedding job may ask for, and what follows from it."""

from __future__ import annotations

import pytest

from planetmesh.errors import BadInput
from planetmesh.jobtypes.embedding import Embedding, model_tag
from planetmesh.model.blob import Digest, StagedFile
from planetmesh.model.job import Items, JobSpec, One
from planetmesh.model.resources import Resources

KIND = Embedding()
MODEL = (StagedFile("minilm", Digest("0" * 64), 1, is_tree=True),)


def checked(inputs=None, files=MODEL, chunk=1, outputs=(), cpus=1000, tags=(), **payload):
    spec = JobSpec(
        type="embedding",
        payload=payload,
        inputs=inputs or Items(("a text",)),
        files=files,
        chunk=chunk,
        outputs=outputs,
        tags=tags,
        requests=Resources(cpu_millis=cpus),
    )
    spec = KIND.complete(spec)
    KIND.check(spec)
    return spec


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"model": "minilm", "server": {"model": "x"}},
        {"model": "other"},
        {"model": "../minilm"},
        {"model": "minilm", "batch": 0},
        {"model": "minilm", "source": "url"},
        {"model": "minilm", "per": "line"},
        {"model": "minilm", "result": "csv"},
        {"model": "minilm", "prefix": "x" * 1001},
        {"model": "minilm", "url": "http://192.0.2.1"},
        {"server": {"model": ""}},
        {"server": {"model": "a b"}},
        {"server": {"model": "x", "kind": "cloud"}},
        {"server": {"model": "x", "url": "http://192.0.2.1"}},
        {"model": "minilm", "inputs": One()},
        {"model": "minilm", "source": "json", "inputs": Items(('{"text": "fine"}', "{}"))},
        {"model": "minilm", "files": ()},
    ],
)
def test_jobs_that_can_never_run_are_refused(payload):
    with pytest.raises(BadInput):
        checked(**payload)


def test_the_model_may_be_staged_in_parts_or_lie_on_all_nodes():
    checked(model="minilm")
    checked(model="minilm", files=(StagedFile("minilm/config.json", Digest("0" * 64), 1),))
    checked(model="/share/minilm", files=())


def test_nodes_are_asked_for_by_what_they_can_do():
    assert checked(model="minilm").tags == ("embed:folder",)
    assert checked(server={"model": "nomic-embed-text:latest"}, tags=("x",)).tags == (
        "x",
        "embed:nomic-embed-text",
    )
    assert checked(model="minilm", tags=("embed:folder",)).tags == ("embed:folder",)


def test_tags_are_tags_whatever_a_model_is_called():
    assert model_tag("bge small/v1.5") == "embed:bge_small/v1.5"
    assert len(model_tag("x" * 128)) == 64


def test_files_are_collected_threads_and_chunks_follow_from_the_job():
    assert checked(model="minilm").outputs == ()
    assert checked(model="minilm", result="npy").outputs == ("vectors/*.npy",)
    assert checked(model="minilm", result="jsonl", outputs=("v/*",)).outputs == ("v/*",)
    payload = checked(model="minilm", cpus=3500, chunk=4).payload
    assert (payload["threads"], payload["chunk"]) == (3, 4)
    assert checked(model="minilm", cpus=500).payload["threads"] == 1
    assert checked(model="minilm", threads=2).payload["threads"] == 2


def test_jobs_are_described_and_alike_by_their_model():
    server = {"server": {"model": "nomic"}, "source": "file"}
    assert KIND.describe(server, ("a.txt", "b.txt")) == "embed 2 files with nomic"
    assert KIND.describe({"model": "minilm"}, ("a",)) == "embed 1 text with minilm"
    assert KIND.kind({"model": "dir/minilm"}) == "embedding minilm"
    assert KIND.launch({"model": "minilm"}, ("a",), 0).call == "planetmesh.child.embed:run"
