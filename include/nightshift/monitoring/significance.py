"""What chance alone does to an effect at these numbers of rows, and how improbable an effect is by chance.

Two finite samples of the same rows differ. How much is found by drawing both anew, at their sizes, from the two
together (the null hypothesis: one distribution gave both; a bootstrap of Efron and Tibshirani, "An introduction to the
bootstrap", 1993, chapter 16). A fixed threshold knows nothing of this: at 300 rows it trips without any drift.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincc, ndtr

from nightshift.monitoring.cells import Counts, Floats
from nightshift.monitoring.effects import jensen_shannon, wasserstein

DRAWS = 400
GROUPS = 64  # into which the values of a numeric column are put together for the draws; more change nothing
_COUNTED = 10  # draws above an effect from which their share is the p-value; with fewer the tail is fitted


@dataclass(frozen=True)
class Chance:
    """Effects that were drawn under the null hypothesis.

    :param dependence: what a p-value is multiplied by, for what is not known of how the effects depend on each other.
    """

    effects: Floats
    dependence: float = 1.0

    @property
    def expected(self) -> float:
        """Root mean square of the effects: the size that chance alone gives."""
        return float(np.sqrt(np.mean(self.effects**2)))

    def excess(self, effect: float) -> float:
        """Return the part of an effect that chance does not explain; squares of independent differences add up."""
        return float(np.sqrt(max(0.0, effect**2 - self.expected**2)))

    def p_value(self, effect: float) -> float:
        """Return the probability of an effect at least so large by chance.

        With ten or more of the draws above it, their share, (above + 1) / (draws + 1), which is never 0 (Phipson and
        Smyth, 2010). With fewer, the tail of a gamma distribution that has the draws' mean, variance and skewness
        (Pearson type III; for permutation tests Kazi-Aoual and others, 1995): hundreds of draws cannot count what a
        correction for twenty metrics asks for. Times `dependence`, 1 at most.
        """
        return min(1.0, self.dependence * self._p_value(effect))

    def _p_value(self, effect: float) -> float:
        above = int((self.effects >= effect * (1 - 1e-12)).sum())
        counted = (above + 1) / (len(self.effects) + 1)
        mean, deviation = float(self.effects.mean()), float(self.effects.std(ddof=1))
        if above >= _COUNTED or deviation == 0:
            return counted
        skewness = float(np.mean(((self.effects - mean) / deviation) ** 3))
        distance = (effect - mean) / deviation
        if skewness < 0.05:  # as good as symmetric
            tail = float(ndtr(-distance))
        else:
            shape = 4 / skewness**2
            tail = float(gammaincc(shape, max(0.0, shape + distance * np.sqrt(shape))))
        return min(max(tail, 1e-12), counted)


def chance_of_numbers(values: Floats, counts: Counts, unit: float, seed: str) -> Chance:
    """Return what chance does to a Wasserstein distance in `unit`s.

    :param values: ascending, k.
    :param counts: of interval and reference, 2 x k, each with rows.
    :param seed: the same text gives the same draws.
    """
    values, pooled = _grouped(values, counts.sum(axis=0))
    return Chance(wasserstein(values, *_draws(pooled, counts.sum(axis=1), seed)) / unit)


def chance_of_categories(counts: Counts, seed: str) -> Chance:
    """Return what chance does to a Jensen-Shannon distance; parameters as above."""
    return Chance(jensen_shannon(*_draws(counts.sum(axis=0), counts.sum(axis=1), seed)))


def mean_of(chances: list[Chance]) -> Chance:
    """Return what chance does to the mean of several effects of the same rows.

    Whether these effects rise and fall together is not known from their histograms. They are taken to do so entirely:
    of all dependences this spreads the mean most, so that `expected` is not too small. Far out it is not the worst one.
    Where effects replace each other in the tail, their mean is as large more often, up to e times: the mean of the
    largest share p of a sum is at most the sum of the parts' (expected shortfall is subadditive), and that of a part is
    at most its quantile at p/e, if the part's hazard rate does not fall, as that of a normal or an exponential
    distribution. So the p-value is e times that of effects that rise together. Where a hazard rate falls, as in a tail
    heavier than an exponential's, this is no bound.
    """
    together = np.mean([np.sort(chance.effects) for chance in chances], axis=0)
    return Chance(together, dependence=float(np.e) if len(chances) > 1 else 1.0)


def q_values(p_values: list[float]) -> list[float]:
    """Return the smallest false discovery rate at which each would be named (Benjamini and Hochberg, 1995).

    It holds for tests that are independent or depend on each other positively (Benjamini and Yekutieli, 2001).
    """
    ordered = np.argsort(p_values)
    scaled = np.array(p_values)[ordered] * len(p_values) / np.arange(1, len(p_values) + 1)
    adjusted = np.empty(len(p_values))
    adjusted[ordered] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
    return adjusted.tolist()


def _grouped(values: Floats, counts: Counts) -> tuple[Floats, Counts]:
    """Return at most GROUPS groups of neighbouring values: their means and counts.

    Groups are narrow where rows are many, and where the cumulative share is uncertain over a long way: both are what
    a Wasserstein distance by chance is made of, so that a long tail is not one group.
    """
    if len(values) <= GROUPS:
        return values, counts
    shares = counts / counts.sum()
    reached = shares.cumsum()
    spread = np.sqrt(np.clip(reached * (1 - reached), 0, None)) * np.diff(values, append=values[-1])
    weight = (shares + spread / max(spread.sum(), 1e-300)).cumsum()
    group = np.minimum((weight / weight[-1] * GROUPS).astype(np.int64), GROUPS - 1)
    totals = np.bincount(group, weights=counts, minlength=GROUPS)
    sums = np.bincount(group, weights=counts * values, minlength=GROUPS)
    kept = totals > 0
    return sums[kept] / totals[kept], totals[kept].astype(np.int64)


def _draws(pooled: Counts, rows: Counts, seed: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return DRAWS samples of the size of either side from their pooled distribution (draws x k each)."""
    random = np.random.Generator(np.random.SFC64(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8])))
    shares = pooled / pooled.sum()
    return random.multinomial(rows[0], shares, DRAWS), random.multinomial(rows[1], shares, DRAWS)
