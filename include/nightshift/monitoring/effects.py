"""How far two distributions are apart, in units that mean the same for every metric and any number of rows.

Numbers: the Wasserstein-1 distance, the area between the two cumulative distributions, in standard deviations of the
reference (Evidently's "Wasserstein distance (normed)"); a shift of the mean by 0.2 standard deviations gives 0.2.
Categories: the Jensen-Shannon distance, base 2, from 0 (the same) to 1 (nothing in common): J. Lin, "Divergence measures
based on the Shannon entropy", IEEE Transactions on Information Theory 37 (1991), and D. M. Endres and J. E. Schindelin,
IEEE Transactions on Information Theory 49 (2003), for its square root being a distance.
Embeddings: the sliced Wasserstein distance, the mean over directions of the distance along each (Rabin, Peyré, Delon
and Bernot, "Wasserstein barycenter and its application to texture mixing", SSVM 2011).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nightshift.monitoring.cells import Counts, Floats, Numbers, centres, tally
from nightshift.monitoring.counting import Categories
from nightshift.settings.metrics import Metric

SMALLEST_DEVIATION_TO_MEAN = 0.01
# What the same prompt gives differs by some 1e-7 with the batch that it is embedded in. Where all prompts are of a few fixed
# texts, that is all the deviation there is; a thousandth of this is none of an effect.
SMALLEST_OF_EMBEDDINGS = 1e-4
_EMBEDDED = frozenset({Metric.PROMPT_NOVELTY, Metric.PROMPT_EMBEDDING})
_TINY = 1e-9


def unit(metric: Metric, reference: Numbers) -> float:
    """Return what the distance of a metric is divided by: the reference's standard deviation, kept off zero."""
    if metric.smallest_deviation:
        return max(reference.deviation, metric.smallest_deviation)
    least = SMALLEST_OF_EMBEDDINGS if metric in _EMBEDDED else _TINY
    return max(reference.deviation, SMALLEST_DEVIATION_TO_MEAN * abs(reference.mean), least)


def side_by_side(current: Numbers, reference: Numbers) -> tuple[Floats, Counts]:
    """Return the values that occur in either, ascending (k), and the counts of interval and reference (2 x k)."""
    cells, _ = tally(np.concatenate([current.cells, reference.cells]))
    counts = np.zeros((2, len(cells)), np.int64)
    for row, one in enumerate((current, reference)):
        counts[row, np.searchsorted(cells, one.cells)] = one.counts
    return centres(cells.astype(np.int32)), counts


def named_side_by_side(current: Categories, reference: Categories) -> tuple[list[str], Counts]:
    """Return the categories that occur in either, ascending (k), and the counts of interval and reference (2 x k)."""
    names = sorted({*current.counts, *reference.counts})
    return names, np.array([[one.counts.get(name, 0) for name in names] for one in (current, reference)], np.int64)


def wasserstein(values: Floats, current: NDArray[np.number], reference: NDArray[np.number]) -> Floats:
    """Return the Wasserstein-1 distance between counts over the same ascending values (k).

    :param current: counts, k, or draws x k; likewise `reference`.
    :return: one distance for each draw, in the unit of `values`.
    """
    difference = _shares(current).cumsum(axis=-1) - _shares(reference).cumsum(axis=-1)
    return np.asarray(np.abs(difference[..., :-1]) @ np.diff(values))


def jensen_shannon(current: NDArray[np.number], reference: NDArray[np.number]) -> Floats:
    """Return the Jensen-Shannon distance (base 2) between counts over the same categories.

    :param current: counts, k, or draws x k; likewise `reference`.
    :return: one distance for each draw, 0 to 1.
    """
    one, other = _shares(current), _shares(reference)
    # Entropy of the mean less the mean entropy; rounding may leave it a little below 0.
    divergence = _entropy((one + other) / 2) - (_entropy(one) + _entropy(other)) / 2
    return np.sqrt(np.clip(divergence, 0, 1))


def _shares(counts: NDArray[np.number]) -> Floats:
    return counts / counts.sum(axis=-1, keepdims=True)


def _entropy(shares: Floats) -> Floats:
    """Return the entropy in bits over the last axis."""
    return -np.sum(shares * np.log2(shares, out=np.zeros_like(shares), where=shares > 0), axis=-1)
