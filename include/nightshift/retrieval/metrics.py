"""Retrieval metrics of a ranking: recall@k, reciprocal rank, nDCG@k.

A ranking is ids, best first; `relevant` are the ids that should be found. Over many questions each is averaged: the mean of
reciprocal ranks is MRR. A question without relevant ids has no value (None).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import log2


def recall_at(k: int, ranking: Sequence[str], relevant: Collection[str]) -> float | None:
    """Return the share of relevant ids that are among the first `k`."""
    return len(set(ranking[:k]) & set(relevant)) / len(set(relevant)) if relevant else None


def reciprocal_rank(ranking: Sequence[str], relevant: Collection[str]) -> float | None:
    """Return 1 / rank of the first relevant id, 0 if none was found."""
    if not relevant:
        return None
    return next((1 / rank for rank, one in enumerate(ranking, 1) if one in relevant), 0.0)


def ndcg_at(k: int, ranking: Sequence[str], relevant: Collection[str]) -> float | None:
    """Return the discounted gain of the first `k` over that of the best order (Järvelin and Kekäläinen 2002), gains 0 or 1."""
    if not relevant:
        return None
    first = list(dict.fromkeys(ranking))[:k]
    gain = sum(1 / log2(rank + 1) for rank, one in enumerate(first, 1) if one in relevant)
    return gain / sum(1 / log2(rank + 1) for rank in range(1, min(k, len(set(relevant))) + 1))
