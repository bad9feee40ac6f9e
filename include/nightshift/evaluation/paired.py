"""Non-inferiority tests: bounds on a mean of paired differences, with interim looks.

A bound is the quantile of a Bayesian bootstrap (Rubin 1981) with one more unit than observed, at the worst value that a score
can have. This unit corrects the plain bootstrap: for 50 equal answers it gives the bound of the binomial test instead of a
loss of 0. For scores of 0 and 1 of one model it is the bound of Clopper and Pearson, and for any bounded score that of Gaffke
(2005, "Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative variable").
A unit is a subject with all its rows, as these are not independent.

Several looks spend the level in parts (Lan and DeMets 1983): level · share of the rows², so that early looks spend little.
The boundaries take into account that looks share their rows (Armitage, McPherson and Rowe 1969).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.stats import norm

DRAWS = 20_000
DRAWN_AT_ONCE = 4_000_000  # numbers, 32 MB
SEED = 17
STEPS = 4_000  # of the grid on which boundaries are found, over 8 standard deviations to both sides

Array = np.ndarray[Any, np.dtype[np.float64]]


class Difference(NamedTuple):
    """A mean difference with its lower and upper bound, each at the same level."""

    value: float
    low: float
    high: float


class Kinds(NamedTuple):
    """Units grouped by kind: sum and number of a unit's values, and the number of units of the kind."""

    sums: Array
    sizes: Array
    counts: Array


def kinds_of(values: Sequence[float], units: Sequence[Hashable]) -> Kinds:
    """Group values into kinds of units.

    :param units: the unit of each value; values of one unit are not independent.
    """
    number = {unit: place for place, unit in enumerate(dict.fromkeys(units))}
    of = [number[unit] for unit in units]
    sums = np.bincount(of, np.asarray(values, np.float64))
    sizes = np.bincount(of).astype(np.float64)
    alike, counts = np.unique(np.column_stack([sums, sizes]), axis=0, return_counts=True)
    return Kinds(alike[:, 0], alike[:, 1], counts.astype(np.float64))


def bounds(differences: Sequence[float], units: Sequence[Hashable], level: float) -> Difference:
    """Return the mean of differences between two scores of 0 to 1, and its bounds.

    :param units: the unit of each difference; those of one unit are not independent.
    :param level: probability that the mean lies below the lower bound, and that it lies above the upper one.
    """
    return bounds_of(*kinds_of(differences, units), level)


def bounds_of(sums: Array, sizes: Array, counts: Array, level: float, draws: int = DRAWS) -> Difference:
    """Return the same as :func:`bounds`, from kinds of units."""
    total, weight, added = drawn(Kinds(sums, sizes, counts), np.random.default_rng(SEED), draws)
    low = np.quantile((total - added) / (weight + added), level)
    high = np.quantile((total + added) / (weight + added), 1 - level)
    return Difference(float(counts @ sums / (counts @ sizes)), float(low), float(high))


def drawn(kinds: Kinds, generator: np.random.Generator, draws: int) -> tuple[Array, Array, Array]:
    """Draw samples of a Bayesian bootstrap: sum and number of the values of each, and the weight of the additional unit."""
    sums, sizes, counts = kinds
    weights, totals, added = [], [], []
    size = float(counts @ sizes / counts.sum())
    at_once = max(1, DRAWN_AT_ONCE // len(counts))
    for start in range(0, draws, at_once):
        number = min(at_once, draws - start)
        # The weights of units of a kind add up: Dirichlet weights are gamma variables over their sum.
        of_kinds, other = generator.standard_gamma(counts, (number, len(counts))), generator.standard_gamma(1, number)
        totals.append(of_kinds @ sums)
        weights.append(of_kinds @ sizes)
        added.append(other * size)
    total, weight, of_other = map(np.concatenate, (totals, weights, added))
    return total, weight, of_other


def levels_of_looks(level: float, shares: Sequence[float], spent: Sequence[float] | None = None) -> list[float]:
    """Return the level of the bound at each look, so that any of them errs with the probability `level` at most.

    :param shares: share of all rows that are available at each look, ascending up to 1.
    :param spent: share of the level that is spent by each look; None: the square of its share of the rows.
    """
    # The sum over rows is a Brownian motion in their share; `density` is that of paths that have not crossed a boundary.
    width = 8.0
    grid = np.linspace(-width, width, 2 * STEPS + 1)
    step = grid[1] - grid[0]
    density = norm.pdf(grid, scale=np.sqrt(shares[0]))
    found, before = [], 0.0
    for place, (share, by_now) in enumerate(zip(shares, spent or [share**2 for share in shares], strict=True)):
        above = np.cumsum(density[::-1])[::-1] * step
        spending, before = level * (by_now - before), by_now
        boundary = np.interp(-spending, -above, grid) - step / 2
        found.append(float(norm.sf(boundary / np.sqrt(share))))
        if place + 1 < len(shares):
            kept = np.where(grid < boundary, density, 0)
            density = np.convolve(kept, norm.pdf(grid, scale=np.sqrt(shares[place + 1] - share)) * step, "same")
    return found


def ended(difference: Difference, margin: float) -> Literal["no worse", "worse"] | None:
    """Return the result of a look: the whole interval is above -`margin` ("no worse"), or below; None: neither."""
    if difference.low > -margin:
        return "no worse"
    return "worse" if difference.high < -margin else None
