"""The embedding job's work: where texts come from, where vectors go, what fails alone."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import tiny_model
from image_files import Kept
from model_server_double import serving, vector_of

from planetmesh.child import embed
from planetmesh.child.embed import run
from planetmesh.child.model_folder import ModelFolder

TEXTS = ["the cat sits", "a dog", "quarterly revenue grew by percent", "a kitten sleeps on the mat"]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    """What a call sets for its own process."""
    for name in (
        *embed.THREAD_VARIABLES,
        "TOKENIZERS_PARALLELISM",
        "OLLAMA_HOST",
        "PLANETMESH_EMBEDDING_SERVER",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PLANETMESH_JOB", "job")
    monkeypatch.setattr(embed, "_loaded", {})
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def folder(tmp_path):
    tiny_model.make(tmp_path / "model")
    return tmp_path


def work(folder, items, *, index=0, **payload):
    return Kept(run, folder, {"model": "model", **payload}, items, index)


def reference(folder, texts):
    return ModelFolder(folder / "model").encode(texts)


@pytest.mark.parametrize("batch", [1, 3, 32])
def test_each_text_gets_its_vector_whatever_the_batch(folder, batch):
    kept = work(folder, TEXTS, batch=batch)
    found = [kept.values[number]["vector"] for number in range(len(TEXTS))]
    np.testing.assert_allclose(found, reference(folder, TEXTS), atol=1e-6)
    assert kept.exit_code == 0


def test_numbers_travel_with_the_digits_of_a_float32(folder):
    found = work(folder, TEXTS).values[0]["vector"]
    assert np.array(found, dtype=np.float32).tolist() == pytest.approx(found, rel=1e-7)
    assert max(len(repr(number)) for number in found) <= 16


def test_json_has_its_text_under_a_key_or_is_a_text(folder):
    items = ['{"text": "the cat sits", "id": 7}', '"a dog"', '{"id": 8}', "no json"]
    kept = work(folder, items, source="json")
    np.testing.assert_allclose(
        [kept.values[0]["vector"], kept.values[1]["vector"]], reference(folder, TEXTS[:2]), atol=1e-6
    )
    assert "no text under 'text'" in kept.faults[2]
    assert "not JSON" in kept.faults[3]
    assert kept.sentence.startswith("2 of 4 inputs have no vectors; first: NoVector: ")


def test_files_are_one_text_each_or_one_a_line(folder):
    (folder / "a.txt").write_text("the cat sits\n\n  \r\na dog\r\n")
    (folder / "b.jsonl").write_text('{"text": "the cat sits"}\n{"text": "a dog"}\n')
    (folder / "c.txt").write_bytes(b"caf\xe9")
    kept = work(folder, ["a.txt", "b.jsonl", "c.txt", "missing.txt"], source="file", per="line")
    for number in (0, 1):
        np.testing.assert_allclose(kept.values[number]["vectors"], reference(folder, TEXTS[:2]), atol=1e-6)
    assert "no UTF-8" in kept.faults[2]
    assert "no such file" in kept.faults[3]
    whole = work(folder, ["a.txt"], source="file").values[0]["vector"]
    np.testing.assert_allclose([whole], reference(folder, ["the cat sits a dog"]), atol=1e-6)


def test_a_prefix_stands_before_each_text(folder):
    found = work(folder, ["cat"], prefix="the ").values[0]["vector"]
    np.testing.assert_allclose([found], reference(folder, ["the cat"]), atol=1e-6)


def test_vectors_can_keep_their_length(tmp_path):
    tiny_model.make(tmp_path / "model", normalise=False)
    long = work(tmp_path, ["the cat"], normalise=False).values[0]["vector"]
    assert np.linalg.norm(long) != pytest.approx(1, abs=0.01)
    one = work(tmp_path, ["the cat"]).values[0]["vector"]
    np.testing.assert_allclose(np.array(long) / np.linalg.norm(long), one, atol=1e-6)


def test_npy_files_are_named_by_the_first_input_and_say_the_rows(folder):
    (folder / "a.txt").write_text("the cat sits\na dog")
    (folder / "b.txt").write_bytes(b"\xff")
    (folder / "c.txt").write_text("quarterly")
    kept = work(
        folder, ["a.txt", "b.txt", "c.txt"], index=5, source="file", per="line", result="npy", chunk=3
    )
    name = "vectors/0000000015.npy"
    assert kept.values == {
        0: {"output": name, "row": 0, "count": 2, "dimensions": 16},
        2: {"output": name, "row": 2, "count": 1, "dimensions": 16},
    }
    found = np.load(folder / name)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(folder, ["the cat sits", "a dog", "quarterly"]), atol=1e-6)
    assert not list((folder / "vectors").glob(".*"))


def test_jsonl_says_where_each_vector_is_from(folder):
    kept = work(folder, TEXTS[:2], index=3, result="jsonl")
    assert kept.values[1] == {"output": "vectors/0000000003.jsonl", "row": 1, "count": 1, "dimensions": 16}
    lines = [json.loads(line) for line in (folder / "vectors/0000000003.jsonl").read_text().splitlines()]
    assert [(line["input"], line["text"]) for line in lines] == [(3, TEXTS[0]), (4, TEXTS[1])]
    np.testing.assert_allclose([line["vector"] for line in lines], reference(folder, TEXTS[:2]), atol=1e-6)


def test_the_model_is_loaded_once_for_a_job(folder, monkeypatch):
    first = work(folder, TEXTS[:1]).values
    (folder / "model" / "model.safetensors").unlink()
    assert work(folder, TEXTS[:1]).values == first
    monkeypatch.setenv("PLANETMESH_JOB", "another")
    assert "model.safetensors" in work(folder, TEXTS[:1]).faults[0]


def test_a_model_that_cannot_be_used_fails_every_input_with_the_reason(folder):
    (folder / "model" / "config.json").write_text('{"model_type": "bert"}')
    kept = work(folder, TEXTS[:2])
    assert set(kept.faults) == {0, 1}
    assert "not what it should be" in kept.faults[0]


def test_as_many_threads_as_the_job_asks_for(folder):
    work(folder, TEXTS[:1], threads=3)
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


# A server of the node


SERVERS = [
    ("ollama", "OLLAMA_HOST", "", "/api/embed"),
    ("openai", "PLANETMESH_EMBEDDING_SERVER", "/v1", "/v1/embeddings"),
]


@pytest.mark.parametrize(("kind", "variable", "path", "asked"), SERVERS)
def test_a_server_of_the_node_is_asked_in_batches(tmp_path, monkeypatch, kind, variable, path, asked):
    with serving() as server:
        monkeypatch.setenv(variable, server.url + path)
        how = {"model": "", "server": {"kind": kind, "model": "m"}, "batch": 3, "normalise": False}
        kept = work(tmp_path, TEXTS, **how)
        assert [kept.values[number]["vector"] for number in range(4)] == [vector_of(text) for text in TEXTS]
        assert [(path, len(body["input"]), body["model"]) for path, body in server.asked] == [
            (asked, 3, "m"),
            (asked, 1, "m"),
        ]
        normal = work(tmp_path, TEXTS, **{**how, "normalise": True}).values[1]["vector"]
        assert np.linalg.norm(normal) == pytest.approx(1)


def test_a_text_that_the_server_does_not_take_fails_alone(tmp_path, monkeypatch):
    with serving() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        kept = work(tmp_path, ["short", "a" * 1000, "also short"], model="", server={"model": "m"})
        assert set(kept.values) == {0, 2}
        assert "answered 400" in kept.faults[1]
        assert "longer than the context" in kept.faults[1]


@pytest.mark.parametrize(
    "answer",
    [
        {"embeddings": [[1.0, 2.0]]},
        {"embeddings": [[1.0], [1.0, 2.0]]},
        {"embeddings": [[], []]},
        {"embeddings": "none"},
        {"error": "model not found"},
    ],
)
def test_answers_that_are_no_vectors_are_said(tmp_path, monkeypatch, answer):
    with serving() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        server.spoil = answer
        kept = work(tmp_path, ["a", "b"], model="", server={"model": "m"})
        assert set(kept.faults) == {0, 1}
        assert "server" in kept.faults[0]


def test_numbers_that_are_none_are_said(tmp_path, monkeypatch):
    with serving() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        server.spoil = {"embeddings": [[1e300, 1.0]]}
        assert "numbers that are none" in work(tmp_path, ["a"], model="", server={"model": "m"}).faults[0]


@pytest.mark.parametrize("kind", ["ollama", "openai"])
def test_a_server_that_is_not_there_is_said(tmp_path, monkeypatch, kind):
    with serving() as server:
        port = server.server_address[1]
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{port}")
    kept = work(tmp_path, ["a"], model="", server={"kind": kind, "model": "m"})
    assert ("cannot be asked" if kind == "ollama" else "was not told") in kept.faults[0]


def test_no_server_elsewhere_is_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", "http://192.0.2.7:11434")
    kept = work(tmp_path, ["a"], model="", server={"model": "m"})
    assert "loopback" in kept.faults[0]
