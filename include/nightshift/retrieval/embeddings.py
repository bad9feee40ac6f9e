"""Embeddings for retrieval: word vectors from a package, or an embedding model, here or at an endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import wordllama
from numpy.typing import NDArray
from upath import UPath
from wordllama import WordLlama

from nightshift.settings.retrieval import WORDLLAMA, Embedder

if TYPE_CHECKING:
    from nightshift.retrieval.kept_vectors import KeptVectors

DIMENSIONS = 256  # of word vectors
AT_ONCE = 256  # texts whose tokens are held


class TextEmbedder(Protocol):
    """Embeds texts. The vector of a text does not depend on the others, to the last bit except at endpoints."""

    dimensions: int

    def embed(self, texts: Sequence[str], *, question: bool = False) -> NDArray[np.float32]:
        """Return a unit vector for each text, shape (texts, dimensions); zeros for a text without known words."""


def made_by(settings: Embedder) -> str | dict[str, Any]:
    """Return the identity of an embedder, as an index's manifest keeps it: all that determines its vectors.

    :raises BadInput: the model is missing, or is not a supported sentence embedding model.
    :raises BadEnvironment: it cannot be fetched.
    """
    if settings.endpoint:
        from nightshift.retrieval.endpoint_embedder import endpoint_identity

        return endpoint_identity(settings)
    if settings.model == WORDLLAMA:
        return f"{WORDLLAMA}-{DIMENSIONS}"
    from nightshift.retrieval.sentence_model import identity

    return identity(settings)


def embedder_of(
    identity: str | dict[str, Any],
    home: UPath,
    endpoints: Sequence[Embedder] = (),
    kept: KeptVectors | None = None,
    places: Sequence[str] = (),
) -> TextEmbedder:
    """Return the embedder with an identity from :func:`made_by`.

    :param home: the application's folder.
    :param endpoints: of the application's file.
    :param kept: kept vectors of an endpoint.
    :param places: ids, URIs or folders that may have a local model.
    :raises BadInput: the model is gone, or has changed.
    :raises BadEnvironment: it cannot be fetched.
    """
    if isinstance(identity, str):
        return WordVectors()
    if "url" in identity:
        from nightshift.retrieval.endpoint_embedder import EndpointEmbedder

        return EndpointEmbedder(identity, endpoints, home, kept)
    from nightshift.retrieval.sentence_model import SentenceModel

    return SentenceModel(identity, places)


class WordVectors:
    """The mean of a text's word vectors, whatever its length (WordLlama, whose package ships them; English)."""

    dimensions = DIMENSIONS

    def embed(self, texts: Sequence[str], *, question: bool = False) -> NDArray[np.float32]:
        """Return a unit vector for each text, shape (texts, 256); zeros for a text without known words."""
        model = _word_vectors()
        vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
        for start in range(0, len(texts), AT_ONCE):
            encodings = model.tokenizer.encode_batch(list(texts[start : start + AT_ONCE]), add_special_tokens=False)
            for row, encoded in enumerate(encodings, start):
                if encoded.ids:
                    mean = model.embedding[encoded.ids].mean(axis=0, dtype=np.float32)
                    vectors[row] = mean / max(float(np.linalg.norm(mean)), 1e-9)
        return vectors


@cache
def _word_vectors() -> Any:
    model = WordLlama.load(dim=DIMENSIONS, cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    model.tokenizer.no_padding()
    model.tokenizer.no_truncation()
    return model
