"""Numbers as histograms whose cells depend on no data: any two of them can be added, and compared, without loss.

A number's cell is its float32 form rounded to 11 bits of mantissa, read as an integer that keeps the order of the
numbers: 2,048 cells in each power of two, so a cell's value is within 1/4096 of every number in it, and integers up to
4,096, 0 and 1 are exact. (The idea of log-linear cells: HdrHistogram; Masson, Rim and Lee, "DDSketch", VLDB 2019.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Counts: TypeAlias = NDArray[np.int64]
Cells: TypeAlias = NDArray[np.int32]

_SIGN = 1 << 19  # of the 20 bits that are kept: sign, exponent (8), mantissa (11)
_DENSE = 32  # array elements per key up to which counting into an array beats sorting (measured)
_LARGEST = 0x7F7FF  # the largest finite cell; what rounds to infinity counts as infinite


@dataclass(frozen=True)
class Numbers:
    """A histogram of one numeric column: `cells` ascending, as many `counts`, all above 0; `missing` were no numbers."""

    cells: Cells
    counts: Counts
    missing: int = 0

    @property
    def rows(self) -> int:
        """Rows with a number."""
        return int(self.counts.sum())

    @property
    def values(self) -> Floats:
        """Value of each cell, ascending."""
        return centres(self.cells)

    @property
    def mean(self) -> float:
        """Mean of the numbers; there must be some."""
        return float(self.values @ self.counts.astype(np.float64) / self.rows)

    @property
    def deviation(self) -> float:
        """Standard deviation of the numbers, with n in the denominator (as numpy's `std`); there must be some."""
        distances = self.values - self.mean
        return float(np.sqrt(distances**2 @ self.counts.astype(np.float64) / self.rows))

    def quantile(self, share: float) -> float:
        """Return the smallest value that at least `share` of the numbers do not exceed; there must be some."""
        reached = int(np.searchsorted(np.cumsum(self.counts), share * self.rows - 1e-9))
        return float(self.values[min(reached, len(self.cells) - 1)])


def raw_cells(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Return the upper 20 bits of float32 numbers, rounded to nearest: what :func:`from_raw` puts in order."""
    missing = np.isnan(values)
    if missing.any():  # there are many NaN; one of them would round to a zero
        values = np.where(missing, np.float32(np.nan), values)
    raw = values.view(np.uint32) + np.uint32(1 << 11)
    raw >>= np.uint32(12)
    return raw


def from_raw(raw: NDArray[np.int64], counts: Counts) -> Numbers:
    """Return the histogram of raw cells in any order; NaN and infinities count as missing."""
    magnitude = raw & (_SIGN - 1)
    finite = magnitude <= _LARGEST
    cells = np.where(raw >= _SIGN, -magnitude, magnitude)[finite]
    found, total = tally(cells, counts[finite])
    return Numbers(found.astype(np.int32), total, int(counts[~finite].sum()))


def centres(cells: Cells) -> Floats:
    """Return the value of each cell: the float32 in its middle, exact for integers up to 4,096."""
    magnitude = (np.abs(cells).astype(np.uint32) << np.uint32(12)).view(np.float32).astype(np.float64)
    return np.where(cells < 0, -magnitude, magnitude)


def tally(keys: NDArray[np.integer], counts: Counts | None = None) -> tuple[NDArray[np.int64], Counts]:
    """Return the distinct `keys`, ascending, and how often each occurs, or the sum of its `counts`; sums of 0 are left out.

    Counting into a dense array is many times quicker than sorting, unless the keys lie far apart.
    """
    if not len(keys):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    lowest, highest = int(keys.min()), int(keys.max())
    # Sums of counts are exact in float64 up to 2**53 rows.
    if highest - lowest > _DENSE * len(keys):
        distinct, places = np.unique(keys, return_inverse=True)
        totals = np.bincount(places, weights=counts)
        kept = np.flatnonzero(totals)
        return distinct[kept].astype(np.int64), totals[kept].astype(np.int64)
    totals = np.bincount(keys - keys.dtype.type(lowest), weights=counts)
    kept = np.flatnonzero(totals)
    return kept + lowest, totals[kept].astype(np.int64)


def histogram(values: NDArray[np.floating] | NDArray[np.integer]) -> Numbers:
    """Return the histogram of a one-dimensional array; NaN and infinities count as missing."""
    return from_raw(*tally(raw_cells(np.ascontiguousarray(values, dtype=np.float32))))


def sum_of(histograms: list[Numbers]) -> Numbers:
    """Return the histogram of all rows of `histograms` together."""
    if not histograms:
        return Numbers(np.empty(0, np.int32), np.empty(0, np.int64))
    cells, counts = tally(
        np.concatenate([one.cells for one in histograms]), np.concatenate([one.counts for one in histograms])
    )
    return Numbers(cells.astype(np.int32), counts, sum(one.missing for one in histograms))
