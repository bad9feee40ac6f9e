"""Finding held-out rows that a model has seen in training: the same text, or nearly the same.

Rows are compared by what a user wrote (all turns but the last answer), because a model that learned the question has
seen the row whatever answer stood beside it. Texts are nearly the same when the Jaccard similarity of their sets of
character 5-grams is at least 0.8. MinHash only finds pairs worth comparing; what counts is the similarity itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import rensa

SIMILARITY = 0.8
NGRAM = 5
# 24 bands of 5 hashes: a pair at the threshold is found with probability 1 - (1 - 0.8^5)^24 > 0.9999.
BANDS, HASHES, SEED = 24, 120, 42
ROWS_PER_BATCH = 2_000


def asked(messages: Sequence[dict[str, Any]]) -> str:
    """Return what a conversation asks: every text in front of the last answer, one line, lower case.

    A system message is no part of it: many rows share a long one, and would seem to ask the same.
    """
    turns = messages[:-1] if messages and messages[-1]["role"] == "assistant" else messages
    said = (str(turn["content"]) for turn in turns if turn["role"] != "system")
    return " ".join(" ".join(said).casefold().split())


def shingles(text: str) -> set[str]:
    """Return the character 5-grams of a text; a shorter text is its only one."""
    return {text[start : start + NGRAM] for start in range(max(1, len(text) - NGRAM + 1))}


def similarity(one: set[str], other: set[str]) -> float:
    """Return the Jaccard similarity of two sets, from 0 to 1."""
    return len(one & other) / len(one | other)


class HeldOut:
    """Held-out texts by digest, from which those that training rows resemble are taken away.

    Memory grows with the held-out texts alone: training rows stream past.
    """

    def __init__(self, texts: dict[str, str]) -> None:
        self._digests = list(texts)
        self._shingles = [shingles(text) for text in texts.values()]
        self._index = rensa.RMinHashLSH(threshold=SIMILARITY, num_perm=HASHES, num_bands=BANDS)
        for number, minhash in enumerate(_minhashes(self._shingles)):
            self._index.insert(number, minhash)
        self._numbers = {digest: number for number, digest in enumerate(self._digests)}
        self.seen: dict[str, str] = {}

    def take_away(self, trained: Iterable[tuple[str, str]]) -> None:
        """Note in `seen` every held-out row that one of the training rows (digest, text) equals or resembles."""
        for batch in _batches(trained):
            for digest, _ in batch:
                if digest in self._numbers:
                    self.seen.setdefault(digest, digest)
            sets = [shingles(text) for _, text in batch]
            for (digest, _), found, own in zip(batch, self._candidates(sets), sets, strict=True):
                for number in found:
                    held_out = self._digests[number]
                    if held_out not in self.seen and similarity(self._shingles[number], own) >= SIMILARITY:
                        self.seen[held_out] = digest

    def _candidates(self, sets: list[set[str]]) -> Iterator[list[int]]:
        for minhash in _minhashes(sets):
            yield self._index.query(minhash)


def asked_of(table: pa.Table) -> Iterator[tuple[str, str]]:
    """Return (digest, what it asks) of each row of a table of examples."""
    for batch in table.select(["digest", "messages"]).to_batches(max_chunksize=ROWS_PER_BATCH):
        for digest, messages in zip(batch["digest"].to_pylist(), batch["messages"].to_pylist(), strict=True):
            yield digest, asked(messages)


def _minhashes(sets: list[set[str]]) -> list[Any]:
    return list(rensa.RMinHash.from_token_sets([sorted(tokens) for tokens in sets], num_perm=HASHES, seed=SEED))


def _batches(rows: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_PER_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
