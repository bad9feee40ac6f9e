"""How alike an answer and the reference are in meaning: the cosine of their sentence embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nightshift.data.measures import UNDETERMINED
from nightshift.evaluation.heads import LANGUAGES
from nightshift.evaluation.sentence_embeddings import SentenceEmbedder

AT_ONCE = 2_000  # pairs whose embeddings are held


def similarities(answers: Sequence[str], references: Sequence[str], languages: Sequence[str]) -> list[float | None]:
    """Return the similarity of each pair, between 0 and 1; None where the embedder does not know the language of the row.

    An empty answer is similar to nothing. The beginnings of texts are compared, as far as the embedder reads.

    :raises BadEnvironment: the embedder's network does not load.
    """
    embedder = SentenceEmbedder()
    found: list[float | None] = []
    for start in range(0, len(answers), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        left, right = embedder.embed(list(answers[part])), embedder.embed(list(references[part]))
        cosines = np.clip(np.einsum("rd,rd->r", left, right), 0, 1)
        known = [language in {*LANGUAGES, UNDETERMINED} for language in languages[part]]
        texts = [bool(text.strip()) for text in answers[part]]
        found += [
            (float(cosine) if text else 0.0) if told else None
            for cosine, text, told in zip(cosines, texts, known, strict=True)
        ]
    return found
