"""A model folder as sentence-transformers writes it, with a vocabulary of some words and drawn weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = [
    "cat",
    "kitten",
    "dog",
    "puppy",
    "sits",
    "sleeps",
    "runs",
    "on",
    "the",
    "mat",
    "in",
    "park",
    "revenue",
    "grew",
    "by",
    "percent",
    "quarterly",
    "a",
]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
SIZE, WIDE, HEADS, LAYERS, TOKENS = 16, 32, 4, 2, 24


def make(
    folder: Path,
    *,
    kind="bert",
    pooling="mean",
    normalise=True,
    act="gelu",
    prefix="",
    dtype=np.float32,
    **config,
) -> Path:
    (folder / "1_Pooling").mkdir(parents=True)
    words = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=8)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(
        {name: each.astype(dtype) for name, each in weights(len(words), prefix).items()},
        folder / "model.safetensors",
    )
    about = {
        "model_type": kind, "hidden_size": SIZE, "intermediate_size": WIDE, "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS, "hidden_act": act, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "vocab_size": len(words), "max_position_embeddings": TOKENS, "type_vocab_size": 2, **config,
    }  # fmt: skip
    modes = {f"pooling_mode_{name}": False for name in ("cls_token", "mean_tokens", "max_tokens")}
    modes[
        {
            "mean": "pooling_mode_mean_tokens",
            "cls": "pooling_mode_cls_token",
            "max": "pooling_mode_max_tokens",
        }[pooling]
    ] = True
    modules = [
        ("", "Transformer"),
        ("1_Pooling", "Pooling"),
        *([("2_Normalize", "Normalize")] if normalise else []),
    ]
    write(folder / "config.json", about)
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": SIZE, **modes})
    write(folder / "sentence_bert_config.json", {"max_seq_length": 20})
    write(
        folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{name}"}
            for number, (path, name) in enumerate(modules)
        ],
    )
    return folder


def weights(vocabulary: int, prefix: str = "") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.5, shape)

    found = {
        "embeddings.word_embeddings.weight": draw(vocabulary, SIZE),
        "embeddings.position_embeddings.weight": draw(TOKENS, SIZE),
        "embeddings.token_type_embeddings.weight": draw(2, SIZE),
        "embeddings.LayerNorm.weight": 1 + draw(SIZE) / 5,
        "embeddings.LayerNorm.bias": draw(SIZE) / 5,
    }
    for number in range(LAYERS):
        at = f"encoder.layer.{number}."
        for name, out, into in (
            ("attention.self.query", SIZE, SIZE),
            ("attention.self.key", SIZE, SIZE),
            ("attention.self.value", SIZE, SIZE),
            ("attention.output.dense", SIZE, SIZE),
            ("intermediate.dense", WIDE, SIZE),
            ("output.dense", SIZE, WIDE),
        ):
            found[f"{at}{name}.weight"], found[f"{at}{name}.bias"] = draw(out, into), draw(out)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            found[f"{at}{name}.weight"], found[f"{at}{name}.bias"] = 1 + draw(SIZE) / 5, draw(SIZE) / 5
    return {prefix + name: np.ascontiguousarray(each.astype(np.float32)) for name, each in found.items()}


def write(path: Path, document: object) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")
