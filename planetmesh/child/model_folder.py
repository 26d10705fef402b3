"""Texts to vectors with a folder as sentence-transformers writes it, by NumPy alone.

Encoders of the BERT family only (BERT, RoBERTa, XLM-R): most small models are. Weights come from
safetensors; pickles (`pytorch_model.bin`) are never opened. What a folder asks for that is not known here
is said, never passed over: a vector that is a little wrong would be worse than none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

Floats = npt.NDArray[np.float32]

FAMILY = {"bert": 0, "roberta": 1, "xlm-roberta": 1, "camembert": 1}
"""Model types, and whether their positions begin behind the padding's number."""
FAMILY_WORDS = ", ".join(FAMILY)
PREFIXES = ("bert.", "roberta.", "")
MASKED = np.float32(-1e9)
JSON_MOST_BYTES = 1024 * 1024
TOKENS_USUAL = 512


class ModelRefused(Exception):
    """The folder is no model that can be used here."""


class ModelFolder:
    """A model in memory."""

    def __init__(self, folder: Path) -> None:
        """Raises ModelRefused."""
        if not folder.is_dir():
            raise ModelRefused(f"There is no model folder {folder.name!a} in the task's folder.")
        body, pooling, self._is_normalised, limit = _read_modules(folder)
        config = _read_json(body / "config.json")
        kind = str(config.get("model_type"))
        if kind not in FAMILY:
            raise ModelRefused(
                f"Models of type {kind[:40]!a} cannot be run here (but by a server). Known: {FAMILY_WORDS}."
            )
        if config.get("position_embedding_type", "absolute") != "absolute":
            raise ModelRefused("Models with relative positions cannot be run here.")
        self._pool = _pooling(pooling)
        weights = _Weights(body / "model.safetensors")
        self._heads = int(config["num_attention_heads"])
        self._epsilon = np.float32(config.get("layer_norm_eps", 1e-12))
        self._activate = _activation(str(config.get("hidden_act", "gelu")))
        self._padding = int(config.get("pad_token_id") or 0)
        self._first_position = (self._padding + 1) if FAMILY[kind] else 0
        self._words = weights.take("embeddings.word_embeddings.weight")
        self._positions = weights.take("embeddings.position_embeddings.weight")
        self._kind = weights.take("embeddings.token_type_embeddings.weight")[0]
        self._norm = weights.take_norm("embeddings.LayerNorm")
        self._layers = [_Layer(weights, number) for number in range(int(config["num_hidden_layers"]))]
        self._limit = min(limit, len(self._positions) - self._first_position)
        self._tokenizer = _read_tokenizer(body)

    def encode(self, texts: Sequence[str], tokens_most: int = 0) -> Floats:
        """One row a text. Texts longer than the model takes are cut."""
        self._tokenizer.enable_truncation(min(tokens_most or self._limit, self._limit))
        numbers = [encoding.ids or [self._padding] for encoding in self._tokenizer.encode_batch(list(texts))]
        longest = max(map(len, numbers))
        ids = np.full((len(numbers), longest), self._padding, dtype=np.int64)
        mask = np.zeros((len(numbers), longest), dtype=np.float32)
        for row, each in enumerate(numbers):
            ids[row, : len(each)] = each
            mask[row, : len(each)] = 1
        if int(ids.max()) >= len(self._words):
            raise ModelRefused("The folder's tokenizer knows more words than its model.")
        found = self._pool(self._run(ids, mask), mask)
        if self._is_normalised:
            found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.float32(1e-12))
        return found

    def _run(self, ids: npt.NDArray[np.int64], mask: Floats) -> Floats:
        """The last layer's state of each token."""
        places = np.arange(self._first_position, self._first_position + ids.shape[1])
        state = _normed(self._words[ids] + self._positions[places] + self._kind, self._norm, self._epsilon)
        unseen = (1 - mask)[:, None, None, :] * MASKED
        for layer in self._layers:
            state = layer.run(state, unseen, self)
        return state

    @property
    def heads(self) -> int:
        return self._heads

    @property
    def epsilon(self) -> np.float32:
        return self._epsilon

    def activate(self, values: Floats) -> Floats:
        return self._activate(values)


class _Layer:
    def __init__(self, weights: _Weights, number: int) -> None:
        at = f"encoder.layer.{number}."
        parts = [weights.take_linear(f"{at}attention.self.{name}") for name in ("query", "key", "value")]
        self._looks = (
            np.ascontiguousarray(np.concatenate([part[0] for part in parts], axis=1)),
            np.concatenate([part[1] for part in parts]),
        )
        self._out = weights.take_linear(f"{at}attention.output.dense")
        self._norm = weights.take_norm(f"{at}attention.output.LayerNorm")
        self._wide = weights.take_linear(f"{at}intermediate.dense")
        self._narrow = weights.take_linear(f"{at}output.dense")
        self._last_norm = weights.take_norm(f"{at}output.LayerNorm")

    def run(self, state: Floats, unseen: Floats, model: ModelFolder) -> Floats:
        rows, tokens, size = state.shape
        flat = state.reshape(-1, size)
        looks = _linear(flat, self._looks).reshape(rows, tokens, 3, model.heads, size // model.heads)
        query, key, value = looks.transpose(2, 0, 3, 1, 4)
        scores = query @ key.transpose(0, 1, 3, 2)
        scores *= np.float32((size // model.heads) ** -0.5)
        scores += unseen
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        seen = (scores @ value).transpose(0, 2, 1, 3).reshape(-1, size)
        flat = _normed(_linear(seen, self._out) + flat, self._norm, model.epsilon)
        wide = model.activate(_linear(flat, self._wide))
        flat = _normed(_linear(wide, self._narrow) + flat, self._last_norm, model.epsilon)
        return flat.reshape(rows, tokens, size)


class _Weights:
    """Tensors by their names without the model's own prefix."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ModelRefused(
                "The model folder has no model.safetensors; other kinds of weights are not read."
            )
        try:
            with safe_open(str(path), framework="numpy") as file:
                self._held = {name: _floats(name, file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
            raise ModelRefused(f"The model's weights cannot be read: {error}") from error
        known = "embeddings.word_embeddings.weight"
        self._prefix = next((prefix for prefix in PREFIXES if prefix + known in self._held), "")

    def take(self, name: str) -> Floats:
        try:
            return self._held.pop(self._prefix + name)
        except KeyError as error:
            raise ModelRefused(f"The model's weights lack {name}.") from error

    def take_linear(self, name: str) -> tuple[Floats, Floats]:
        return np.ascontiguousarray(self.take(f"{name}.weight").T), self.take(f"{name}.bias")

    def take_norm(self, name: str) -> tuple[Floats, Floats]:
        return self.take(f"{name}.weight"), self.take(f"{name}.bias")


def _floats(name: str, tensor: npt.NDArray[Any]) -> Floats:
    if name.endswith("position_ids"):
        return np.zeros(0, dtype=np.float32)
    if tensor.dtype not in {np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.float64)}:
        raise ModelRefused(f"The model's weights are of type {tensor.dtype}, which cannot be run here.")
    return np.asarray(tensor, dtype=np.float32)


def _linear(values: Floats, layer: tuple[Floats, Floats]) -> Floats:
    found: Floats = values @ layer[0]
    found += layer[1]
    return found


def _normed(values: Floats, norm: tuple[Floats, Floats], epsilon: np.float32) -> Floats:
    values = values - values.mean(axis=-1, keepdims=True)
    spread = np.sqrt((values * values).mean(axis=-1, keepdims=True) + epsilon)
    found: Floats = values / spread * norm[0] + norm[1]
    return found


def _activation(name: str) -> Callable[[Floats], Floats]:
    known = {"gelu": _gelu, "gelu_new": _gelu_by_tanh, "gelu_pytorch_tanh": _gelu_by_tanh, "relu": _relu}
    if name not in known:
        raise ModelRefused(f"The activation {name[:40]!a} is not known here.")
    return known[name]


def _gelu(values: Floats) -> Floats:
    """With erf by Abramowitz and Stegun 7.1.26: off by 1.5e-7 at most, about what float32 can tell."""
    size = np.abs(values) * np.float32(0.5**0.5)
    part = 1 / (1 + np.float32(0.3275911) * size)
    line = np.float32(1.061405429) * part
    for weight in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        line += np.float32(weight)
        line *= part
    line *= np.exp(-size * size)
    found: Floats = values * np.float32(0.5) * (1 + np.copysign(1 - line, values))
    return found


def _gelu_by_tanh(values: Floats) -> Floats:
    inner = np.float32((2 / np.pi) ** 0.5) * (values + np.float32(0.044715) * values**3)
    found: Floats = values * np.float32(0.5) * (1 + np.tanh(inner))
    return found


def _relu(values: Floats) -> Floats:
    return np.maximum(values, np.float32(0))


def _pooling(name: str) -> Callable[[Floats, Floats], Floats]:
    known = {"mean": _mean, "cls": _first, "max": _most, "mean_sqrt_len": _mean_of_root}
    if name not in known:
        raise ModelRefused(f"The pooling {name[:40]!a} is not known here.")
    return known[name]


def _mean(state: Floats, mask: Floats) -> Floats:
    found: Floats = (state * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    return found


def _mean_of_root(state: Floats, mask: Floats) -> Floats:
    found: Floats = (state * mask[:, :, None]).sum(axis=1) / np.sqrt(mask.sum(axis=1, keepdims=True))
    return found


def _first(state: Floats, _mask: Floats) -> Floats:
    return state[:, 0].copy()


def _most(state: Floats, mask: Floats) -> Floats:
    found: Floats = (state + (1 - mask)[:, :, None] * MASKED).max(axis=1)
    return found


def _read_modules(folder: Path) -> tuple[Path, str, bool, int]:
    """The encoder's folder, the pooling, whether the model normalises, how many tokens it takes."""
    if not (folder / "modules.json").is_file():
        return folder, "mean", False, _tokens_of(folder)
    body, pooling, is_normalised = folder, "mean", False
    for module in _read_json(folder / "modules.json", list):
        kind = str(module.get("type", "")).rpartition(".")[2]
        path = _inside(folder, str(module.get("path", "")))
        if kind == "Transformer":
            body = path
        elif kind == "Pooling":
            pooling = _pooling_in(_read_json(path / "config.json"))
        elif kind == "Normalize":
            is_normalised = True
        else:
            raise ModelRefused(f"The model's part {kind[:40]!a} is not known here.")
    return body, pooling, is_normalised, _tokens_of(body)


def _pooling_in(config: dict[str, Any]) -> str:
    if isinstance(config.get("pooling_mode"), str):
        return str(config["pooling_mode"])
    names = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    }
    chosen = [
        names.get(name, name) for name, value in config.items() if value is True and "pooling_mode" in name
    ]
    if len(chosen) != 1:
        raise ModelRefused(f"The model pools in {len(chosen)} ways at once, which is not known here.")
    return chosen[0]


def _tokens_of(folder: Path) -> int:
    path = folder / "sentence_bert_config.json"
    most = _read_json(path).get("max_seq_length") if path.is_file() else None
    return int(most or TOKENS_USUAL)


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ModelRefused("A part of the model lies outside of its folder.")
    return path


def _read_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelRefused("The model folder has no tokenizer.json.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ModelRefused(f"The model's tokenizer cannot be read: {error}") from error
    tokenizer.no_padding()
    return tokenizer


def _read_json(path: Path, kind: type = dict) -> Any:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(JSON_MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelRefused(f"The model's {path.name} cannot be read: {error}") from error
    if not isinstance(found, kind):
        raise ModelRefused(f"The model's {path.name} is not what it should be.")
    return found
