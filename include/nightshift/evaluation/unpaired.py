"""Bounds on the difference of the means of two independent samples of scores.

Each mean has bounds as in `paired.py`: quantiles of a Bayesian bootstrap with one more unit, at the worst value that a score
can have. The difference is bounded by a quantile of the lower end of the one less the upper end of the other, drawn
independently (Fay, Proschan and Brittain 2015, "Combining one-sample confidence procedures for inference in the two-sample
case"). For scores of 0 and 1 that is Fisher's exact test. A unit is a subject with all its rows, and is in one sample only.
"""

from __future__ import annotations

import numpy as np

from nightshift.evaluation.paired import DRAWS, SEED, Difference, Kinds, drawn


def difference_of(new: Kinds, old: Kinds, level: float, draws: int = DRAWS) -> Difference:
    """Return the mean of `new` minus that of `old`, and its bounds. Scores are between 0 and 1.

    :param level: probability that the difference lies below the lower bound, and that it lies above the upper one.
    """
    generator = np.random.default_rng(SEED)
    means, ends = [], []
    for kinds in (new, old):
        total, weight, added = drawn(kinds, generator, draws)
        ends.append((total / (weight + added), (total + added) / (weight + added)))
        means.append(float(kinds.counts @ kinds.sums / (kinds.counts @ kinds.sizes)))
    (new_low, new_high), (old_low, old_high) = ends
    return Difference(
        means[0] - means[1],
        float(np.quantile(new_low - old_high, level)),
        float(np.quantile(new_high - old_low, 1 - level)),
    )
