"""The postings of an index: the passages of each word, with its contribution to their BM25 scores.

The file is sorted by word, so that a question reads the row groups of its own words. Memory is bounded: a row group, and the
sums of as many questions as fit into `SUMS_AT_ONCE`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SUMS_AT_ONCE = 16_000_000  # of a question and a passage: 128 MB

Ranking = list[tuple[int, float]]  # numbers of passages with their scores, best first


class Postings:
    """The postings of an index."""

    def __init__(self, path: Path, passages: int) -> None:
        self._file, self._passages = pq.ParquetFile(path, read_dictionary=["term"]), passages
        self._found: dict[str, int] = {}  # passages that have a word, of words that were read
        groups = (self._file.metadata.row_group(number).column(0) for number in range(self._file.num_row_groups))
        known = (one.statistics if one.is_stats_set and one.statistics.has_min_max else None for one in groups)
        self._ends = [(one.min, one.max) if one else None for one in known]  # none where a word is very long

    def best(self, questions: Sequence[Collection[str]], k: int) -> list[Ranking]:
        """Return the `k` passages with the highest sums for each question (a set of words); equal ones in order.

        Fewer if fewer have a word of it.
        """
        rankings: list[Ranking] = []
        at_once = max(1, SUMS_AT_ONCE // max(self._passages, 1))
        for start in range(0, len(questions), at_once):
            some = questions[start : start + at_once]
            asking: dict[str, list[int]] = {}
            for number, terms in enumerate(some):
                for term in terms:
                    asking.setdefault(term, []).append(number)
            sums = np.zeros((len(some), self._passages))
            for term, chunks, scores in self._read(asking):
                for number in asking[term]:
                    sums[number, chunks] += scores
            rankings += [_best(one, k) for one in sums]
        return rankings

    def weights(self, terms: Collection[str]) -> dict[str, float]:
        """Return the inverse document frequency of each word as in BM25; a word that no passage has weighs the most."""
        for _ in self._read([term for term in terms if term not in self._found]):
            pass
        return {term: log(1 + (self._passages - self._found[term] + 0.5) / (self._found[term] + 0.5)) for term in terms}

    def _read(self, terms: Iterable[str]) -> Iterator[tuple[str, npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        """Yield each word with its passages' numbers and its contributions to their scores; in parts, if it has many."""
        wanted = sorted(terms)
        found, values = Counter(dict.fromkeys(wanted, 0)), pa.array(wanted, pa.string())
        for group, ends in enumerate(self._ends):
            first = bisect_left(wanted, ends[0]) if ends else 0
            if first == len(wanted) or (ends and wanted[first] > ends[1]):
                continue
            table = self._file.read_row_group(group)
            column = table["term"].combine_chunks()
            places, rows = column.indices.to_numpy(), pc.index_in(column.dictionary, values).to_numpy(False)
            chunks, scores = table["chunk"].to_numpy(), table["score"].to_numpy()
            for place in np.flatnonzero(~np.isnan(rows)):
                begin, end = np.searchsorted(places, [place, place + 1])
                term = wanted[int(rows[place])]
                found[term] += int(end - begin)
                yield term, chunks[begin:end], scores[begin:end]
        self._found.update(found)


def _best(sums: npt.NDArray[np.float64], k: int) -> Ranking:
    chunks = np.flatnonzero(sums)
    scores = np.round(sums[chunks], 6)
    order = highest(scores, k)
    return list(zip(chunks[order].tolist(), scores[order].tolist(), strict=True))


def highest(scores: npt.NDArray[np.floating[Any]], k: int) -> npt.NDArray[np.intp]:
    """Return the indices of the `k` highest scores, the highest first, equal ones in order."""
    places = np.arange(len(scores))
    if len(scores) > k:
        places = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    return places[np.argsort(-scores[places], kind="stable")[:k]]
