"""Vectors of texts of any length, offline: the mean of their tokens' vectors (WordLlama, whose package ships them; English)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import wordllama
from wordllama import WordLlama

DIMENSIONS = 256
AT_ONCE = 256  # texts whose tokens are held
EMBEDDER = f"wordllama-{DIMENSIONS}"

Vectors = np.ndarray[Any, np.dtype[np.float32]]


@cache
def _model() -> Any:
    model = WordLlama.load(dim=DIMENSIONS, cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    model.tokenizer.no_padding()
    model.tokenizer.no_truncation()
    return model


def embed(texts: Sequence[str]) -> Vectors:
    """Return a unit vector for each text, shape (texts, 256); zeros where nothing is known of it.

    That of a text does not depend on the others, to the last bit.
    """
    model = _model()
    vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
    for start in range(0, len(texts), AT_ONCE):
        encodings = model.tokenizer.encode_batch(list(texts[start : start + AT_ONCE]), add_special_tokens=False)
        for row, encoded in enumerate(encodings, start):
            if encoded.ids:
                mean = model.embedding[encoded.ids].mean(axis=0, dtype=np.float32)
                vectors[row] = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return vectors
