"""Searches an index: by BM25, by vectors, or by both, fused by reciprocal rank.

All searches are exact. Memory depends on the number of questions, not of passages. Scores of different searches are not
comparable, and a hybrid score only reflects ranks; so each passage also has a relevance.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from upath import UPath

from nightshift.data.similarity import connect
from nightshift.data.words import words
from nightshift.retrieval.embeddings import TextEmbedder, embedder_of
from nightshift.retrieval.index import CHUNKS, POSTINGS, VECTORS, read_vectors, searched
from nightshift.retrieval.postings import Postings, Ranking, highest
from nightshift.settings.retrieval import Embedder, SearchBy
from nightshift.storage.manifest import Manifest
from nightshift.storage.partition import fetch

if TYPE_CHECKING:
    from nightshift.retrieval.kept_vectors import KeptVectors
    from nightshift.retrieval.sentence_model import PassageReranker
    from nightshift.retrieval.vector_table import VectorTable

RANK_CONSTANT = 60  # of reciprocal rank fusion (Cormack, Clarke and Büttcher 2009)
DEPTH = 100  # of each ranking, at least, that is fused
QUESTIONS_AT_ONCE = 64
EMBEDDED_AT_ONCE = 64 * QUESTIONS_AT_ONCE  # questions: an endpoint takes many requests together
VECTORS_AT_ONCE = 1 << 16  # 64 MB as float32


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document. `id` is equal in all indexes with the same version of the document.

    :param score: of the search that found it, for ordering only.
    :param relevance: to the question, 0 to 1, independent of the search: :func:`relevance`.
    """

    id: str
    document: str
    text: str
    score: float
    title: str
    relevance: float


class Index:
    """A published index, its files in a local folder."""

    def __init__(
        self,
        folder: Path,
        passages: int,
        embedder: TextEmbedder,
        reranker: PassageReranker | None = None,
        table: VectorTable | None = None,
    ) -> None:
        self._folder, self._passages, self._table = folder, passages, table
        self._embedder, self._reranker = embedder, reranker
        self._postings = Postings(folder / POSTINGS, passages)

    @classmethod
    def open(
        cls,
        partition: UPath,
        manifest: Manifest,
        folder: Path,
        endpoints: Sequence[Embedder] = (),
        database: str | None = None,
        *,
        models: Mapping[str, str] | None = None,
        kept: KeptVectors | None = None,
    ) -> Index:
        """Open an index; remote files are copied to `folder`.

        :param endpoints: of the application's file.
        :param database: connection of the vector database; None: vectors are searched in their file.
        :param models: current places of its models, as `Retrieval.models` has them, if they moved.
        :param kept: kept vectors of questions from an endpoint.
        :raises BadInput: a file of it is gone or damaged, or a model has changed since.
        :raises BadEnvironment: storage cannot be read, or a model not fetched.
        """
        files = (CHUNKS, POSTINGS) if database else (CHUNKS, POSTINGS, VECTORS)
        paths = [fetch(partition, manifest, name, folder) for name in files]
        home, reranker = partition.parent.parent, None
        # Older indexes keep the places of their models in their inputs.
        inputs = {name: of["model"] for name, of in manifest.inputs.items() if isinstance(of, dict) and "model" in of}
        named = (inputs, manifest.facts.get("models", {}), models or {})
        places = {name: [of[name] for of in named if name in of] for name in ("embedder", "reranker")}
        embedder = embedder_of(manifest.inputs["embedder"], home, endpoints, kept, places["embedder"])
        if "reranker" in manifest.inputs:
            from nightshift.retrieval.sentence_model import PassageReranker

            reranker = PassageReranker(manifest.inputs["reranker"], places["reranker"])
        table = None
        if database:
            from nightshift.retrieval.vector_table import VectorTable

            table = VectorTable(database, manifest)
            table.fill(partition, folder)
        return cls(Path(paths[0]).parent, manifest.counts["chunks"], embedder, reranker, table)

    def retrieve(self, questions: Sequence[str], k: int, search: SearchBy = "hybrid") -> list[list[Passage]]:
        """Return the best `k` passages for each question, best first, with the score of the search or of the reranker.

        A search by words returns fewer if fewer passages have a word of the question.
        """
        found: list[list[Passage]] = []
        wanted, k = k, max(k, self._reranker.candidates) if self._reranker else k
        for start in range(0, len(questions), QUESTIONS_AT_ONCE):
            if start % EMBEDDED_AT_ONCE == 0:
                embedded = self._embedder.embed(questions[start : start + EMBEDDED_AT_ONCE], question=True)
            some = questions[start : start + QUESTIONS_AT_ONCE]
            vectors = embedded[start % EMBEDDED_AT_ONCE :][: len(some)]
            if search == "bm25":
                rankings = self._postings.best([set(words(question)) for question in some], k)
            elif search == "vectors":
                rankings = self._by_vectors(vectors, k)
            else:
                depth = max(DEPTH, k)
                by_words = self._postings.best([set(words(question)) for question in some], depth)
                rankings = [fused(pair)[:k] for pair in zip(by_words, self._by_vectors(vectors, depth), strict=True)]
            found += self._passages_of(rankings, some, vectors)
        if self._reranker:
            found = [_reranked(self._reranker, *pair) for pair in zip(questions, found, strict=True)]
        return [passages[:wanted] for passages in found]

    def _by_vectors(self, wanted: NDArray[np.float32], k: int) -> list[Ranking]:
        rankings = self._table.nearest(wanted, k) if self._table else self._nearest(wanted, k)
        # Questions without a vector (refused by an endpoint, or without known words) have no near passages.
        return [ranking if vector.any() else [] for ranking, vector in zip(rankings, wanted, strict=True)]

    def _nearest(self, wanted: NDArray[np.float32], k: int) -> list[Ranking]:
        best = np.empty((len(wanted), 0), np.float32)
        numbers = np.empty((len(wanted), 0), np.int64)
        for start in range(0, self._passages, VECTORS_AT_ONCE):
            count = min(VECTORS_AT_ONCE, self._passages - start)
            best = np.hstack([best, wanted @ self._vectors(start, count).T])
            numbers = np.hstack([numbers, np.broadcast_to(np.arange(start, start + count), (len(wanted), count))])
            order = np.array([highest(row, k) for row in best])
            best, numbers = np.take_along_axis(best, order, 1), np.take_along_axis(numbers, order, 1)
        pairs = zip(numbers.tolist(), best.tolist(), strict=True)
        return [list(zip(*pair, strict=True)) for pair in pairs]

    def _vectors(self, first: int, count: int) -> NDArray[np.float32]:
        vectors = read_vectors(self._folder / VECTORS, self._embedder.dimensions, first, count)
        return vectors.astype(np.float32)

    def _passages_of(
        self, rankings: list[Ranking], questions: Sequence[str], vectors: NDArray[np.float32]
    ) -> list[list[Passage]]:
        wanted = sorted({chunk for ranking in rankings for chunk, _ in ranking})
        if not wanted:
            return [[] for _ in rankings]
        asked = [sorted(set(words(question))) for question in questions]
        with tempfile.TemporaryDirectory() as spill, connect(Path(spill)) as database:
            rows = database.execute(
                "SELECT chunk, document || '#' || begin_at || '-' || end_at, document, text, title "  # noqa: S608
                f"FROM read_parquet(?) WHERE chunk IN ({_marks(wanted)})",
                [str(self._folder / CHUNKS), *wanted],
            ).fetchall()
        weights = self._postings.weights({word for one in asked for word in one})
        known = {row[0]: row[1:] for row in rows}
        held = {row[0]: frozenset(words(searched(row[4], row[3]))) for row in rows}
        of_passages = (
            self._table.vectors(wanted) if self._table else {chunk: self._vectors(chunk, 1)[0] for chunk in wanted}
        )
        found: list[list[Passage]] = []
        for ranking, some, vector in zip(rankings, asked, vectors, strict=True):
            weighted = {word: weights[word] for word in some}
            found.append([
                Passage(id=known[chunk][0], document=known[chunk][1], text=known[chunk][2], score=score,
                        title=known[chunk][3],
                        relevance=relevance(weighted, held[chunk], float(vector @ of_passages[chunk])))
                for chunk, score in ranking
            ])  # fmt: skip
        return found


def relevance(asked: Mapping[str, float], held: Collection[str], cosine: float) -> float:
    """Return the relevance of a passage to a question, 0 to 1: the mean of two measures with different weaknesses.

    One is the weighted share of the question's words that the passage has, the other the cosine of both vectors.

    :param asked: the weights of the question's words.
    :param held: the words of the passage.
    """
    total = sum(asked.values())
    share = sum(weight for word, weight in asked.items() if word in held) / total if total else 0.0
    return round((share + min(max(cosine, 0.0), 1.0)) / 2, 6)


def _reranked(reranker: PassageReranker, question: str, passages: Sequence[Passage]) -> list[Passage]:
    scores = reranker.scores(question, [searched(one.title, one.text) for one in passages])
    scored = [replace(one, score=score) for one, score in zip(passages, scores, strict=True)]
    return sorted(scored, key=lambda one: -one.score)


def fused(rankings: Sequence[Ranking]) -> Ranking:
    """Return the fusion of several rankings, best first: the score is the sum of 1 / (60 + rank)."""
    scores: defaultdict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, (number, _) in enumerate(ranking, 1):
            scores[number] += 1 / (RANK_CONSTANT + rank)
    return sorted(scores.items(), key=lambda one: (-one[1], one[0]))


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
