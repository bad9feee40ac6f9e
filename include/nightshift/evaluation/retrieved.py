"""Retrieval metrics: recall and ranks of relevant documents, for examples that name them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from typing import Any

from nightshift.evaluation.estimates import Comparison
from nightshift.evaluation.scores import add_measured
from nightshift.retrieval.metrics import ndcg_at, recall_at, reciprocal_rank


def relevant_in(value: str | None) -> frozenset[str]:
    """Return the ids in a value of metadata: one, or a JSON list of them; empty if the value is empty."""
    text = (value or "").strip()
    if text.startswith("["):
        try:
            return frozenset(str(one) for one in json.loads(text) if one)
        except (ValueError, RecursionError):
            pass
    return frozenset([text] if text else ())


def is_relevant(passage: Mapping[str, Any], relevant: Set[str]) -> bool:
    """Whether a passage, or its document, is relevant."""
    return passage["id"] in relevant or passage["document"] in relevant


def ranked_well(found: Sequence[Mapping[str, Any]], relevant: Set[str], k: int) -> dict[str, float]:
    """Return recall, reciprocal rank and nDCG at `k` of passages, best first, by the names of their means.

    :param relevant: ids of documents or passages, at least one.
    """
    # Several passages of a document count once.
    ranking = list(dict.fromkeys(one["id"] if one["id"] in relevant else one["document"] for one in found))
    values = {
        "retrieval_recall": recall_at(k, ranking, relevant),
        "retrieval_mrr": reciprocal_rank(ranking[:k], relevant),
        "retrieval_ndcg": ndcg_at(k, ranking, relevant),
    }
    return {name: value or 0.0 for name, value in values.items()}


def add_retrieval(
    comparison: Comparison,
    relevant: Sequence[Set[str]],
    retrieved: Mapping[str, Sequence[Sequence[Mapping[str, Any]] | None]],
    k: int,
) -> None:
    """Add recall, MRR and nDCG at `k` of each model, over the examples whose relevant ids are known.

    :param relevant: relevant ids of documents or passages, of each example.
    :param retrieved: the passages, best first, by role, of the same examples. None: a version without an index finds nothing.
    :param k: passages that the candidate is given, at most.
    """
    known = [place for place, ids in enumerate(relevant) if ids]
    if not known:
        return
    comparison.with_documents = len(known)
    measured: dict[str, dict[str, list[float]]] = {}
    for role, found in retrieved.items():
        for place in known:
            for metric, value in ranked_well(found[place] or (), relevant[place], k).items():
                measured.setdefault(metric, {}).setdefault(role, []).append(value)
    for metric, by_role in measured.items():
        add_measured(comparison, metric, by_role)
