"""Differences between groups with 95 % intervals, each by a method that also holds for few rows and for shares near 0."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from scipy.stats import t

LEVEL = 0.95
NORMAL = NormalDist()
Z = NORMAL.inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True)
class Difference:
    """A difference with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Sums:
    """What a mean and its spread follow from: rows, their sum, and the sum of their squares."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.n + other.n, self.total + other.total, self.squares + other.squares)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.n - other.n, self.total - other.total, self.squares - other.squares)

    @property
    def mean(self) -> float:
        """Mean; 0 of no rows."""
        return self.total / self.n if self.n else 0.0

    @property
    def variance(self) -> float:
        """Variance of the sample (n - 1), never negative."""
        return max(self.squares - self.n * self.mean**2, 0.0) / (self.n - 1) if self.n > 1 else 0.0


def sums_of(values: Sequence[float]) -> Sums:
    """Return the sums of some values."""
    return Sums(len(values), math.fsum(values), math.fsum(value * value for value in values))


def wilson(hits: float, n: int) -> Difference:
    """Return a share with its score interval (Wilson 1927)."""
    share, square = hits / n, Z * Z / n
    middle = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    return Difference(share, max(0.0, middle - half), min(1.0, middle + half))


def mean_of(sums: Sums, *, share: bool) -> Difference:
    """Return the mean of a group; `share` says that its values are 0 and 1."""
    if share:
        return wilson(sums.total, sums.n)
    half = _t(sums.n - 1) * math.sqrt(sums.variance / sums.n) if sums.n > 1 else math.inf
    return Difference(sums.mean, sums.mean - half, sums.mean + half)


def share_difference(one: Sums, other: Sums) -> Difference:
    """Return the difference of two independent shares: hybrid score interval (Newcombe 1998, method 10)."""
    a, b = wilson(one.total, one.n), wilson(other.total, other.n)
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Difference(value, low, high)


def mean_difference(one: Sums, other: Sums) -> Difference:
    """Return the difference of two independent means: Welch's interval (1947)."""
    parts = [one.variance / one.n, other.variance / other.n]
    value, error = one.mean - other.mean, math.sqrt(sum(parts))
    if error == 0:
        return Difference(value, value, value)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / max(one.n - 1, 1) + parts[1] ** 2 / max(other.n - 1, 1))
    half = _t(freedom) * error
    return Difference(value, value - half, value + half)


def paired_difference(differences: Sequence[float]) -> Difference:
    """Return the mean of paired differences: Student's interval."""
    return mean_of(sums_of(differences), share=False)


def paired_share_difference(up: int, down: int, n: int) -> Difference:
    """Return (up - down) / n of n pairs, of which `up` changed from 0 to 1 and `down` from 1 to 0.

    Wald's interval after half a pair was added to each of the four cells (Agresti and Min 2005): it has a width
    where no pair changed, too.
    """
    ups, downs, pairs = up + 0.5, down + 0.5, n + 2
    middle = (ups - downs) / pairs
    half = Z * math.sqrt(ups + downs - (ups - downs) ** 2 / pairs) / pairs
    value = (up - down) / n
    return Difference(value, min(value, middle - half), max(value, middle + half))


def beyond(difference: Difference, bound: float) -> float:
    """Return the p-value of "the true difference lies within ± bound", as the difference's own interval implies it.

    It is below 0.025 exactly when the whole 95 % interval lies beyond the bound: the side that faces the bound is
    taken for 1.96 standard errors of a normal distribution.
    """
    size = abs(difference.value)
    reach = difference.value - difference.low if difference.value > 0 else difference.high - difference.value
    error = reach / Z
    if error <= 0:
        return 0.0 if size > bound else 1.0
    return NORMAL.cdf((bound - size) / error)


def _t(freedom: float) -> float:
    return float(t.ppf((1 + LEVEL) / 2, freedom))
