"""Which texts are nearest? After embeddings.toml: `planetmesh results last --json | python neighbours.py`."""

import json
import sys

import numpy as np

results = json.load(sys.stdin)
texts = [each["input"] for each in results]
vectors = np.array([each["value"]["vector"] for each in results], dtype=np.float32)
alike = vectors @ vectors.T
np.fill_diagonal(alike, -1.0)
for text, nearest, score in zip(texts, alike.argmax(axis=1), alike.max(axis=1), strict=True):
    print(f"{text!r} is nearest to {texts[nearest]!r} ({score:.2f})")
