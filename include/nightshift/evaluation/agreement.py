"""How far a judge's scores agree with known labels: exact match with a reference, or people's reviews."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel

MIN_ROWS = 20  # with fewer rows, or fewer than two of a kind, agreement is not measured


class Agreement(BaseModel):
    """Over the rows with both a score and a label.

    `kappa`: Cohen's kappa between score >= 0.5 and the label: 1 is full agreement, 0 what chance alone gives.
    `auc`: the probability that a right response has a higher score than a wrong one, ties counted half.
    Both are None if there is too little data.
    """

    rows: int
    positive: int  # of the labels
    kappa: float | None
    auc: float | None


def agreement(scores: Sequence[float | None], labels: Sequence[float | None]) -> Agreement:
    """Compare scores (0 to 1) with labels (0 or 1), row by row; rows without one of them are left out."""
    known = [(s, t) for s, t in zip(scores, labels, strict=True) if s is not None and t is not None]
    score = np.array([s for s, _ in known])
    label = np.array([t >= 0.5 for _, t in known], bool)
    rows, positive = len(known), int(label.sum())
    if rows < MIN_ROWS or positive < 2 or rows - positive < 2:
        return Agreement(rows=rows, positive=positive, kappa=None, auc=None)
    from sklearn.metrics import cohen_kappa_score, roc_auc_score

    kappa = float(cohen_kappa_score(score >= 0.5, label))
    return Agreement(rows=rows, positive=positive, kappa=kappa, auc=float(roc_auc_score(label, score)))
