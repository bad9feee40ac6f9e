"""Sentence embeddings on the CPU, offline, by all-MiniLM-L6-v2, with its vocabulary (BERT's, uncased English) in this folder.

Each processor of the job runs batches of its own, since one batch is too small to share. The texts of a batch have equal
length, so that none is padded. Batches, and so the vectors, depend on the texts alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from nightshift.data.processors import processors
from nightshift.evaluation.minilm import DIMENSIONS, MiniLm
from nightshift.settings.policies import Precision

MOST_TOKENS = 62  # of a text that are embedded (about 45 English words); two more open and close it
MOST_CHARACTERS = 1_000  # of a text that are read; so many tokens rarely hold more
BATCH_TOKENS = 1_024  # of one call: larger ones leave the processor's cache and are slower
VOCABULARY = Path(__file__).parent / "minilm_vocabulary.txt"

Vectors = np.ndarray[Any, np.dtype[np.float32]]


class SentenceEmbedder:
    """The network and its tokenizer, loaded once.

    :param precision: of the network's arithmetic.
    :raises BadEnvironment: the network does not load.
    """

    def __init__(self, precision: Precision = "float32") -> None:
        vocabulary = models.WordPiece.read_file(str(VOCABULARY))
        self._tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106  (a word of the vocabulary)
        self._tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._opening, self._closing = vocabulary["[CLS]"], vocabulary["[SEP]"]
        self._network = MiniLm(precision)

    def embed(self, texts: list[str]) -> Vectors:
        """Return one unit vector for the beginning (`MOST_TOKENS`) of each text, shape (texts, 384)."""
        shortened = [text[:MOST_CHARACTERS] for text in texts]
        encodings = self._tokenizer.encode_batch_fast(shortened, add_special_tokens=False)
        tokens = [[self._opening, *encoding.ids[:MOST_TOKENS], self._closing] for encoding in encodings]
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)

        def embed(rows: list[int]) -> None:
            vectors[rows] = self._embed([tokens[row] for row in rows])

        # Each thread computes alone. The setting also affects threads that start later, so it is restored.
        before = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(processors(), initializer=torch.set_num_threads, initargs=(1,)) as threads:
                for _ in threads.map(embed, _batches(tokens)):
                    pass
        finally:
            torch.set_num_threads(before)
        return vectors

    @torch.inference_mode()
    def _embed(self, texts: list[list[int]]) -> Vectors:
        """Mean of the token vectors, scaled to length 1."""
        hidden = self._network(torch.tensor(texts))
        mean = hidden.mean(1, dtype=torch.float32)
        return np.asarray(torch.nn.functional.normalize(mean).numpy(), np.float32)


def _batches(texts: list[list[int]]) -> Iterator[list[int]]:
    """Rows of texts of one length, `BATCH_TOKENS` at most."""
    by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for length, rows in groupby(by_length, key=lambda row: len(texts[row])):
        alike, at_once = list(rows), BATCH_TOKENS // length
        yield from (alike[start : start + at_once] for start in range(0, len(alike), at_once))
