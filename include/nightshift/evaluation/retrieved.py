"""How many of the documents that should be found a model was given, and at which ranks, where a team knows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from typing import Any

from nightshift.evaluation.estimates import Comparison
from nightshift.evaluation.scores import add_measured
from nightshift.retrieval.metrics import ndcg_at, recall_at, reciprocal_rank


def relevant_in(value: str | None) -> frozenset[str]:
    """Return the ids in a value of metadata: one, or a JSON list of them; none where there is no text."""
    text = (value or "").strip()
    if text.startswith("["):
        try:
            return frozenset(str(one) for one in json.loads(text) if one)
        except (ValueError, RecursionError):
            pass
    return frozenset([text] if text else ())


def add_retrieval(
    comparison: Comparison,
    relevant: Sequence[Set[str]],
    retrieved: Mapping[str, Sequence[Sequence[Mapping[str, Any]] | None]],
    k: int,
) -> None:
    """Add recall, MRR and nDCG at `k` of each model, over the examples of which it is known what should be found.

    :param relevant: ids of documents or passages, of each example.
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
            ids = relevant[place]
            # Several passages of a document are the document once.
            ranking = list(
                dict.fromkeys(one["id"] if one["id"] in ids else one["document"] for one in found[place] or ())
            )
            values = {
                "retrieval_recall": recall_at(k, ranking, ids),
                "retrieval_mrr": reciprocal_rank(ranking[:k], ids),
                "retrieval_ndcg": ndcg_at(k, ranking, ids),
            }
            for metric, value in values.items():
                measured.setdefault(metric, {}).setdefault(role, []).append(value or 0.0)
    for metric, by_role in measured.items():
        add_measured(comparison, metric, by_role)
